"""Fetching a file by HTTP: streamed, within limits, going on where an earlier attempt stopped.

What arrives is worth nothing until its checksum is known to be right; that is the caller's part.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from xnode.core.faults import OperatorFault
from xnode.vm.limits import DISK_RESERVE_BYTES

FILE_BYTES_MAX: Final = 32 << 30
TEXT_BYTES_MAX: Final = 1 << 20
CONNECT_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 60.0  # without a byte
REDIRECTS_MAX: Final = 5
ATTEMPTS_MAX: Final = 8  # connections for one file, each of which must have brought something

Report = Callable[[int, int], None]  # bytes so far, bytes in all (0 where the server does not say)


class _Cut(Exception):
    """The connection ended early; the next attempt may go on."""


def open_client() -> httpx.Client:
    """A client for both functions; it obeys the proxy and SSL_CERT_FILE of the environment."""
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    # Compressed on the way, a disk could not be gone on with.
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=REDIRECTS_MAX, headers=headers)


def fetch_text(client: httpx.Client, url: str) -> str:
    """A small file, by TLS all the way; raises OperatorFault(download_failed)."""
    body = bytearray()
    try:
        with client.stream("GET", url) as response:
            _check_status(response, (httpx.codes.OK,))
            if any(hop.url.scheme != "https" for hop in (*response.history, response)):
                raise _failed(url, "it is not served by TLS")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > TEXT_BYTES_MAX:
                    raise _failed(url, f"it has more than {TEXT_BYTES_MAX} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failed(url, _words(error)) from error
    return body.decode(errors="replace")


def fetch_file(client: httpx.Client, url: str, partial: Path, report: Report) -> None:
    """All of a file into `partial`, which may hold the beginning; raises OperatorFault(download_failed, disk_full).

    After download_failed `partial` keeps what came, so that the next call goes on there.
    """
    for _ in range(ATTEMPTS_MAX):
        before = _size(partial)
        try:
            _attempt(client, url, partial, report)
            return
        except (httpx.HTTPError, httpx.InvalidURL, _Cut) as error:
            if _size(partial) <= before and not isinstance(error, _Cut):
                raise _failed(url, _words(error)) from error
    raise _failed(url, f"the connection ended early {ATTEMPTS_MAX} times; run it again to go on")


def _attempt(client: httpx.Client, url: str, partial: Path, report: Report) -> None:
    have = _size(partial)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:  # what is here is not of this file
            os.truncate(partial, 0)
            raise _Cut
        _check_status(response, (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT))
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else 0
        _check_room(url, partial, total, have)
        _receive(response, partial, have, total, report)


def _receive(response: httpx.Response, partial: Path, have: int, total: int, report: Report) -> None:
    url = str(response.request.url)
    try:
        with partial.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            for chunk in response.iter_raw():
                file.write(chunk)
                have += len(chunk)
                if have > FILE_BYTES_MAX:
                    raise _failed(url, f"it has more than {FILE_BYTES_MAX} bytes")
                report(have, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        os.truncate(partial, 0)  # on a full disk it would keep others from writing
        message = f"{partial.parent} can't be written to ({error.strerror}): free some"
        raise OperatorFault("disk_full", message) from error


def _check_room(url: str, partial: Path, total: int, have: int) -> None:
    if total > FILE_BYTES_MAX:
        raise _failed(url, f"it has {total} bytes, which is more than {FILE_BYTES_MAX}")
    free = shutil.disk_usage(partial.parent).free
    if total - have + DISK_RESERVE_BYTES > free:
        message = f"{url} has {total >> 20} MiB, but {partial.parent} has {free >> 20} MiB free: free some"
        raise OperatorFault("disk_full", message)


def _check_status(response: httpx.Response, good: tuple[int, ...]) -> None:
    if response.status_code not in good:
        raise _failed(str(response.request.url), f"the server answered {response.status_code}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _words(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"the server can't be reached from this host ({error or type(error).__name__})"
    return f"{type(error).__name__}: {error}"


def _failed(url: str, why: str) -> OperatorFault:
    return OperatorFault("download_failed", f"{url} could not be fetched: {why}")
