"""What of a tape is changed for a candidate: policies, priors, single records.

A record becomes a record at the same place, from the same source: offsets and what was read stay.
One that is dropped stands there as an append that happened twice, which the fold passes over.
"""

import tomllib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from models.prior.prior import prior_sha256
from schemas import tape
from schemas.codec import canonical
from schemas.counterfactual import Edit, described
from schemas.errors import EngineError, FieldError
from schemas.events import SkuEvent
from schemas.learned import DemandPrior
from schemas.policy import policy_sha256
from schemas.scopes import parse_policy
from schemas.toml import toml_text

DROPPED = -1  # a source offset that is never above the last one read
POLICY, PRIOR, LISTED = b'"policy_published"', b'"prior_published"', b'"product_listed"'


class Rule(NamedTuple):
    """One key of a policy, by its path such as ``objective.risk_aversion``, and its value; None
    takes the key out, so that its default holds.
    """

    path: tuple[str | int, ...]
    value: Any

    @property
    def name(self) -> str:
        """The path in words: ``scopes[0].guards.step_ratio_max``."""
        return rule_name(self.path)

    @property
    def is_plain(self) -> bool:
        """Whether it fits any policy: it is not of a list, such as the scopes."""
        return all(isinstance(part, str) for part in self.path)


class Candidate(NamedTuple):
    """What is folded: history's own policies, with these changes.

    ``policy`` takes the place of every policy, from the beginning or, with ``switch_ms``, from the
    first record at or after that time; ``rules`` change keys of each policy, ``prior`` takes the
    place of every prior.
    """

    name: str
    policy: str | None = None
    rules: tuple[Rule, ...] = ()
    prior: DemandPrior | None = None
    edits: tuple[Edit, ...] = ()
    switch_ms: int | None = None
    note: str = ""  # what else tells of it

    def policy_text(self, text: str) -> str:
        """The policy that holds where ``text`` held.

        Raises
        ------
        FieldError : a rule does not fit it; names the key
        """
        changed = text if self.policy is None else self.policy
        return with_rules(changed, self.rules) if self.rules else changed

    @property
    def told(self) -> tuple[str, ...]:
        """The changes in words."""
        found = [] if self.policy is None else ["another policy"]
        found += [
            f"{rule.name} left at its default" if rule.value is None
            else f"{rule.name} = {rule.value}"
            for rule in self.rules
        ]  # fmt: skip
        found += [] if self.prior is None else ["another prior"]
        found += [self.note] if self.note else []
        return (*found, *(described(edit) for edit in self.edits))


def rule_name(path: tuple[str | int, ...]) -> str:
    """``rule_name(("scopes", 0, "guards"))`` is ``"scopes[0].guards"``."""
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return parts.removeprefix(".")


def with_rules(text: str, rules: tuple[Rule, ...]) -> str:
    """A policy's text with keys changed; scopes and all that is not named stay.

    Raises
    ------
    FieldError : a path leads nowhere, or the policy that comes out is refused

    >>> with_rules("[objective]\\nrisk_aversion = 0.1\\n", (Rule(("version",), 2),))
    'objective = { risk_aversion = 0.1 }\\nversion = 2\\n'
    """
    document = tomllib.loads(text)
    for rule in rules:
        _put(document, rule)
    changed = toml_text(document)
    try:
        parse_policy(changed)
    except FieldError as error:
        error.where = ", ".join(rule.name for rule in rules)
        raise
    return changed


def _put(document: dict[str, Any], rule: Rule) -> None:
    place: Any = document
    for part in rule.path[:-1]:
        if isinstance(place, dict) and isinstance(part, str):
            place = place.setdefault(part, {})
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            place = place[part]
        else:
            raise _no_such_key(rule)
    last = rule.path[-1]
    if isinstance(place, dict) and isinstance(last, str):
        if rule.value is None:
            place.pop(last, None)
        else:
            place[last] = rule.value
    elif isinstance(place, list) and isinstance(last, int) and last <= len(place):
        place[last : last + 1] = [] if rule.value is None else [rule.value]
    else:
        raise _no_such_key(rule)


def _no_such_key(rule: Rule) -> FieldError:
    return FieldError(
        "no_such_rule",
        f"the policy has no place {rule.name}.",
        field=rule.name,
        expected="a key of the policy, such as objective.risk_aversion or "
        "scopes[0].guards.step_ratio_max",
    )


