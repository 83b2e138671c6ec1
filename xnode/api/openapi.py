"""GET /openapi.json and /docs, both made from the same table as the routes."""

import re
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import HTMLResponse

from xnode import __version__
from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import Field
from xnode.api.schema import ERROR, HEX32, INTEGER, OBJECT, TEXT
from xnode.core.state_values import KEY

ALWAYS: Final = (403, 429, 500)
PARAMETER: Final = re.compile(r"\{(\w+)\}")
ANY_CASE_HEX32: Final = HEX32 | {"pattern": "^[0-9a-fA-F]{64}$"}
PATH_SCHEMAS: Final = {"index": INTEGER, "key": TEXT | {"pattern": f"^{KEY.pattern}$"}}  # all others are 32 bytes
PAGE_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { background: #8882; padding: .1em .3em; border-radius: .2em; }
table { border-collapse: collapse; margin: .5rem 0 1rem; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; }
h2 { font-size: 1.1rem; margin-top: 2rem; border-top: 1px solid #8885; padding-top: 1rem; }
"""


def field_schema(field: Field) -> dict[str, Any]:
    """The JSON schema of what `parse` takes for this field."""
    if field.kind in ("hash", "address", "key"):
        schema: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
    elif field.kind == "text":
        schema = {"type": "string", "minLength": int(field.low), "maxLength": int(min(field.high, 2**31))}
    else:
        schema = {"type": field.kind, "minimum": field.low, "maximum": field.high}
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.default is not None:
        schema["default"] = field.default
    return schema | {"description": field.about}


def _parameters(call: Call) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": PATH_SCHEMAS.get(name, ANY_CASE_HEX32)}
        for name in PARAMETER.findall(call.path)
    ]
    fields = [("query", field) for field in call.query] + [("header", field) for field in call.headers]
    return in_path + [
        {"name": field.name, "in": place, "required": field.required, "schema": field_schema(field)}
        for place, field in fields
    ]


def _body_schema(call: Call) -> dict[str, Any] | None:
    if call.body is None or not isinstance(call.body, tuple):
        return None if call.body is None else dict(call.body)
    return {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in call.body},
        "required": [field.name for field in call.body if field.required],
        "additionalProperties": False,
    }


def _always(call: Call) -> set[int]:
    """The statuses that its row need not name."""
    reads_body = {400, 408, 413, 415} if call.body is not None else {400, 413}
    return {*ALWAYS, *reads_body}


def _answers(call: Call) -> dict[str, Any]:
    good = {"description": "OK", "content": {call.content_type: {"schema": call.answer}}}
    answers: dict[str, Any] = {"200": good}
    for status in sorted({*call.statuses, *_always(call)}):
        answers[str(status)] = {"description": HTTPStatus(status).phrase}
        if status >= 400:
            answers[str(status)]["content"] = {"application/json": {"schema": _error_schema(call, status)}}
    return answers


def _error_schema(call: Call, status: int) -> Any:
    """/ready answers 503 in its own shape; everything else in the one error shape."""
    reference = {"$ref": "#/components/schemas/Error"}
    return {"anyOf": [call.answer, reference]} if call.path == "/ready" and status == 503 else reference


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": call.summary, "parameters": _parameters(call), "responses": _answers(call)}
    body = _body_schema(call)
    if body is not None:
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": bool(body.get("required")), "content": content}
    if call.acting or call.signed:
        operation["security"] = [{"token": []}, {}] if call.signed else [{"token": []}]
    return operation


def openapi(calls: Sequence[Call]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "xnode", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(call: Call) -> str:
    fields = (*call.query, *call.headers, *(call.body if isinstance(call.body, tuple) else ()))
    rows = "".join(
        _row(
            f"<code>{escape(field.name)}</code>", field.kind, "" if field.required else "optional", escape(field.about)
        )
        for field in fields
    )
    proof = ", or a signature by the lease's key" if call.signed else ""
    note = f"<p>Needs the operator's token where one exists{proof}.</p>" if call.acting or call.signed else ""
    table = f"<table>{rows}</table>" if rows else ""
    codes = ", ".join(str(status) for status in (200, *sorted({*call.statuses, *_always(call)})))
    title = f"<h2><code>{call.method} {escape(call.path)}</code></h2><p>{escape(call.summary)}</p>"
    return f"{title}{note}{table}<p>Status: {codes}</p>"


def docs_page(calls: Sequence[Call]) -> str:
    """The same for people; no asset is fetched from anywhere."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>xnode API</title><style>{STYLE}</style>'
    intro = '<h1>xnode API</h1><p>For programs: <a href="/openapi.json">/openapi.json</a>. Errors are '
    shape = '<code>{"error": "...", "code": "...", "retryable": true}</code>.</p>'
    return head + intro + shape + "".join(_section(call) for call in calls) + "</html>"


def documented(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls, and those that document them, themselves included."""

    async def get_openapi(api: Api, asked: Asked) -> dict[str, Any]:  # noqa: ARG001 every handler has one shape
        return document

    async def get_docs(api: Api, asked: Asked) -> HTMLResponse:  # noqa: ARG001
        return HTMLResponse(page, headers=PAGE_HEADERS)

    every = (
        *calls,
        Call("GET", "/openapi.json", "This API for programs", get_openapi, OBJECT),
        Call("GET", "/docs", "This API for people", get_docs, TEXT, content_type="text/html"),
    )
    document, page = openapi(every), docs_page(every)
    return every
