"""The engine: bytes depend on the tape alone, and no published price breaks a guard."""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.fold.partition import PACKED
from models.kernel.tile import Kernel
from schemas import tape
from schemas.errors import EngineError
from schemas.events import rfc3339
from schemas.outputs import PriceDecided
from streams.worker.ticks import tick_event
from tests.models.tapes import Partition, Record, Tape, at, keep, policy, seen, simulated
from tests.oracle import Oracle
from tests.schemas.test_state import GOLDEN, STATE_RECORDS

DAYS = 20


class Run(NamedTuple):
    """What readers of the topics see in the end."""

    outputs: list[Output]
    stored: dict[bytes, bytes]
    sha256: str
    decisions_sha256: str


class Cut(NamedTuple):
    """A batch of so many records; then the engine goes on, or is made anew from its state."""

    records: int
    restored: bool


@pytest.fixture(scope="module")
def market(kernel: Kernel) -> list[Record]:
    """A tape of a simulated shop, with all that operators and mistakes put on one."""
    return simulated(kernel, seed=5, days=DAYS)


@pytest.fixture(scope="module")
def whole(kernel: Kernel, market: list[Record]) -> Run:
    """The tape folded in one batch."""
    return fold(kernel, market, [])


def fold(kernel: Kernel, records: list[Record], cuts: Iterable[Cut]) -> Run:
    """Fold a tape in batches; what the cuts leave over is the last one."""
    engine = PartitionEngine.new(0, kernel)
    outputs: list[Output] = []
    stored: dict[bytes, bytes] = {}
    for cut in [*cuts, Cut(len(records), False)]:
        start = engine.position + 1
        batch = engine.apply(records[start : start + cut.records])
        outputs += batch.outputs
        keep(stored, batch)
        if cut.restored:  # a compacted topic has its records in any order
            engine = PartitionEngine.restore(0, reversed(stored.items()), kernel)
    assert engine.position == len(records) - 1
    manifest = engine.state.manifest
    return Run(outputs, stored, engine.state.sha256(), manifest.decisions_sha256)


# -- bytes depend on the tape alone


def test_the_tape_has_what_could_go_wrong(market: list[Record], whole: Run) -> None:
    """Else the tests below would prove little."""
    assert [output for output in whole.outputs if output.topic == "discounts"] != []
    decisions = [seen_of(output) for output in whole.outputs if output.topic == "prices"]
    reasons = " ".join(reason for decision in decisions for reason in decision.reasons)
    for what in (
        "trigger: catalogue", "trigger: cost", "trigger: rival price", "trigger: stock level",
        "trigger: epoch", "trigger: policy", "trigger: breaker", "exploration", "guard: step",
        "gave way: step", "kill switch", "breaker: manual trip", "breaker: sales",
    ):  # fmt: skip
        assert what in reasons
    letters = [dict(o.headers)["dl_error"] for o in whole.outputs if o.topic == "dead-letter"]
    assert sorted(letters) == [b"currency_mismatch", b"hash_mismatch"]
    alerts = {orjson.loads(o.value)["kind"] for o in whole.outputs if o.topic == "alerts"}
    assert alerts == {
        "breaker_changed", "product_blocked", "product_unblocked", "kill_switch", "engine_changed",
        "data_quality",
    }  # fmt: skip
    kinds = {key.split(b"/")[0] for key in whole.stored}
    assert kinds == {
        b"sku", b"catalogue", b"gate", b"cohort", b"member", b"policy", b"prior", b"returns",
        b"window", b"manifest", b"breaker", b"effects", b"days", b"channels", b"searches",
        b"segments", b"today", b"offers",
    }  # fmt: skip
    manifest = orjson.loads(whole.stored[b"manifest"])
    assert manifest["counts"]["duplicates"] > len(market) // 50
    assert manifest["position"] == len(market) - 1


def seen_of(output: Output) -> PriceDecided:
    return msgspec.json.decode(output.value, type=PriceDecided)


@settings(max_examples=12)
@given(cuts=st.lists(st.builds(Cut, st.integers(1, 900), st.booleans()), max_size=9))
def test_bytes_do_not_depend_on_the_cut(kernel: Kernel, market, whole, cuts) -> None:
    assert fold(kernel, market, cuts) == whole


