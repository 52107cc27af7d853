"""Writes plain values as TOML: one line a key, tables inside as inline tables."""

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any


def toml_text(document: Mapping[str, Any]) -> str:
    """A document that reads back as the same values.

    Raises
    ------
    TypeError : a value that TOML does not have

    >>> toml_text({"version": 2, "guards": {"endings_minor": [99]}})
    'version = 2\\nguards = { endings_minor = [99] }\\n'
    """
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in document.items())


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _text(name)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    raise TypeError(f"a value of {type(value).__name__} has no form in TOML")
