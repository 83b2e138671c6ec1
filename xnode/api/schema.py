"""Answers' shapes in JSON Schema, in a few words each; a test holds every real answer against its shape."""

from typing import Any

Schema = dict[str, Any]

INTEGER: Schema = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
NUMBER: Schema = {"type": "integer"}
TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
HEX32: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
HEX64: Schema = {"type": "string", "pattern": "^[0-9a-f]{128}$"}
OBJECT: Schema = {"type": "object"}
MAYBE_INTEGER: Schema = {"type": ["integer", "null"]}


def record(**properties: Schema) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listing(item: Schema) -> Schema:
    """An array of items of one shape."""
    return {"type": "array", "items": item}


def word(*choices: str) -> Schema:
    """One of a fixed list of words."""
    return {"type": "string", "enum": list(choices)}


AMOUNT: Schema = {"type": "integer", "minimum": 0}  # a sum of amounts may leave 64 bits
AMOUNTS = record(XUSD=INTEGER, XE=INTEGER)
ERROR: Schema = {
    "type": "object",
    "properties": {"error": TEXT, "code": TEXT, "retryable": BOOLEAN},
    "required": ["error", "code"],
    "additionalProperties": False,
}