@pytest.mark.parametrize("size", [1, 7])
def test_bytes_do_not_depend_on_the_batch_size(kernel: Kernel, market, whole, size) -> None:
    assert fold(kernel, market, [Cut(size, False)] * (len(market) // size)) == whole


def test_restored_after_every_few_records_it_has_the_same_future(
    kernel: Kernel, market, whole
) -> None:
    part = market[:600]
    assert fold(kernel, part, [Cut(4, True)] * 150) == fold(kernel, part, [])


def test_state_written_bit_by_bit_is_the_whole_state(kernel: Kernel, market) -> None:
    """What a compacted topic has after each batch is all there is, tombstones included."""
    engine = PartitionEngine.new(0, kernel)
    stored: dict[bytes, bytes] = {}
    tombstones = 0
    for start in range(0, len(market), 97):
        batch = engine.apply(market[start : start + 97])
        keep(stored, batch)
        tombstones += sum(value is None for _, value in batch.state)
        assert batch.state[-1][0] == b"manifest"
        assert batch.position == engine.position
        assert stored == dict(engine.state.all_records())
    # cohorts teach for 60 days: only then are there tombstones
    batch = engine.apply([(len(market), tick(at(DAYS + 70), len(market)))])
    keep(stored, batch)
    tombstones += sum(value is None for _, value in batch.state)
    assert tombstones > 0
    assert stored == dict(engine.state.all_records())
    assert not any(key.startswith(b"cohort/") for key in stored)


def tick(at_ms: int, source_offset: int) -> bytes:
    return tape.wrap(tape.Source("controls", 0, source_offset), tick_event(at_ms))


def test_without_state_the_outputs_are_the_same(kernel: Kernel, market, whole) -> None:
    engine = PartitionEngine.new(0, kernel)
    batch = engine.apply(market, with_state=False)
    assert (batch.outputs, batch.state) == (whole.outputs, [])
    assert [key for key, _ in engine.state.take_changed()] == [b"manifest"]  # no list that grows
    assert engine.state.sha256() == whole.sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"unit_cost_minor":', b'"unit_cost_minor":1'),  # of a listing
        (b'"quantity":1,', b'"quantity":2,'),  # of an order
        (b'"visits":', b'"visits":1'),
    ],
)
def test_one_byte_more_changes_the_hashes(kernel: Kernel, market, whole, old, new) -> None:
    offset = next(offset for offset, value in market if old in value and b"null" not in value)
    changed = list(market)
    changed[offset] = (offset, market[offset][1].replace(old, new))
    run = fold(kernel, changed, [])
    assert run.sha256 != whole.sha256
    assert run.decisions_sha256 != whole.decisions_sha256


def test_what_fell_due_while_a_product_was_retired_is_not_due_when_it_is_listed_again(
    kernel: Kernel,
) -> None:
    switch = {"scope": {"kind": "catalogue"}}
    tape_ = Tape()
    tape_.add("clock_ticked", at(hours=1))
    tape_.add("product_listed", at(hours=1))
    tape_.add("promotion_scheduled", at(hours=2), skus=["A"], depth=0.1,
              from_time=rfc3339(at(hours=5)), to_time=rfc3339(at(hours=6)))  # fmt: skip
    tape_.add("operator_command", at(hours=3), command="kill_switch_on", **switch)
    tape_.add("operator_command", at(hours=3), command="kill_switch_off", **switch)
    tape_.add("product_retired", at(hours=4))
    tape_.add("clock_ticked", at(hours=7))
    tape_.add("product_listed", at(hours=8), list_price_minor=1100)
    tape_.add("clock_ticked", at(hours=9))
    tape_.add("order_placed", at(hours=9), order_id="o1")
    run = fold(kernel, tape_.records, [])
    assert fold(kernel, tape_.records, [Cut(1, True)] * 10) == run
    decided = [seen_of(output).tape.offset for output in run.outputs if output.topic == "prices"]
    assert decided == [1, 7]


# -- what stops it


