"""The node's HTTP API as the command line calls it: JSON in and out, refusals as one sentence."""

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

import click
import httpx

READ_TIMEOUT_S: Final = 40.0  # longer than the node takes at most, so that its reason comes through
ANSWER_MARGIN_S: Final = 40.0  # the same, beyond the time that a call itself gives the node
LIST_LIMIT: Final = 1000  # the most entries that the API gives in one answer


class ApiRefusal(click.ClickException):
    """The node's no: `code` is the API's stable word, `status` the HTTP status."""

    def __init__(self, status: int, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = retryable


class ApiClient:
    """Calls one node; raises ApiRefusal for its refusals, click.ClickException where nobody answers."""

    def __init__(self, url: str, token: str | None = None, unreachable_hint: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._hint = unreachable_hint
        # trust_env off: a proxy of the environment has nothing to do with one's own node.
        # Without TLS no certificates are loaded: that takes longer than most calls.
        is_tls = url.startswith("https:")
        self._http = httpx.Client(base_url=url, headers=headers, timeout=READ_TIMEOUT_S, trust_env=False, verify=is_tls)

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The parsed answer of a GET."""
        return self._call("GET", path, params={key: value for key, value in query.items() if value is not None})

    def pages(self, path: str, pages_max: int, **query: Any) -> Iterator[Any]:
        """The entries of a list, page after page, `pages_max` pages at most; raises as `get` does."""
        for _ in range(pages_max):
            answer = self._send("GET", path, params=query)
            if not answer.is_success:
                raise _refusal(answer)
            yield from _json(answer)
            cursor = answer.headers.get("X-Next-Cursor")
            if not cursor:
                return
            query["cursor"] = cursor

    def find(self, path: str, **query: Any) -> Any:
        """The same, or None where the node answers 404."""
        try:
            return self.get(path, **query)
        except ApiRefusal as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def post(self, path: str, body: dict[str, Any], timeout_s: float = READ_TIMEOUT_S, **headers: str) -> Any:
        """The parsed answer of a POST; `headers` are given with _ for -."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self._call("POST", path, json=body, timeout=timeout_s, headers=named)

    def status_of(self, path: str) -> tuple[int, Any]:
        """The status and answer of a GET that may be a refusal in itself, such as /ready."""
        answer = self._send("GET", path)
        return answer.status_code, _json(answer)

    def lines(self, path: str) -> Iterator[str]:
        """The lines of an endless answer, such as server-sent events, until the node ends it or goes away."""
        timeout = httpx.Timeout(READ_TIMEOUT_S, read=None)
        with contextlib.suppress(httpx.HTTPError), self._http.stream("GET", path, timeout=timeout) as answer:
            if answer.is_success:
                yield from answer.iter_lines()

    def pieces(self, path: str, **query: Any) -> Iterator[bytes]:
        """The bytes of an answer as they come, also of an endless one; raises as `get` does, before the first."""
        timeout = httpx.Timeout(READ_TIMEOUT_S, read=None)
        try:
            with self._http.stream("GET", path, params=query, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refusal(answer)
                yield from answer.iter_raw()
        except httpx.ConnectError as error:
            raise self._unreachable() from error
        except httpx.HTTPError as error:
            raise click.ClickException(f"the connection to {self.url} broke ({error}); see the node's log") from error

    def _unreachable(self) -> click.ClickException:
        return click.ClickException(f"nobody answers at {self.url}; {self._hint or 'is the node running?'}")

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._send(method, path, **options)
        if answer.is_success:
            return _json(answer)
        raise _refusal(answer)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.ConnectError as error:
            raise self._unreachable() from error
        except httpx.TimeoutException as error:
            raise click.ClickException(f"{self.url} did not answer in time; see its log") from error
        except httpx.HTTPError as error:
            raise click.ClickException(f"the connection to {self.url} broke ({error}); see the node's log") from error


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise click.ClickException(f"{answer.url} did not answer with JSON; is it an xnode API?") from error


def _refusal(answer: httpx.Response) -> ApiRefusal:
    try:
        document = answer.json()
        message, code = str(document["error"]), str(document["code"])
        return ApiRefusal(answer.status_code, code, message, retryable=bool(document.get("retryable", False)))
    except (ValueError, KeyError, TypeError):
        return ApiRefusal(answer.status_code, "unknown", f"{answer.url} answered status {answer.status_code}")
