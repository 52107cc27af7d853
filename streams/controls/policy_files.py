"""Policy files: read, with errors that name key, value and what is expected; and time zones."""

import difflib
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from models.guards.policy_check import Finding, findings
from schemas.errors import FieldError, ServiceError
from schemas.policy import Policy
from schemas.scopes import PolicyDocument, Subject, parse_policy
from streams.controls.time_zone_names import posix_rule

_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")


class PolicyFile(NamedTuple):
    """A policy document and its text."""

    text: str
    document: PolicyDocument


def read_policy(path: Path) -> PolicyFile:
    """Read a policy file.

    Raises
    ------
    FieldError : no policy; names the key, its value and what is expected
    ServiceError : the file can't be read
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise FieldError(
            "not_text", f"the file is no UTF-8 text: {error}.", where=str(path), field="policy"
        ) from None
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    try:
        return PolicyFile(text, parse_policy(text))
    except FieldError as error:
        raise _told(error, text, str(path)) from None


def _told(error: FieldError, text: str, where: str) -> FieldError:
    """A refusal with the key, its value and what is expected apart."""
    if error.code != "invalid_policy":
        error.where = where
        return error
    reason = error.expected or ""
    place, unknown = _PLACE.search(reason), _UNKNOWN.search(reason)
    key = place["path"] if place else ""
    words = _PLACE.sub("", reason)
    if unknown:
        return _unknown_key(unknown["key"], key, where)
    expected = re.sub(r"^Expected ", "", words)
    value = _value_at(tomllib.loads(text), key)
    shown = "" if value is None else f" was {value!r};"
    return FieldError(
        error.code,
        f"{key or 'the document'}{shown} expected {expected}."
        if words.startswith("Expected")
        else f"{key or 'the document'}: {words}.",
        where=where,
        field=key or "policy",
        value=value,
        expected=expected,
        fix=_fix_of(value, key),
    )


def _unknown_key(name: str, table: str, where: str) -> FieldError:
    key = f"{table}.{name}" if table else name
    near = difflib.get_close_matches(name, _keys_of(table), 1)
    fix = f"Did you mean {near[0]}?" if near else "See docs/policy.md for the keys there are."
    return FieldError(
        "unknown_key", f"{key} is no key of a policy.", where=where, field=key,
        expected="a key of a policy", fix=fix,
    )  # fmt: skip


def _keys_of(path: str) -> list[str]:
    """The keys of the table at a path such as ``scopes[0].guards``."""
    names = [re.sub(r"\[.*", "", part) for part in path.split(".") if part]
    if names[:1] == ["scopes"]:
        names = names[1:]
    kind: Any = Policy
    for name in names:
        kind = type(getattr(kind(), name, None)) if hasattr(kind, "__struct_fields__") else None
    return [*getattr(kind, "__struct_fields__", ()), *(["scopes"] if not path else [])]


def _value_at(tables: Any, path: str) -> Any:
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if isinstance(tables, dict):
            tables = tables.get(name)
        elif isinstance(tables, list) and number and int(number) < len(tables):
            tables = tables[int(number)]
        else:
            return None
    return tables


def _fix_of(value: Any, key: str) -> str | None:
    rule = rule_of(value) if key.endswith("time_zone") and isinstance(value, str) else None
    return None if rule is None else f'Write the rule itself: time_zone = "{rule}"'


# -- checking


def check(found: PolicyFile, subjects: tuple[Subject, ...] = ()) -> tuple[Finding, ...]:
    """What in a valid document is likely not meant; see `models.guards.policy_check`."""
    return (*findings(found.document, subjects), *_zones(found.document.base))


def _zones(base: Policy) -> list[Finding]:
    found = []
    for name, market in base.markets.items():
        rule = rule_of(market.time_zone)
        if rule is not None and rule != market.time_zone:
            found.append(
                Finding(
                    code="zone_name",
                    where=f"markets.{name}.time_zone",
                    message=f"{market.time_zone} is a name; a policy holds the rule itself, so "
                    "that an update of the names can't change a replay",
                    fix=f'Write: time_zone = "{rule}"',
                )
            )
    return found


def rule_of(name: str) -> str | None:
    """The POSIX rule of an IANA time zone; None where it is no name of one."""
    with suppress(FieldError):
        return posix_rule(name)
    return None
