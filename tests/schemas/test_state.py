"""State records and decisions stay readable for ever: files, read and written again."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import canonical
from schemas.effects import CategoryEffects, ChannelEffects, DayEffects, SearchEffect, Today
from schemas.learned import DemandPrior, ReturnCohort, ReturnPool
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from schemas.state import (
    STATE_VERSION,
    BreakerState,
    CatalogueEntry,
    Counts,
    FamilyMember,
    GateEntry,
    Manifest,
    Offers,
    PolicyRecord,
    PriceWindow,
    SkuState,
)

GOLDEN = Path(__file__).parent / "golden"

STATE_RECORDS: dict[str, Any] = {
    "sku": SkuState,
    "catalogue": CatalogueEntry,
    "gate": GateEntry,
    "cohort": ReturnCohort,
    "member": FamilyMember,
    "policy": PolicyRecord,
    "prior": DemandPrior,
    "returns": ReturnPool,
    "window": PriceWindow,
    "effects": CategoryEffects,
    "days": DayEffects,
    "channels": ChannelEffects,
    "searches": SearchEffect,
    "segments": ChannelEffects,
    "offers": Offers,
    "today": Today,
    "breaker": BreakerState,
    "manifest": Manifest,
}


def read(folder: str, name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / folder / f"{name}.json").read_text())


@pytest.mark.parametrize("kind", STATE_RECORDS)
def test_a_state_record_is_read_and_written_again_whole(kind: str) -> None:
    golden = canonical(read("state", kind))
    record = msgspec.json.decode(golden, type=STATE_RECORDS[kind])
    assert canonical(record) == golden


def test_a_decision_is_read_and_written_again_whole() -> None:
    golden = canonical(read("outputs", "price_decided"))
    assert canonical(msgspec.json.decode(golden, type=PriceDecided)) == golden


def test_a_discount_is_read_and_written_again_whole() -> None:
    golden = canonical(read("outputs", "discount_offered"))
    assert canonical(msgspec.json.decode(golden, type=DiscountOffered)) == golden


def test_there_is_a_file_of_every_kind() -> None:
    assert sorted(path.stem for path in (GOLDEN / "state").iterdir()) == sorted(STATE_RECORDS)


LATER = [
    # record, fields that came after the first version, what they are without
    (
        "gate",
        {
            "minimum_resale_price_minor": {},
            "reference_price_minor": None,
            "sku": "",
            "family": "",
            "category": "",
            "role": "plain",
            "trial_since_ms": None,
        },
    ),
]


@pytest.mark.parametrize(("kind", "later"), LATER, ids=[kind for kind, _ in LATER])
def test_a_record_from_before_a_field_came_is_read(kind: str, later: dict[str, Any]) -> None:
    first = {name: value for name, value in read("state", kind).items() if name not in later}
    record = msgspec.convert(first, STATE_RECORDS[kind])
    assert json.loads(canonical(record)) == first | later


def test_a_packed_record_from_before_its_last_fields_came_is_read() -> None:
    first = msgspec.msgpack.encode(["OPEN", 5, ["x"]])
    assert msgspec.msgpack.decode(first, type=BreakerState) == BreakerState("OPEN", 5, ("x",), 0)
    then = SkuState.__struct_fields__.index("profit_per_day_milli")
    record = msgspec.convert(read("state", "sku")[:then], SkuState)
    assert (record.profit_per_day_milli, record.probe_cost_per_day_milli) == (0, 0)


def test_the_beginning_of_a_partition() -> None:
    manifest = Manifest(partition=3, engine="e", counts=Counts())
    assert canonical(manifest) == (
        b'{"calendar_sha256":null,"clock_ms":null,"counts":{"applied":0,"breaker_trips":0,'
        b'"dead_letters":0,"decisions":0,"drifts":0,"duplicates":0,"held":0,"probes":0,'
        b'"published":0,"reverted":0,"ticks":0},'
        b'"decisions_sha256":"","engine":"e","exploration":{},"high_water":{},"kill_switch":null,'
        b'"kill_switch_expires_ms":null,"partition":3,"position":-1,"returns_day":null,'
        b'"state_version":2}'
    )
    assert STATE_VERSION == 2


def test_an_alert_is_one_json_object() -> None:
    text = (
        b'{"alert_id":"0-7-breaker_changed-A","at":"2026-01-05T00:00:00.000Z","evidence":'
        b'{"states":["CLOSED","OPEN"]},"kind":"breaker_changed","message":"CLOSED -> OPEN: x",'
        b'"sku":"A","tape":{"offset":7,"partition":0},"type":"alert"}'
    )
    alert = msgspec.json.decode(text, type=Alert)
    assert canonical(alert) == text
    assert (alert.kind, alert.sku, alert.tape.offset) == ("breaker_changed", "A", 7)
