"""CloudEvents 1.0, Kafka binary mode: headers ``ce_id``, ``ce_source``, ``ce_type``, ``ce_time``.

The headers may stand in for ``event_id``, ``type`` and ``event_time`` of a body that lacks them.
Where both are present they must agree.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

import orjson

from schemas.errors import EventError

FIELDS = {"ce_id": "event_id", "ce_type": "type", "ce_time": "event_time"}

Refuse = Callable[[str, str, object, str], EventError]


def attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The event fields that CloudEvents headers give, by our names."""
    found = {}
    for name, value in headers:
        if name in FIELDS and value is not None:
            found[FIELDS[name]] = value.decode("utf-8", "replace")
    return found


def fill(value: bytes, given: dict[str, str], refuse: Refuse) -> bytes:
    """Return the body with what only the headers gave; the body as it is if nothing lacks.

    Raises
    ------
    EventError : body and header contradict each other
    """
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    if not isinstance(body, dict):
        return value
    lacking = {}
    for field, header_value in given.items():
        if field not in body:
            lacking[field] = header_value
        elif not _agree(field, body[field], header_value):
            raise refuse(
                "cloudevents_mismatch",
                field,
                body[field],
                f"the CloudEvents header's {header_value!r}",
            )
    return orjson.dumps(lacking | body) if lacking else value


def _agree(field: str, value: object, header_value: str) -> bool:
    if field != "event_time":
        return value == header_value
    try:
        return datetime.fromisoformat(str(value)) == datetime.fromisoformat(header_value)
    except ValueError:
        return value == header_value
