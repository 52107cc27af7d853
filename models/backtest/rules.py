"""The keys in which a policy differs from others, as changes that can be made one by one."""

import tomllib
from collections.abc import Sequence
from typing import Any

from models.backtest.edits import Rule

Path = tuple[str | int, ...]


def differing_rules(texts: Sequence[str], candidate: str) -> tuple[Rule, ...]:
    """The candidate's values at every key in which it differs from any of some policies.

    Put into one of them all together they make the candidate. Scopes go key by key where all have
    them in the same order for the same products, and else as one.

    >>> differing_rules(["version = 1\\n[guards]\\ntick_minor = 5\\n"], "version = 2\\n")
    (Rule(path=('version',), value=2), Rule(path=('guards', 'tick_minor'), value=None))
    """
    after = tomllib.loads(candidate)
    before = [tomllib.loads(text) for text in texts]
    by_index = all(_selectors(one) == _selectors(after) for one in before)
    theirs = _leaves(after, by_index)
    found: dict[Path, Any] = {}
    for document in before:
        ours = _leaves(document, by_index)
        for path, value in theirs.items():
            if path not in ours or ours[path] != value:
                found[path] = value
        for path in ours:
            if path not in theirs:
                found[path] = None
    return tuple(Rule(path, value) for path, value in found.items())


def value_at(text: str, path: Path) -> Any:
    """A policy's value at a path; None where it has none."""
    place: Any = tomllib.loads(text)
    for part in path:
        if isinstance(place, dict) and isinstance(part, str):
            place = place.get(part)
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            place = place[part]
        else:
            return None
    return place


def _selectors(document: dict[str, Any]) -> list[Any]:
    return [scope.get("select") for scope in document.get("scopes", [])]


def _leaves(document: dict[str, Any], by_index: bool) -> dict[Path, Any]:
    """Values by path: of tables each key, of scopes each key of each table; others whole."""
    found: dict[Path, Any] = {}
    for name, value in document.items():
        if name == "scopes" and by_index:
            for index, scope in enumerate(value):
                for table, keys in scope.items():
                    if table != "select":
                        found |= {(name, index, table, key): one for key, one in keys.items()}
        elif isinstance(value, dict):
            found |= {(name, key): one for key, one in value.items()}
        else:
            found[(name,)] = value
    return found
