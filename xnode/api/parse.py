"""What callers send, parsed once by a table of fields; whatever leaves here is typed and within its range.

The same table is rendered as the schema in /openapi.json, so the two can't differ. Hexadecimal may be in either case.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from starlette.requests import Request

from xnode.api.errors import HttpFault
from xnode.api.settings import BODY_SECONDS, LIST_DEFAULT, LIST_MAX
from xnode.core.faults import CallerFault, NotFound
from xnode.core.values import Address, Hash, address_from_hex, hash_from_hex, public_key_from_hex

NAME_SHOWN_MAX: Final = 64  # characters of an unknown field's name, in the error about it
INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,20}")


class Field(NamedTuple):
    """One field of a body or a query.

    `kind` is integer, number, text, hash, address or key; `low` and `high` bound a number, or the length of a text.
    """

    name: str
    kind: str
    about: str
    required: bool = True
    default: Any = None
    low: float = 0
    high: float = 2**64 - 1
    choices: tuple[str, ...] = ()


def optional(name: str, kind: str, about: str, default: Any = None, **more: Any) -> Field:
    """A field that may be left out."""
    return Field(name, kind, about, required=False, default=default, **more)


LIMIT: Final = optional("limit", "integer", "how many at most", LIST_DEFAULT, low=1, high=LIST_MAX)
CURSOR: Final = optional("cursor", "text", "the X-Next-Cursor of the page before", low=1, high=256)


def _bad(field: Field, must: str) -> NoReturn:
    raise CallerFault("bad_field", f"{field.name} must be {must}: {field.about}")


def _range(field: Field, value: float) -> None:
    if not field.low <= value <= field.high:
        _bad(field, f"from {field.low:.15g} to {field.high:.20g}")


def _integer(field: Field, value: object) -> int:
    if type(value) is not int:
        _bad(field, "an integer")
    _range(field, value)
    return value


def _number(field: Field, value: object) -> float:
    if type(value) is not int and type(value) is not float:
        _bad(field, "a number")
    _range(field, value)
    return float(value)


def _text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        _bad(field, "text")
    if not field.low <= len(value) <= field.high:
        _bad(field, f"of {field.low:g} to {field.high:g} characters")
    if not _is_unicode(value) or "\0" in value:
        _bad(field, "text without zero or half characters")
    if field.choices and value not in field.choices:
        _bad(field, "one of " + ", ".join(field.choices))
    return value


def _is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON can name half characters, which nothing after us takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


KINDS: Final[dict[str, Callable[[Field, object], Any]]] = {
    "integer": _integer,
    "number": _number,
    "text": _text,
    "hash": lambda field, value: hash_from_hex(_lower(value), field.name),
    "address": lambda field, value: address_from_hex(_lower(value), field.name),
    "key": lambda field, value: public_key_from_hex(_lower(value), field.name),
}


def parse_fields(document: Mapping[str, object], fields: tuple[Field, ...], where: str) -> dict[str, Any]:
    """Every field's value by name; raises CallerFault: unknown_field, missing_field, bad_field, bad_hex."""
    known = [field.name for field in fields]
    for name in document:
        if name not in known:
            shown = ascii(name[:NAME_SHOWN_MAX])  # it is the caller's own word
            text = f"this {where} has the unknown field {shown}; it takes {', '.join(known) or 'none'}"
            raise CallerFault("unknown_field", text)
    return {field.name: _field(document, field) for field in fields}


def _field(document: Mapping[str, object], field: Field) -> Any:
    if field.name in document:
        return KINDS[field.kind](field, document[field.name])
    if field.required:
        raise CallerFault("missing_field", f"{field.name} is missing: {field.about}")
    return field.default


def parse_query(request: Request, fields: tuple[Field, ...]) -> dict[str, Any]:
    """The query's values by name; a field given twice is refused."""
    given: dict[str, object] = {}
    numbers = {field.name for field in fields if field.kind == "integer"}
    for name, text in request.query_params.multi_items():
        if name in given:
            raise CallerFault("bad_field", "give each field of the query once")
        given[name] = int(text) if name in numbers and INTEGER_TEXT.fullmatch(text) else text
    return parse_fields(given, fields, "query")


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body; raises HttpFault 413 when it is too large, 408 when it does not come."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                check_size(len(body), bytes_max)
    except TimeoutError:
        raise HttpFault(408, "too_slow", "the body did not come; send it again", {"Connection": "close"}) from None
    return bytes(body)


def check_size(count: int, bytes_max: int) -> None:
    """Raises HttpFault 413 when a body has too many bytes."""
    if count > bytes_max:
        raise HttpFault(413, "too_large", f"a body may have {bytes_max} bytes; send less")


def parse_json_object(body: bytes) -> dict[str, Any]:
    """A JSON object, strictly: UTF-8, no field twice, no NaN. Raises CallerFault(bad_json)."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "not strict JSON in UTF-8"
        raise CallerFault("bad_json", f"the body must be one JSON object ({reason})") from None
    if not isinstance(document, dict):
        raise CallerFault("bad_json", "the body must be one JSON object, in braces")
    return document


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field stands there twice")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def path_hash(request: Request, what: str) -> Hash:
    """The {hash} of the path; what is no hash can't be known here: NotFound."""
    return Hash(_path_bytes(request.path_params["hash"], what))


def path_address(request: Request) -> Address:
    """The {address} of the path, or NotFound."""
    return Address(_path_bytes(request.path_params["address"], "account"))


def _path_bytes(text: str, what: str) -> bytes:
    try:
        return hash_from_hex(text.lower())
    except CallerFault:
        raise NotFound(f"{what}_unknown", f"{what} not found: its name is 64 hexadecimal characters") from None
