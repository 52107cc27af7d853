"""The circuit breakers as alerts tell of them: where each stands, and what happened last."""

import bisect
from typing import Any, NamedTuple

from schemas.outputs import Alert

TIMELINE_MAX = 200
CLOSED = "CLOSED"
_RANK = {CLOSED: 0, "HALF_OPEN": 1, "OPEN": 2}
_KINDS = ("catalogue", "family", "sku")  # the widest first


class Standing(NamedTuple):
    """Where a breaker stands since its last change; the catalogue has one in each partition."""

    kind: str
    name: str | None
    partition: int
    state: str
    reasons: tuple[str, ...]
    since: str
    offset: int  # of the change, on the tape
    evidence: dict[str, Any]
    message: str


class BreakerBoard:
    """All breakers that ever changed, and the last `TIMELINE_MAX` changes.

    Alerts of one breaker may come out of order, since those of families and the catalogue have no
    key: their place on the tape orders them.
    """

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str | None, int], Standing] = {}
        self._timeline: list[tuple[str, str, dict[str, Any]]] = []

    def take(self, alert: Alert) -> Standing | None:
        """Note a change; returns where the breaker stands, if it is news."""
        found = _standing(alert)
        states = _states(alert)
        told = {
            "at": alert.at, "scope": {"kind": found.kind, "name": found.name},
            "from": states[0], "to": states[-1], "reasons": list(found.reasons),
            "actor": alert.evidence.get("actor"), "message": alert.message,
        }  # fmt: skip
        entry = (alert.at, alert.alert_id, told)
        bisect.insort(self._timeline, entry, key=lambda one: one[:2])
        del self._timeline[:-TIMELINE_MAX]
        partition = found.partition if found.kind == "catalogue" else -1
        key = (found.kind, found.name, partition)
        known = self._standing.get(key)
        if known is not None and known.offset > found.offset:
            return None
        self._standing[key] = found
        return found

    def of_sku(self, sku: str) -> Standing | None:
        """Where a product's breaker stands, if it ever changed."""
        return self._standing.get(("sku", sku, -1))

    def entry(self, kind: str, name: str | None, products: int | None) -> dict[str, Any]:
        """A breaker as the desk shows it; the catalogue's as the worst of its partitions."""
        if kind == "catalogue":
            return self._catalogue(products)
        found = self._standing.get((kind, name, -1))
        return _entry(kind, name, found, products)

    def not_closed(self) -> list[tuple[str, str | None]]:
        """Scopes of all breakers that are not closed, but the catalogue's; the widest first."""
        found = [
            (one.kind, one.name)
            for one in self._standing.values()
            if one.state != CLOSED and one.kind != "catalogue"
        ]
        return sorted(found, key=lambda one: (_KINDS.index(one[0]), one[1] or ""))

    def timeline(self) -> list[dict[str, Any]]:
        """The last changes, the newest first."""
        return [told for _, _, told in reversed(self._timeline)]

    def _catalogue(self, products: int | None) -> dict[str, Any]:
        parts = sorted(
            (one for one in self._standing.values() if one.kind == "catalogue"),
            key=lambda one: one.partition,
        )
        if not parts:
            return _entry("catalogue", None, None, products)
        worst = max(parts, key=lambda one: (_RANK[one.state], one.since))
        shown = _entry("catalogue", None, worst, products)
        shown["evidence"] = {
            "partitions": [
                {"partition": one.partition, "state": one.state, "since": one.since,
                 "reasons": list(one.reasons), "evidence": one.evidence}
                for one in parts
            ]
        }  # fmt: skip
        return shown


def _entry(
    kind: str, name: str | None, found: Standing | None, products: int | None
) -> dict[str, Any]:
    return {
        "scope": {"kind": kind, "name": name},
        "state": CLOSED if found is None else found.state,
        "reasons": [] if found is None else list(found.reasons),
        "since": None if found is None else found.since,
        "evidence": {} if found is None else found.evidence,
        "products": products,
    }


def _states(alert: Alert) -> list[str]:
    """The states that a breaker passed, from the one before on."""
    evidence = alert.evidence
    if "states" in evidence:
        return list(evidence["states"])
    return [evidence["from"], evidence["to"]]


def _standing(alert: Alert) -> Standing:
    evidence = alert.evidence
    kind = "sku" if alert.sku is not None else str(evidence["scope"])
    name = alert.sku if alert.sku is not None else evidence.get("name")
    reasons = tuple(evidence.get("reasons") or ())
    if not reasons and "actor" in evidence:
        reasons = (alert.message.partition(f"{_states(alert)[-1]} ")[2] or alert.message,)
    return Standing(
        kind, name, alert.tape.partition, _states(alert)[-1], reasons, alert.at,
        alert.tape.offset, evidence, alert.message,
    )  # fmt: skip
