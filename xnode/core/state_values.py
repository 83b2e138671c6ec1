"""The keys and values of the state chain (protocol section 9): canonical JSON text, and what `sys.*` may hold.

A value is stored as the one JSON text that its content has: keys sorted by code point, no spaces, no key twice,
integers from -2^63 to 2^64 - 1 and no other numbers (programs write floats differently). So equal maps are equal bytes.
A key under `sys.` that this program does not know is refused: a node that could not obey it would judge otherwise than
those who do.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from xnode.core.attestations import ATTESTATIONS_MAX, Timekeepers
from xnode.core.charter import Charter
from xnode.core.faults import CallerFault
from xnode.core.genesis import KEYS_MAX
from xnode.core.keys import is_valid_point
from xnode.core.keyset import Keyset, keyset_flaw, keyset_to_json
from xnode.core.price import Rates
from xnode.core.values import U64_MAX, PublicKey, public_key_from_hex

KEY: Final = re.compile(r"[a-z0-9_.-]{1,128}")
VALUE_BYTES_MAX: Final = 64 * 1024
VALUE_DEPTH_MAX: Final = 16
INTEGER_MIN: Final = -(2**63)
SYSTEM_PREFIX: Final = "sys."
DAO_KEYSET: Final = "sys.dao_keyset"
TIMEKEEPERS: Final = "sys.timekeepers"
RATES: Final = "sys.rates"
SYSTEM_KEYS: Final = (DAO_KEYSET, TIMEKEEPERS, RATES)


class BadValue(CallerFault):
    """A value or a `sys.*` record that can't be."""

    def __init__(self, message: str, code: str = "bad_value") -> None:
        super().__init__(code, message)


def render_value(value: object) -> str:
    """The canonical text of a JSON value; raises BadValue."""
    _check(value, VALUE_DEPTH_MAX)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    if _byte_count(text) > VALUE_BYTES_MAX:
        raise BadValue(f"a value has {VALUE_BYTES_MAX} bytes of JSON at most")
    return text


def parse_value(text: str) -> Any:
    """The value of a JSON text in any form, strictly; raises BadValue."""
    try:
        value = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant, parse_float=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "too many digits, or too deep"
        raise BadValue(f"the value is no JSON: {reason}") from error
    _check(value, VALUE_DEPTH_MAX)
    return value


def read_value(text: str) -> Any:
    """The value of a canonical text; raises BadValue for any other text of the same value."""
    if _byte_count(text) > VALUE_BYTES_MAX:
        raise BadValue(f"a value has {VALUE_BYTES_MAX} bytes of JSON at most")
    value = parse_value(text)
    if render_value(value) != text:
        raise BadValue("the value is not in canonical form: sorted keys, no spaces")
    return value


def _byte_count(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise BadValue("the value has half a character") from error


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise BadValue("a key stands there twice")
    return document


def _no_constant(text: str) -> NoReturn:
    raise BadValue(f"{text[:20]} is no integer")


def _check(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise BadValue(f"the value is deeper than {VALUE_DEPTH_MAX}")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise BadValue("a key must be text")
    elif type(value) is int:
        if not INTEGER_MIN <= value <= U64_MAX:
            raise BadValue("an integer must be from -2^63 to 2^64 - 1")
    elif value is not None and not isinstance(value, bool | str):
        raise BadValue(
            f"a {type(value).__name__} is no value of ours: integers, text, true, false, null, lists, objects"
        )


def _fields(value: object, names: tuple[str, ...], code: str) -> list[Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise BadValue(f"must be an object of {', '.join(names)}", code)
    return [value[name] for name in names]


def _read_keys(value: object, code: str) -> tuple[tuple[PublicKey, ...], int]:
    keys, threshold = _fields(value, ("keys", "threshold"), code)
    if not isinstance(keys, list) or not 0 < len(keys) <= KEYS_MAX:
        raise BadValue(f"keys must be a list of 1 to {KEYS_MAX}", code)
    try:
        parsed = tuple(public_key_from_hex(key) for key in keys)
    except CallerFault as fault:
        raise BadValue(str(fault), code) from fault
    if len(set(parsed)) != len(parsed):
        raise BadValue("a key stands there twice", code)
    if not all(is_valid_point(key) for key in parsed):
        raise BadValue("a key is not a point of the curve", code)
    if type(threshold) is not int or not 0 < threshold <= len(parsed):
        raise BadValue("the threshold must be from 1 to the number of keys", code)
    return parsed, threshold


def read_dao_keyset(value: object) -> Keyset:
    """`sys.dao_keyset`, its keys in ascending order; raises BadValue(bad_keyset)."""
    keyset = Keyset(*_read_keys(value, "bad_keyset"))
    flaw = keyset_flaw(keyset, KEYS_MAX)
    if flaw:
        raise BadValue(flaw, "bad_keyset")
    if len(keyset.keys) > 1 and keyset.threshold < 2:
        raise BadValue("with two keys or more the threshold must be at least 2", "bad_keyset")
    return keyset


def read_timekeepers(value: object) -> Timekeepers:
    """`sys.timekeepers`; raises BadValue(bad_timekeepers)."""
    timekeepers = Timekeepers(*_read_keys(value, "bad_timekeepers"))
    if timekeepers.threshold > ATTESTATIONS_MAX:
        raise BadValue(
            f"a block holds {ATTESTATIONS_MAX} attestations, so no threshold may be above", "bad_timekeepers"
        )
    return timekeepers


def read_rates(value: object) -> Rates:
    """`sys.rates`, milli-XUSD an hour; raises BadValue(bad_rates)."""
    rates = _fields(value, Rates._fields, "bad_rates")
    if not all(type(rate) is int and 0 <= rate <= U64_MAX for rate in rates):
        raise BadValue("each rate must be an integer from 0 to 2^64 - 1", "bad_rates")
    return Rates(*rates)


def with_value(charter: Charter, key: str, value: object) -> Charter:
    """The charter after a `sys.*` key was set; raises BadValue: unknown_system_key, or what is wrong with the value."""
    setters: dict[str, Callable[[object], Charter]] = {
        DAO_KEYSET: lambda item: charter._replace(dao=read_dao_keyset(item)),
        TIMEKEEPERS: lambda item: charter._replace(timekeepers=read_timekeepers(item)),
        RATES: lambda item: charter._replace(rates=read_rates(item)),
    }
    if key not in setters:
        raise BadValue(f"{key}: the keys under {SYSTEM_PREFIX} are {', '.join(SYSTEM_KEYS)}", "unknown_system_key")
    try:
        return setters[key](value)
    except BadValue as fault:
        raise BadValue(f"{key}: {fault}", fault.code) from fault


def charter_values(charter: Charter) -> dict[str, object]:
    """Its values by key, as JSON."""
    return {
        DAO_KEYSET: keyset_to_json(charter.dao),
        TIMEKEEPERS: keyset_to_json(Keyset(*charter.timekeepers)),
        RATES: charter.rates._asdict(),
    }
