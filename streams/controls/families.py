"""Carrying an approved family out: each product is retired and listed anew in the family.

A SKU's family is fixed at its first listing, since it chooses the tape partition. So a product that
joins a family goes on under a new SKU, and what was learned travels with the new listing
(``handed_over``): the belief as the state topic has it, put on the tape, so that a replay needs
nothing else. The shop sells under the new SKU from then on.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.demand.baskets import signed
from schemas import topics
from schemas.codec import canonical
from schemas.errors import InputError, ServiceError
from schemas.events import HandedOver, ProductListed, ProductRetired, rfc3339
from schemas.families import FamilyProposal
from schemas.state import CatalogueEntry, FamilyMember, SkuState
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_to_end, require_partitions
from streams.tape.event_files import SourceRecord

READ_DEADLINE_S = 600.0
HASH_DIGITS = 6


class Known(NamedTuple):
    """What the state topic says of the products, by SKU."""

    catalogue: dict[str, CatalogueEntry]
    states: dict[str, SkuState]
    members: dict[str, FamilyMember]


class Move(NamedTuple):
    """One product that joins a family under a new SKU; ``done``: its new SKU is listed already."""

    sku: str
    new_sku: str
    family: str
    role: str
    handed_over: bool
    done: bool


def read_proposal(path: Path) -> FamilyProposal:
    """Read a proposal and check its content hash.

    Raises
    ------
    InputError : not a proposal, or changed since it was made
    ServiceError : the file can't be read
    """
    try:
        proposal = msgspec.json.decode(path.read_bytes(), type=FamilyProposal)
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    except msgspec.MsgspecError as error:
        raise InputError(
            "not_a_proposal",
            f"the file is no proposal of families: {error}.",
            where=str(path),
            fix="Make one: pricemaker train baskets SOURCE --out FILE",
        ) from None
    expected = signed(proposal).sha256
    if proposal.sha256 != expected:
        raise InputError(
            "hash_mismatch",
            f"sha256 was {proposal.sha256}; expected {expected}: the file was changed.",
            where=str(path),
            field="sha256",
            fix="Leave the file as it was made, and choose families with --only.",
        )
    return proposal


def read_known(settings: Any) -> Known:
    """Read the catalogue, what was learned, and cross effects off the state topic.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, topics.STATE.name)
    latest: dict[str, bytes] = {}
    with opened(settings, "families") as consumer:
        for number in range(require_partitions(consumer, topic)):
            for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
                key, value = (message.key() or b"").decode(), message.value()
                if key.startswith(("catalogue/", "sku/", "member/")) and value is not None:
                    latest[key] = value
    return known_from(latest)


def known_from(records: Mapping[str, bytes]) -> Known:
    """The same from state records, by key."""
    found = Known({}, {}, {})
    for key, value in sorted(records.items()):
        kind, _, sku = key.partition("/")
        if kind == "catalogue":
            found.catalogue[sku] = msgspec.json.decode(value, type=CatalogueEntry)
        elif kind == "sku":
            found.states[sku] = msgspec.msgpack.decode(value, type=SkuState)
        elif kind == "member":
            found.members[sku] = msgspec.msgpack.decode(value, type=FamilyMember)
    return found


def plan(
    proposal: FamilyProposal,
    known: Known,
    *,
    only: Sequence[str] = (),
    renames: Mapping[str, str] | None = None,
) -> list[Move]:
    """The products to move, anchors first; a new SKU is ``<SKU>@<hash of the proposal>``.

    Parameters
    ----------
    only : names of the families to carry out; all if empty
    renames : new SKUs that the shop wants otherwise, by old SKU

    Raises
    ------
    InputError : a family is not in the proposal; a product is unknown or no longer on sale
    """
    names = {family.name for family in proposal.families}
    for name in only:
        if name not in names:
            raise InputError(
                "unknown_family", f"family {name!r} is not in the proposal.", field="--only",
                value=name, expected=f"one of {', '.join(sorted(names))}",
            )  # fmt: skip
    moves: list[Move] = []
    for family in proposal.families:
        if only and family.name not in only:
            continue
        roles = [(family.anchor, "anchor"), *((one.sku, "addition") for one in family.additions)]
        for sku, role in roles:
            new_sku = (renames or {}).get(sku, f"{sku}@{proposal.sha256[:HASH_DIGITS]}")
            moves.append(_move(known, sku, new_sku, family.name, role))
    return moves


def _move(known: Known, sku: str, new_sku: str, family: str, role: str) -> Move:
    entry, there = known.catalogue.get(sku), known.catalogue.get(new_sku)
    done = there is not None and there.family == family
    if entry is None or (entry.retired and not done) or (there is not None and not done):
        raise InputError(
            "cannot_move",
            f"sku {sku!r} cannot be moved to {new_sku!r}.",
            field="sku",
            value=sku,
            expected="a product on sale, and a new SKU that is not listed",
            fix="Make a new proposal, or name another SKU with --rename OLD=NEW.",
        )
    state = known.states.get(sku)
    learned = state is not None and state.posterior is not None
    return Move(sku, new_sku, family, role, learned, done and entry.retired)


def events(moves: Iterable[Move], known: Known, at_ms: int) -> list[SourceRecord]:
    """The events that carry the moves out: each new listing, then its old SKU's retirement.

    Their ids follow from what they say, so that sending them again is a repeat.
    """
    found: list[SourceRecord] = []
    for move in moves:
        if move.done:
            continue
        name = hashlib.sha256(f"{move.family}/{move.sku}/{move.new_sku}".encode()).hexdigest()[:32]
        listing = _listing(move, known, f"family-list-{name}", at_ms)
        retired = {
            "type": "product_retired",
            "event_id": f"family-retire-{name}",
            "event_time": rfc3339(at_ms),
            "sku": move.sku,
            "reason": "moved to a family",
        }
        checked = msgspec.convert(retired, ProductRetired)
        found += [(topics.PRODUCTS.name, canonical(one)) for one in (listing, checked)]
    return found


def _listing(move: Move, known: Known, event_id: str, at_ms: int) -> ProductListed:
    entry = known.catalogue[move.sku]
    fields: dict[str, Any] = {
        "type": "product_listed",
        "event_id": event_id,
        "event_time": rfc3339(at_ms),
        "sku": move.new_sku,
        "currency": entry.currency,
        "category": entry.category,
        "attributes": entry.attributes,
        "family": move.family,
        "unit_cost_minor": entry.unit_cost_minor,
        "return_handling_cost_minor": entry.return_handling_cost_minor,
        "list_price_minor": entry.list_price_minor,
        "minimum_resale_price_minor": entry.minimum_resale_price_minor,
        "fee_rate": 1.0 - entry.kept_share,  # VAT and fee are known as the share that is kept
        "role": move.role,
    }
    if entry.exit_ms is not None:
        fields["exit_date"] = rfc3339(entry.exit_ms)
    state = known.states.get(move.sku)
    if state is not None and state.posterior is not None and state.reference_price_minor:
        belief = state.posterior
        fields["handed_over"] = msgspec.to_builtins(
            HandedOver(
                sku=move.sku,
                reference_price_minor=state.reference_price_minor,
                mean=belief.mean,
                cov=belief.cov,
                orders=belief.orders,
                epochs=belief.epochs,
                size_lines=belief.size_lines,
                size_units=belief.size_units,
            )
        )
    return msgspec.convert(fields, ProductListed)
