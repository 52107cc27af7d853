"""What may have caused a decision, one by one, and how a cause is told."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from models.backtest.edits import Candidate, Rule
from models.backtest.rules import differing_rules, value_at
from schemas import tape
from schemas.bisection import Cause, Priced
from schemas.counterfactual import described
from schemas.events import ClockTicked, SkuEvent, rfc3339
from schemas.outputs import PriceDecided
from streams.backtest.bisection_folds import Record

FACTS = (
    "sku", "competitor", "price_minor", "unit_cost_minor", "unit_price_minor", "quantity",
    "on_hand", "visits", "command",
)  # fmt: skip


class Atom(NamedTuple):
    """One change of a candidate: a rule, an edit or its prior."""

    kind: Literal["rule", "edit", "prior"]
    name: str
    part: Any


def atoms_of(candidate: Candidate, policies: Sequence[str]) -> tuple[Atom, ...]:
    """A candidate's changes one by one; of a whole policy the keys in which it differs."""
    rules = candidate.rules
    if candidate.policy is not None:
        rules = differing_rules(policies, candidate.policy_text(candidate.policy))
    found = [Atom("rule", rule.name, rule) for rule in rules]
    found += [Atom("edit", described(edit), edit) for edit in candidate.edits]
    found += [] if candidate.prior is None else [Atom("prior", "prior", candidate.prior)]
    return tuple(found)


def part_of(candidate: Candidate, atoms: Sequence[Atom]) -> Candidate:
    """The tape's own policies with only some of a candidate's changes."""
    chosen: dict[str, list[Any]] = {"rule": [], "edit": [], "prior": []}
    for atom in atoms:
        chosen[atom.kind].append(atom.part)
    return Candidate(
        candidate.name,
        rules=tuple(chosen["rule"]),
        prior=chosen["prior"][0] if chosen["prior"] else None,
        edits=tuple(chosen["edit"]),
        switch_ms=candidate.switch_ms,
    )


def event_groups(
    window: Sequence[Record], families: dict[str, str], family: str
) -> list[list[int]]:
    """Places in a window of a family's events and of controls, those of one kind together.

    Clock ticks are none: without them nothing falls due. Groups are tried before single events,
    since the orders of an epoch teach together.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, (_, value) in enumerate(window):
        event = tape.decode(value).event
        if isinstance(event, ClockTicked):
            continue
        if isinstance(event, SkuEvent) and families.get(event.sku, event.sku) != family:
            continue
        key = (type(event).__name__, getattr(event, "sku", ""), getattr(event, "competitor", ""))
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def rule_cause(atom: Atom, policy: str, without: PriceDecided | None) -> Cause:
    """A change, with a rule's values in the policy in force and in the candidate."""
    before = after = None
    if isinstance(atom.part, Rule):
        value = value_at(policy, atom.part.path)
        before = "default" if value is None else str(value)
        after = "default" if atom.part.value is None else str(atom.part.value)
    return Cause(
        kind=atom.kind,
        name=atom.name,
        before=before,
        after=after,
        without_minor=None if without is None else without.wanted_minor,
    )


def event_cause(partition: int, record: Record, without: PriceDecided | None) -> Cause:
    """An event in words, and where it stands."""
    offset, value = record
    event = tape.decode(value).event
    facts = [(name, getattr(event, name, None)) for name in FACTS]
    words = [str(type(event).__struct_config__.tag)]
    words += [f"{name} {fact}" for name, fact in facts if fact is not None]
    return Cause(
        kind="event",
        name=f"{event.event_id}: {', '.join(words)}",
        tape=f"tape[{partition}]@{offset}",
        at=rfc3339(event.event_time_ms),
        without_minor=None if without is None else without.wanted_minor,
    )


def priced(decision: PriceDecided) -> Priced:
    """What is compared of a decision."""
    return Priced(
        price_id=decision.price_id,
        at=decision.decided_at,
        status=decision.status,
        price_minor=decision.wanted_minor,
        reasons=decision.reasons,
    )
