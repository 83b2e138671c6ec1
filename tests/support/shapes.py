"""As much of JSON Schema as the API's own documentation uses."""

import re
from collections.abc import Mapping
from typing import Any

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def mismatch(value: Any, schema: Mapping[str, Any], where: str = "$") -> str | None:
    """Where and how `value` breaks the schema, or None."""
    if "anyOf" in schema:
        found = [mismatch(value, choice, where) for choice in schema["anyOf"]]
        return None if None in found else "; ".join(str(item) for item in found)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    is_bool = isinstance(value, bool)
    if kinds and not any(isinstance(value, TYPES[kind]) and (is_bool == (kind == "boolean")) for kind in kinds):
        return f"{where}: {value!r} is not of type {kinds}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, str):
        return None if re.search(schema.get("pattern", ""), value) else f"{where}: {value!r} breaks the pattern"
    if isinstance(value, int) and not is_bool:
        fits = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        return None if fits else f"{where}: {value} is out of range"
    if isinstance(value, list):
        found = [mismatch(item, schema.get("items", {}), f"{where}[{at}]") for at, item in enumerate(value)]
        return next((item for item in found if item), None)
    return _object_mismatch(value, schema, where) if isinstance(value, dict) else None


def _object_mismatch(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> str | None:
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    missing = set(schema.get("required", ())) - set(value)
    if missing:
        return f"{where}: {sorted(missing)} is missing"
    for name, item in value.items():
        if name not in properties and rest is False:
            return f"{where}: {name} is not described"
        inner = properties.get(name, rest if isinstance(rest, dict) else {})
        found = mismatch(item, inner, f"{where}.{name}")
        if found:
            return found
    return None
