"""Counterfactual edits: what of history is changed for a candidate, as a small TOML document.

::

    [[edits]]
    match = { types = ["competitor_price_observed"], competitors = ["rival-1"] }
    scale = { price_minor = 1.05 }

What is matched is changed where it stands on the tape; a record that is dropped keeps its place.
"""

import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schemas.errors import FieldError
from schemas.events import EventTime, Identifier, Name, rfc3339, time_ms

FIXED_FIELDS = ("type", "event_id", "event_time", "sku", "currency", "family")
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Field = Annotated[str, Meta(pattern="^[a-z_]{1,64}$")]


class Match(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which records: those that all that is named takes; ``to_time`` is excluded."""

    types: tuple[Name, ...] = ()
    skus: tuple[Identifier, ...] = ()
    families: tuple[Identifier, ...] = ()
    competitors: tuple[Name, ...] = ()
    event_ids: tuple[Identifier, ...] = ()
    from_time: EventTime | None = None
    to_time: EventTime | None = None


class Edit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What becomes of the records that match: fields are set, numbers scaled (times) or shifted
    (plus), or the record is dropped. A number that was whole stays whole, halves to even.
    """

    match: Match
    set: dict[Field, Any] = {}
    scale: dict[Field, Number] = {}
    shift: dict[Field, Number] = {}
    drop: bool = False

    def __post_init__(self) -> None:
        if self.drop == bool(self.set or self.scale or self.shift):
            raise ValueError("Expected either `drop` or one of `set`, `scale`, `shift`")
        for field in (*self.set, *self.scale, *self.shift):
            if field in FIXED_FIELDS:
                raise ValueError(f"Expected no change of `{field}`, by which a record is known")
        if self.match == Match():
            raise ValueError("Expected something in `match`: it would take every record")
        if "clock_ticked" in self.match.types:
            raise ValueError("Expected no clock ticks in `match`: nothing would fall due")


class Edits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document."""

    edits: Annotated[tuple[Edit, ...], Meta(min_length=1, max_length=1000)]


def parse_edits(text: str, where: str) -> tuple[Edit, ...]:
    """Read a document of edits.

    Raises
    ------
    FieldError : it is not TOML, or a field is wrong
    """
    try:
        return msgspec.convert(tomllib.loads(text), Edits).edits
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        reason, _, place = str(error).partition(" - at `$.")
        raise FieldError(
            "invalid_edits",
            f"the edits were refused: {error}.",
            where=where,
            field=place.rstrip("`") or "edits",
            expected=reason,
            fix="See docs/backtest.md for what an edit may be.",
        ) from None


def described(edit: Edit) -> str:
    """An edit in words.

    >>> described(Edit(match=Match(skus=("A",)), scale={"price_minor": 1.05}))
    'price_minor times 1.05 where sku is A'
    """
    done = ["dropped"] if edit.drop else []
    done += [f"{field} set to {value}" for field, value in edit.set.items()]
    done += [f"{field} times {factor:g}" for field, factor in edit.scale.items()]
    done += [f"{field} plus {amount:g}" for field, amount in edit.shift.items()]
    match = edit.match
    where = [
        f"{name} is {' or '.join(values)}"
        for name, values in (
            ("type", match.types), ("sku", match.skus), ("family", match.families),
            ("competitor", match.competitors), ("event_id", match.event_ids),
        )
        if values
    ]  # fmt: skip
    for word, moment in (("from", match.from_time), ("before", match.to_time)):
        where += [] if moment is None else [f"{word} {rfc3339(time_ms(moment))}"]
    return f"{', '.join(done)} where {' and '.join(where)}"