def test_a_jump_on_the_tape_stops_it(kernel: Kernel, market) -> None:
    engine = PartitionEngine.new(0, kernel)
    engine.apply(market[:10])
    for offset in (9, 11):
        with pytest.raises(EngineError) as error:
            engine.apply([market[offset]])
        assert (error.value.code, error.value.where) == ("tape_jump", f"tape[0]@{offset}")
        assert error.value.message == f"offset was {offset}; expected 10."
    with pytest.raises(EngineError):
        engine.apply([market[10], market[12]])


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"{}", b'{"source":{"topic":"orders","partition":0,"offset":0},"event":{}}'],
)
def test_a_torn_record_stops_it(kernel: Kernel, value) -> None:
    with pytest.raises(EngineError) as error:
        PartitionEngine.new(2, kernel).apply([(0, value)])
    assert (error.value.code, error.value.where) == ("torn_tape", "tape[2]@0")


def test_a_state_of_another_partition_or_without_its_manifest_is_refused(
    kernel: Kernel, whole
) -> None:
    with pytest.raises(EngineError) as error:
        PartitionEngine.restore(1, whole.stored.items(), kernel)
    assert error.value.code == "wrong_manifest"
    torn = {key: value for key, value in whole.stored.items() if key != b"manifest"}
    with pytest.raises(EngineError) as error:
        PartitionEngine.restore(0, torn.items(), kernel)
    assert error.value.code == "no_manifest"
    with pytest.raises(EngineError) as error:
        PartitionEngine.restore(0, {**whole.stored, b"what": b"{}"}.items(), kernel)
    assert error.value.code == "unknown_record"


def test_no_state_is_the_beginning(kernel: Kernel) -> None:
    engine = PartitionEngine.restore(3, [], kernel)
    assert (engine.partition, engine.position) == (3, -1)
    assert engine.state.sha256() == PartitionEngine.new(3, kernel).state.sha256()


def test_an_engine_that_takes_over_from_another_announces_itself(kernel: Kernel) -> None:
    one = Partition(kernel)
    one.send("product_listed", at())
    assert one.engine.announcement(7, "w2", "1.2.3") is None
    manifest = orjson.loads(one.stored[b"manifest"]) | {"engine": "older 1"}
    stored = one.stored | {b"manifest": orjson.dumps(manifest)}
    engine = PartitionEngine.restore(0, stored.items(), kernel)
    value = engine.announcement(7, "w2", "1.2.3")
    assert value is not None
    record = tape.decode(value)
    assert record.source == tape.Source("engine", 0, 7)
    assert record.event.version == "1.2.3"
    assert (record.event.previous, record.event.fingerprint, record.event.worker) == (
        "older 1", kernel.fingerprint, "w2",
    )  # fmt: skip
    (alert,) = seen(engine.apply([(1, value)])).alerts
    assert alert.evidence == {"from": "older 1", "to": kernel.fingerprint, "worker": "w2"}
    assert engine.announcement(8, "w2", "1.2.3") is None


# -- what is written, as files (floats to six digits: the rest is the machine's)


def eventful(kernel: Kernel) -> tuple[Partition, bytes]:
    """A product with every kind of state record, and its last decision."""
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy("[guards]\ntick_minor = 5\n"))
    shop.send(
        "product_listed", at(), attributes={"watt": 12.5, "colour": "red"}, vat_rate=0.25,
        list_price_minor=1290, return_handling_cost_minor=90,
        minimum_resale_price_minor={"DE": 990}, exit_date="2026-03-01T00:00:00Z",
    )  # fmt: skip
    shop.send("inventory_changed", at(hours=1), on_hand=60, inbound=40,
              inbound_eta="2026-01-20T00:00:00Z")  # fmt: skip
    shop.send("competitor_price_observed", at(hours=2), price_minor=1250)
    shop.send("promotion_scheduled", at(hours=3), skus=["A"], from_time="2026-02-01T00:00:00Z",
              to_time="2026-02-03T00:00:00Z", depth=0.25)  # fmt: skip
    shop.send("traffic_counted", at(hours=6), from_time=rfc3339(at()), to_time=rfc3339(at(hours=6)),
              visits=50)  # fmt: skip
    for number in range(12):
        shop.send("order_placed", at(days=1, hours=number), order_id=f"o{number}",
                  quantity=1 + number % 2, segment="new", unit_price_minor=1200)  # fmt: skip
    shop.send("order_returned", at(days=3), order_id="o3", quantity=1)
    shop.send("traffic_counted", at(days=4), from_time=rfc3339(at(hours=6)),
              to_time=rfc3339(at(days=4)), visits=800)  # fmt: skip
    shop.tick(at(days=5))
    batch = shop.engine.apply([shop.tape.add("cost_changed", at(days=5), unit_cost_minor=560)])
    keep(shop.stored, batch)
    return shop, next(o.value for o in batch.outputs if o.topic == "prices")