class Rewriter:
    """Rewrites the records of one tape partition, in their order.

    Parameters
    ----------
    families : by SKU, of products listed before the first record
    """

    def __init__(self, candidate: Candidate, families: Mapping[str, str] | None = None) -> None:
        self._candidate = candidate
        self._families = dict(families or {})
        self._by_family = any(edit.match.families for edit in candidate.edits)
        self._policies = candidate.policy is not None or bool(candidate.rules)
        self.changed = 0

    def __call__(self, value: bytes, *, switched: bool = True) -> bytes:
        """The record's value as the candidate meets it; ``switched``: its policy holds by now.

        Raises
        ------
        FieldError : what an edit makes of it is no event
        """
        edits = self._candidate.edits
        policy = self._policies and switched and POLICY in value
        prior = self._candidate.prior is not None and PRIOR in value
        if not edits and not policy and not prior:
            return value
        record = tape.decode(value)
        if self._by_family and LISTED in value and isinstance(record.event, SkuEvent):
            family = getattr(record.event, "family", None)
            self._families.setdefault(record.event.sku, family or record.event.sku)
        event: dict[str, Any] = orjson.loads(tape.raw_event(value))
        if policy and event["type"] == "policy_published":
            text = self._candidate.policy_text(event["policy"])
            return self._written(record.source, {**event, **_policy_fields(text)})
        if prior and event["type"] == "prior_published" and self._candidate.prior is not None:
            return self._written(record.source, {**event, **_prior_fields(self._candidate.prior)})
        at = datetime.fromisoformat(event["event_time"])
        for edit in edits:
            if not self._matches(edit, event, at):
                continue
            if edit.drop:
                return self._written(record.source, event, drop=True)
            changed = _edited(edit, event)
            value = self._written(record.source, changed)
            _check(edit, value, event)
            event = changed
        return value

    def _matches(self, edit: Edit, event: dict[str, Any], at: datetime) -> bool:
        match, sku = edit.match, event.get("sku")
        asked = (
            (match.types, event["type"]),
            (match.skus, sku),
            (match.competitors, event.get("competitor")),
            (match.event_ids, event["event_id"]),
            (match.families, self._families.get(sku or "", sku)),
        )
        return (
            event["type"] != "clock_ticked"
            and all(not names or name in names for names, name in asked)
            and (match.from_time is None or at >= match.from_time)
            and (match.to_time is None or at < match.to_time)
        )

    def _written(self, source: tape.Source, event: dict[str, Any], *, drop: bool = False) -> bytes:
        self.changed += 1
        if drop:
            source = tape.Source(source.topic, source.partition, DROPPED)
        return tape.wrap(source, orjson.dumps(event))


def dropped(value: bytes) -> bytes:
    """A record that keeps its place and changes nothing."""
    source = tape.decode(value).source
    return tape.wrap(tape.Source(source.topic, source.partition, DROPPED), tape.raw_event(value))


def _policy_fields(text: str) -> dict[str, str]:
    return {"policy": text, "policy_sha256": policy_sha256(text)}


def _prior_fields(prior: DemandPrior) -> dict[str, Any]:
    return {"prior": orjson.loads(canonical(prior)), "prior_sha256": prior_sha256(prior)}


def _edited(edit: Edit, event: dict[str, Any]) -> dict[str, Any]:
    """The event after an edit; numbers that are absent or null stay so."""
    found = {**event, **edit.set}
    for field, factor in edit.scale.items():
        if isinstance(found.get(field), int | float):
            found[field] = _like(found[field], found[field] * factor)
    for field, amount in edit.shift.items():
        if isinstance(found.get(field), int | float):
            found[field] = _like(found[field], found[field] + amount)
    return found


def _like(before: float, after: float) -> float:
    return round(after) if isinstance(before, int) else after


def _check(edit: Edit, value: bytes, event: dict[str, Any]) -> None:
    try:
        tape.decode(value)
    except EngineError as error:
        raise FieldError(
            "invalid_edit",
            f"{described(edit)} makes no event of {event['type']} {event['event_id']}: "
            f"{error.message}",
            where=f"event {event['event_id']}",
            field=", ".join((*edit.set, *edit.scale, *edit.shift)),
            expected=f"values that a {event['type']} may have",
        ) from None
