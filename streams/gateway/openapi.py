"""What the OpenAPI document says of answers that are not made by pydantic."""

from typing import Any

import msgspec

Responses = dict[int | str, dict[str, Any]]

ERROR_EXAMPLE = {
    "error": {
        "code": "unknown_sku", "message": "nothing is known of the product 'LAM-1'.",
        "where": None, "field": "sku", "value": "LAM-1",
        "expected": "a product with a published price",
        "fix": "See what there is: GET /v1/feed.json",
    }
}  # fmt: skip
_SAYS = {
    304: "It has not changed.", 400: "The request is wrong.", 401: "It needs a token.",
    403: "The token's role does not allow it.", 404: "Nothing is known of the product.",
    409: "It is not so any more.", 410: "The cursor is of another topic.",
    413: "The body is too large.", 503: "It can't serve now.",
}  # fmt: skip
_TEXT = {"type": ["string", "null"]}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                **dict.fromkeys(("where", "field", "value", "expected", "fix"), _TEXT),
            },
        }
    },
}


def documented(kind: type[msgspec.Struct] | None, example: Any) -> Responses:
    """An answer with a schema, where it has a type, and an example."""
    content: dict[str, Any] = {"example": msgspec.to_builtins(example)}
    if kind is not None:
        found = msgspec.json.schema(kind)
        content["schema"] = found["$defs"][kind.__name__]
    return {200: {"description": "As asked.", "content": {"application/json": content}}}


def errors(*statuses: int) -> Responses:
    """The errors that a route answers with, in their one form."""
    body = {"application/json": {"schema": ERROR_SCHEMA, "example": ERROR_EXAMPLE}}
    return {
        status: {"description": _SAYS[status], **({} if status == 304 else {"content": body})}
        for status in statuses
    }