def test_a_decision_is_written_as_in_its_golden_file(kernel: Kernel) -> None:
    _, value = eventful(kernel)
    decision = orjson.loads(value) | {"engine": "0123456789ab"}
    assert_golden("outputs", "price_decided", decision)


def test_state_records_are_written_as_in_their_golden_files(kernel: Kernel) -> None:
    shop, _ = eventful(kernel)
    masked = {"engine": "0123456789ab and what it was built of", "decisions_sha256": "0" * 64}
    kinds = []
    for key, value in sorted(shop.stored.items()):
        kind = key.decode().partition("/")[0]
        kinds.append(kind)
        if kind in PACKED:
            assert_golden("state", kind, unpacked(value))
            continue
        record = orjson.loads(value)
        assert_golden("state", kind, record | masked if kind == "manifest" else record)
    assert kinds == sorted(kind for kind in STATE_RECORDS if kind not in ("member", "offers"))


def test_a_member_of_a_family_is_written_as_in_its_golden_file(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at(), family="F", role="anchor")
    shop.send("product_listed", at(), sku="B", family="F", role="addition", anchors=["A"])
    for day in range(1, 20):
        for number in range(10):
            shop.send("order_placed", at(days=day, minutes=-number), sku="B",
                      order_id=f"{day}-{number}")  # fmt: skip
        shop.send("price_applied", at(days=day, hours=1), price_minor=950 + 100 * (day % 2))
        shop.tick(at(days=day, hours=2))
    assert_golden("state", "member", unpacked(shop.stored[b"member/B"]))


def unpacked(value: bytes) -> Any:
    """A packed record as plain values, by place; bytes in base64."""
    return msgspec.to_builtins(msgspec.msgpack.decode(value))


def assert_golden(folder: str, name: str, document: Any) -> None:
    """Compare with a golden file; with PRICEMAKER_WRITE_GOLDEN=1 write it anew, to be reviewed."""
    path = GOLDEN / folder / f"{name}.json"
    if os.environ.get("PRICEMAKER_WRITE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rounded(document), indent=2, sort_keys=True) + "\n")
    found, golden = dict(leaves(document)), dict(leaves(json.loads(path.read_text())))
    assert list(found) == list(golden)
    for place, value in golden.items():
        close = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        assert (place, found[place]) == (place, close)


def leaves(document: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no object or list, or an empty one, with its place, by sorted keys."""
    if isinstance(document, dict) and document:
        for name in sorted(document):
            yield from leaves(document[name], f"{place}.{name}")
    elif isinstance(document, list) and document:
        for index, value in enumerate(document):
            yield from leaves(value, f"{place}[{index}]")
    else:
        yield place, document


def rounded(document: Any) -> Any:
    """The same document, floats to six significant digits."""
    if isinstance(document, float):
        return float(f"{document:.6g}")
    if isinstance(document, dict):
        return {name: rounded(value) for name, value in document.items()}
    if isinstance(document, list):
        return [rounded(value) for value in document]
    return document


# -- no published price breaks a guard

money = st.integers(30, 3000)
listings = st.fixed_dictionaries(
    {
        "unit_cost_minor": st.none() | money,
        "list_price_minor": st.none() | money,
        "vat_rate": st.sampled_from([0.0, 0.19, 0.25]),
        "minimum_resale_price_minor": st.just({}) | st.fixed_dictionaries({"DE": money}),
    }
)
policies = st.builds(
    lambda step, day, margin, tick, ceiling, reference, markets: policy(
        f"[guards]\nstep_ratio_max = {min(step, day)}\nday_step_ratio_max = {max(step, day)}\n"
        f"margin_floor_ratio = {margin}\ntick_minor = {tick}\n"
        f"ceiling_list_price_ratio = {ceiling}\nceiling_reference_ratio = {reference}\n"
        f"minimum_resale_price_markets = {markets}\n"
    ),
    st.sampled_from([0.01, 0.05, 0.1]),
    st.sampled_from([0.02, 0.1, 0.3]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([1, 1, 10, 99]),
    st.sampled_from([0.8, 1.0, 1.2]),
    st.sampled_from([1.2, 2.0, 3.0]),
    st.sampled_from(["[]", '["DE"]']),
)
shocks = st.one_of(
    st.tuples(st.just("product_listed"), listings),
    st.tuples(st.just("cost_changed"), st.fixed_dictionaries({"unit_cost_minor": money})),
    st.tuples(st.just("cost_changed"), st.fixed_dictionaries({"unit_cost_minor": money})),
    st.tuples(st.just("policy_published"), policies),
    st.tuples(st.just("inventory_changed"), st.fixed_dictionaries({"on_hand": st.integers(0, 40)})),
    st.tuples(st.just("competitor_price_observed"), st.fixed_dictionaries({"price_minor": money})),
    st.tuples(st.just("price_applied"), st.fixed_dictionaries({"price_minor": money})),
    st.tuples(st.just("product_retired"), st.just({})),
    st.tuples(
        st.just("operator_command"),
        st.fixed_dictionaries(
            {
                "command": st.sampled_from(
                    ["breaker_trip", "breaker_reset", "kill_switch_on", "kill_switch_off"]
                )
            }
        ),
    ),
)


@settings(max_examples=60)
@given(
    first=listings,
    story=st.lists(st.tuples(st.integers(1, 30), shocks), min_size=1, max_size=15),
)
def test_no_published_price_breaks_a_guard(kernel: Kernel, first, story) -> None:
    """... and no price that the guards allowed is held by the gate: it would be so for ever."""
    shop, oracle = Partition(kernel), Oracle()
    hours = 0
    for wait, (kind, fields) in [(0, ("product_listed", first)), *story]:
        hours += wait
        for one, given_fields in (("clock_ticked", {}), (kind, fields)):
            found = shop.send(one, at(hours=hours), **given_fields)
            assert found.letters == []
            event = orjson.loads(tape.raw_event(shop.tape.records[-1][1]))
            oracle.observe(event, applied=True)
            for decision in found.decisions:
                assert oracle.judge(msgspec.to_builtins(decision)) == []
                assert not [reason for reason in decision.reasons if reason.startswith("gate")]


# A product asks for a decision, and while it waits comes what may read or write what it will.
asking = st.one_of(
    st.tuples(st.just("cost_changed"), st.fixed_dictionaries({"unit_cost_minor": money})),
    st.tuples(st.just("competitor_price_observed"), st.fixed_dictionaries({"price_minor": money})),
    st.tuples(st.just("inventory_changed"), st.fixed_dictionaries({"on_hand": st.integers(0, 9)})),
    shocks,
)
following = st.one_of(
    st.tuples(
        st.sampled_from(["order_placed", "order_placed", "order_returned", "order_cancelled"]),
        st.fixed_dictionaries({"order_id": st.sampled_from(["o1", "o2"])}),
    ),
    st.tuples(st.just("clock_ticked"), st.just({})),
    st.tuples(
        st.just("product_listed"),
        st.fixed_dictionaries({"sku": st.just("C"), "predecessor": st.sampled_from(["A", "B"])}),
    ),
    shocks,
)
waits = st.sampled_from([0, 1, 90, 1500, 25_000])  # minutes
NO_SKU = ("policy_published", "operator_command", "clock_ticked")


@settings(max_examples=80)
@given(
    story=st.lists(
        st.tuples(waits, st.sampled_from(["A", "B"]), asking, waits, following),
        min_size=1,
        max_size=8,
    )
)
def test_no_story_depends_on_how_it_was_cut(kernel: Kernel, story) -> None:
    """Also where the shop does not say what it shows, and where decisions follow each other."""
    one = Tape()
    for sku in ("A", "B"):
        one.add("product_listed", at(), sku=sku, family="A")
    minutes = 0
    for wait, sku, first, wait_again, then in story:
        for passed, (kind, fields) in ((wait, first), (wait_again, then)):
            minutes += passed
            about = {} if kind in NO_SKU else {"sku": sku}
            if kind == "product_listed":
                about["family"] = "A"
            one.add(kind, at(minutes=minutes), **about | fields)
    whole = fold(kernel, one.records, [])
    assert fold(kernel, one.records, [Cut(1, False)] * len(one.records)) == whole
    assert fold(kernel, one.records, [Cut(3, True)] * (len(one.records) // 3)) == whole
