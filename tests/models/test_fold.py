"""The fold: what each event does to the state, what it asks for, and what is refused."""

import hashlib
import math
from typing import Any

import msgspec
import orjson
import pytest
from msgspec.structs import replace

from models.fold.context import Output
from models.fold.fold import DIGEST_BYTES, RECENT_EVENTS
from models.kernel.tile import Kernel
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from schemas import tape
from schemas.codec import canonical, packed
from schemas.events import rfc3339
from schemas.policy import policy_sha256
from schemas.state import FirstTraffic, Promotion, Rival, SkuState, Stock, Traffic
from schemas.tape import Source
from tests.models.tapes import NOTHING, Partition, Seen, at, event, policy

NO_SHA256 = "0" * 64


@pytest.fixture
def empty(kernel: Kernel) -> Partition:
    """A partition before its first event."""
    return Partition(kernel)


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    """A partition with the product "A", listed at 10.00 and priced."""
    partition = Partition(kernel)
    partition.send("product_listed", at())
    partition.tick(at())
    return partition


def asked(seen: Seen) -> list[tuple[str, str]]:
    """SKU and trigger of each decision."""
    triggers = [next(r for r in d.reasons if r.startswith("trigger: ")) for d in seen.decisions]
    return [
        (decision.sku, trigger.removeprefix("trigger: "))
        for decision, trigger in zip(seen.decisions, triggers, strict=True)
    ]


def alerts(seen: Seen) -> list[tuple[str, str | None, str]]:
    return [(alert.kind, alert.sku, alert.message) for alert in seen.alerts]


def counts(partition: Partition) -> dict[str, int]:
    """The manifest's counts that are not zero."""
    found = msgspec.to_builtins(partition.engine.state.manifest.counts)
    return {name: count for name, count in found.items() if count}


def records(partition: Partition) -> dict[bytes, bytes]:
    """All state records but the manifest."""
    return dict(partition.engine.state.all_records()[:-1])


# -- what is on the tape twice


def test_an_append_that_happened_twice_is_applied_once(shop: Partition) -> None:
    shop.send("order_placed", at(hours=1), order_id="o1", source_offset=7)
    before, applied = records(shop), counts(shop)["applied"]
    for offset in (7, 3):
        again = shop.send("order_placed", at(hours=1), order_id="o2", source_offset=offset)
        assert again == NOTHING
    assert records(shop) == before
    assert counts(shop) == {
        "applied": applied, "duplicates": 2, "decisions": 1, "published": 1, "ticks": 1,
        "probes": 1,
    }  # fmt: skip
    assert shop.engine.state.manifest.high_water["orders/0"] == 7


def test_each_source_partition_is_counted_by_itself(shop: Partition) -> None:
    for partition in (0, 1):
        value = orjson.dumps(
            event("order_placed", at(hours=1), f"e{partition}", order_id=f"o{partition}")
        )
        shop.apply(shop.tape.add_value(Source("orders", partition, 5), value))
    assert shop.state.epoch.orders == 2
    assert shop.engine.state.manifest.high_water == {
        "products/0": 0, "controls/0": 0, "orders/0": 5, "orders/1": 5,
    }  # fmt: skip


def test_a_sources_own_repeat_is_found_by_its_event_id(shop: Partition) -> None:
    for _ in range(2):
        shop.send("order_placed", at(hours=1), order_id="o1", event_id="e1")
    assert (shop.state.epoch.orders, counts(shop)["duplicates"]) == (1, 1)
    # Ids are unique per source: the same one on another topic is another event.
    shop.send("inventory_changed", at(hours=1), on_hand=5, event_id="e1")
    assert shop.state.stock == Stock(5, 0, None, at(hours=1))


def test_a_repeat_is_found_among_the_last_events_of_its_product_only(shop: Partition) -> None:
    def fill_with(number: int) -> None:
        for i in range(number):
            shop.send("order_placed", at(hours=1), order_id=f"o{shop.engine.position}-{i}")

    shop.send("order_placed", at(hours=1), order_id="o", event_id="first")
    fill_with(RECENT_EVENTS - 1)
    shop.send("order_placed", at(hours=1), order_id="o", event_id="first")
    assert counts(shop)["duplicates"] == 1
    fill_with(1)
    shop.send("order_placed", at(hours=1), order_id="o", event_id="first")
    assert counts(shop)["duplicates"] == 1
    assert len(shop.state.recent_events) == RECENT_EVENTS * DIGEST_BYTES


# -- what contradicts the state


def test_a_dead_letter_of_the_fold_has_the_event_as_it_came_and_says_what_is_wrong(
    shop: Partition,
) -> None:
    raw = (
        b'{"type": "order_placed","event_id":"e1","event_time":"2026-01-05T01:00:00Z","sku":"A",'
        b'"currency":"USD","order_id":"o","line_id":"1","quantity":1,"unit_price_minor":999,'
        b'"unknown":"\xc3\xa9"}'
    )
    batch = shop.engine.apply([shop.tape.add_value(Source("orders", 3, 41), raw)])
    headers = (
        ("dl_id", b"orders-3-41"),
        ("dl_topic", b"orders"),
        ("dl_partition", b"3"),
        ("dl_offset", b"41"),
        ("dl_timestamp_ms", str(at(hours=1)).encode()),
        ("dl_stage", b"fold"),
        ("dl_error", b"currency_mismatch"),
        ("dl_message", b"orders[3]@41: currency was USD; expected the listing's EUR."),
        ("dl_field", b"currency"),
        ("dl_value", b"USD"),
        ("dl_expected", b"the listing's EUR"),
        ("dl_attempts", b"1"),
        ("dl_application", b"pricemaker"),
        ("dl_version", shop.engine.kernel.fingerprint.split(" ")[0].encode()),
        ("dl_failed_at", b"2026-01-05T01:00:00.000Z"),
        ("dl_tape", b"0-2"),
    )
    assert batch.outputs == [Output("dead-letter", b"A", raw, headers)]
    assert counts(shop)["dead_letters"] == 1


REFUSED = [
    # kind, fields, code, field, value, expected
    ("order_placed", {"sku": "Z", "order_id": "o"},
     "unknown_product", "sku", "Z", "a product listed before"),
    ("order_returned", {"currency": "USD", "order_id": "o"},
     "currency_mismatch", "currency", "USD", "the listing's EUR"),
    ("competitor_price_observed", {"currency": "USD", "price_minor": 900},
     "currency_mismatch", "currency", "USD", "the listing's EUR"),
    ("cost_changed", {"currency": "USD", "unit_cost_minor": 400},
     "currency_mismatch", "currency", "USD", "the listing's EUR"),
    ("price_applied", {"currency": "USD", "price_minor": 900},
     "currency_mismatch", "currency", "USD", "the listing's EUR"),
    ("product_listed", {"currency": "USD"},
     "currency_mismatch", "currency", "USD", "the listing's EUR"),
    ("product_listed", {"family": "lamps"},
     "family_fixed", "family", "lamps", "A, fixed at listing"),
    ("product_listed", {"sku": "B", "predecessor": "A"},
     "not_in_family", "predecessor", "A", "a listed product of family B"),
    ("product_listed", {"sku": "B", "family": "A", "anchors": ["A", "C"]},
     "not_in_family", "anchors", "C", "a listed product of family A"),
    ("policy_published", {"policy": "[guards]\n", "policy_sha256": NO_SHA256},
     "hash_mismatch", "policy_sha256", NO_SHA256, policy_sha256("[guards]\n")),
    ("policy_published", policy("[guards]\nfloor = 3\n"),
     "invalid_policy", "policy", "[guards]\nfloor = 3\n",
     "Object contains unknown field `floor` - at `$.guards`"),
    ("policy_published", policy("guards"), "not_toml", "policy", "guards", "TOML"),
    ("prior_published", {"prior": msgspec.to_builtins(DEFAULT_PRIOR), "prior_sha256": NO_SHA256},
     "hash_mismatch", "prior_sha256", NO_SHA256, prior_sha256(DEFAULT_PRIOR)),
    ("prior_published", {"prior": {"source": "s"}, "prior_sha256": NO_SHA256},
     "invalid_prior", "prior", "{'source': 's'}",
     "Object missing required field `mean`"),
    ("calendar_published", {"calendar": {"a": 1}, "calendar_sha256": NO_SHA256},
     "hash_mismatch", "calendar_sha256", NO_SHA256, hashlib.sha256(b'{"a":1}').hexdigest()),
    ("operator_command", {"command": "breaker_trip", "expires_at": rfc3339(at(hours=1))},
     "expired", "expires_at", "2026-01-05 01:00:00+00:00", "a time to come"),
    ("operator_command", {"command": "kill_switch_on", "scope": {"kind": "sku", "name": "A"}},
     "invalid_scope", "scope.kind", "sku", "catalogue"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields", "code", "field", "value", "expected"),
    REFUSED,
    ids=[f"{case[0]}-{case[2]}-{case[3]}" for case in REFUSED],
)
def test_what_contradicts_the_state_changes_nothing_else(
    shop: Partition, kind, fields, code, field, value, expected
) -> None:
    before = records(shop)
    seen = shop.send(kind, at(hours=1), event_id="bad", **fields)
    (letter,) = seen.letters
    assert seen == NOTHING._replace(letters=[letter])
    assert letter.value == orjson.loads(orjson.dumps(event(kind, at(hours=1), "bad", **fields)))
    assert letter.key == (letter.value["sku"].encode() if "sku" in letter.value else None)
    wrong = {name: letter.headers[f"dl_{name}"] for name in ("error", "field", "value", "expected")}
    assert wrong == {"error": code, "field": field, "value": value, "expected": expected}
    assert letter.headers["dl_message"].endswith(f"{field} was {value}; expected {expected}.")
    after = records(shop)
    for remembered in (before, after):  # what the product remembers of event ids may grow
        state = msgspec.msgpack.decode(remembered[b"sku/A"], type=SkuState)
        remembered[b"sku/A"] = packed(msgspec.structs.replace(state, recent_events=b""))
    assert after == before


def test_a_refused_event_is_applied_once_its_cause_is_cured(shop: Partition) -> None:
    shop.send("order_placed", at(hours=1), event_id="first", order_id="o")
    again = {"event_id": "second", "order_id": "o"}
    refused = shop.send("order_placed", at(hours=1), **again)
    assert [letter.headers["dl_error"] for letter in refused.letters] == ["duplicate_line"]
    shop.send("order_cancelled", at(hours=1), order_id="o", quantity=1)
    assert shop.state.epoch.orders == 0
    for _ in range(2):  # the second time it is a repeat
        assert shop.send("order_placed", at(hours=1), **again) == NOTHING
        assert shop.state.epoch.orders == 1
    assert counts(shop)["duplicates"] == 1


def test_a_refused_listing_leaves_no_trace(shop: Partition) -> None:
    """Else the corrected listing would meet a family that was never accepted."""
    refused = shop.send("product_listed", at(hours=1), sku="B", family="b", predecessor="A")
    assert [letter.headers["dl_error"] for letter in refused.letters] == ["not_in_family"]
    successor = shop.send("product_listed", at(hours=1), sku="C", family="b", predecessor="B")
    assert [letter.headers["dl_error"] for letter in successor.letters] == ["not_in_family"]
    assert asked(shop.send("product_listed", at(hours=2), sku="B", family="A")) == [
        ("B", "catalogue")
    ]
    assert sorted(shop.engine.state.catalogue) == ["A", "B"]


# -- the clock


def test_only_a_later_tick_moves_the_clock(shop: Partition) -> None:
    shop.tick(at(hours=2))
    for hours in (2, 1):
        assert shop.tick(at(hours=hours)) == NOTHING
    manifest = shop.engine.state.manifest
    assert manifest.clock_ms == at(hours=2)
    assert (counts(shop)["ticks"], counts(shop)["duplicates"]) == (2, 2)


def test_a_decision_is_dated_by_the_later_of_clock_and_event(shop: Partition) -> None:
    shop.tick(at(hours=5))
    behind = shop.send("cost_changed", at(hours=4), unit_cost_minor=510)
    ahead = shop.send("cost_changed", at(hours=6), unit_cost_minor=520)
    dates = [seen.decision.decided_at for seen in (behind, ahead)]
    assert dates == [rfc3339(at(hours=5)), rfc3339(at(hours=6))]
    assert shop.engine.state.manifest.clock_ms == at(hours=5)


# -- orders, cancellations, returns


def test_an_order_counts_in_the_epoch_and_its_return_cohort(shop: Partition) -> None:
    price = shop.state.published_minor
    assert shop.send(
        "order_placed", at(hours=6), order_id="o1", quantity=3, unit_price_minor=price
    ) == NOTHING  # fmt: skip
    epoch = shop.state.epoch
    assert (epoch.orders, epoch.units, epoch.exposure_days) == (1, 3, 0.25)
    cohort = shop.engine.state.cohorts["A"]["20458/all"]
    assert (cohort.sold, list(cohort.lines.values())) == (3.0, [(3, 3, at(hours=6) - at())])


def test_an_order_from_before_the_epoch_is_late_unless_it_has_its_price(shop: Partition) -> None:
    shop.send("cost_changed", at(hours=5), unit_cost_minor=600)
    price = shop.state.published_minor
    shop.send("order_placed", at(hours=4), order_id="o1", unit_price_minor=price)
    shop.send("order_placed", at(hours=4), order_id="o2", unit_price_minor=price + 1)
    shop.send("order_placed", at(hours=6), order_id="o3", unit_price_minor=price + 1)
    assert (shop.state.epoch.orders, shop.state.late_orders) == (2, 1)


def test_a_cancelled_line_leaves_its_epoch_and_its_cohort(shop: Partition) -> None:
    shop.send("order_placed", at(hours=1), order_id="o1", quantity=3)
    shop.send("order_placed", at(hours=1), order_id="o2")
    shop.send("order_cancelled", at(hours=2), order_id="o1", quantity=1)
    assert (shop.state.epoch.orders, shop.state.epoch.units) == (2, 3)
    shop.send("order_cancelled", at(hours=2), order_id="o2", quantity=1)
    assert (shop.state.epoch.orders, shop.state.epoch.units) == (1, 2)
    assert shop.engine.state.cohorts["A"]["20458/all"].sold == 2.0
    shop.send("order_cancelled", at(hours=2), order_id="unknown")
    assert (shop.state.epoch.orders, shop.state.unmatched_returns) == (1, 1)


def test_a_return_is_matched_to_its_order_or_counted(shop: Partition) -> None:
    shop.send("order_placed", at(hours=1), order_id="o1", quantity=2)
    shop.send("order_returned", at(days=2), order_id="o1", quantity=2)
    assert shop.state.unmatched_returns == 0
    assert shop.engine.state.cohorts["A"]["20458/all"].returned == [2.0, 0.0, 0.0, 0.0, 0.0]
    for order_id in ("o1", "unknown"):  # nothing is left of the first, the second never was
        shop.send("order_returned", at(days=2), order_id=order_id)
    assert shop.state.unmatched_returns == 2


def test_an_absurd_refund_changes_nothing_that_is_learned(kernel: Kernel) -> None:
    cohorts = []
    for refund_minor in (0, 10**12):
        shop = Partition(kernel)
        shop.send("product_listed", at())
        shop.send("order_placed", at(hours=1), order_id="o1", quantity=2)
        shop.send("order_returned", at(days=2), order_id="o1", refund_minor=refund_minor,
                  return_cost_minor=refund_minor)  # fmt: skip
        cohorts.append(shop.engine.state.cohorts["A"]["20458/all"])
    assert cohorts[0] == cohorts[1]
    assert cohorts[0].returned == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_cohort_teaches_at_the_first_tick_of_a_day_and_leaves_a_tombstone(
    shop: Partition,
) -> None:
    shop.send("order_placed", at(hours=1), order_id="o1", quantity=2)
    key = b"cohort/A/20458/all"
    assert key in shop.stored
    before = shop.stored[b"returns"]
    shop.tick(at(days=3, hours=23))
    assert shop.stored[b"returns"] == before
    shop.tick(at(days=4))  # the youngest unit is 3 days old
    taught = shop.stored[b"returns"]
    assert taught != before
    assert orjson.loads(shop.stored[key])["milestones_done"] == 1
    batch = shop.engine.apply([shop.tape.add("clock_ticked", at(days=62))])
    assert (key, None) in batch.state


# -- epochs


def test_an_epoch_closes_in_the_first_round_after_a_day_with_ten_orders(shop: Partition) -> None:
    shop.send("cost_changed", at(hours=6), unit_cost_minor=550)
    for number in range(10):
        shop.send("order_placed", at(hours=7 + number / 4), order_id=f"o{number}")
    learned = shop.state.posterior.epochs
    assert shop.tick(at(days=1, hours=6)) == NOTHING
    assert shop.tick(at(days=2, minutes=-1)) == NOTHING
    assert asked(shop.tick(at(days=2))) == [("A", "epoch")]
    assert shop.state.posterior.orders == 10
    assert shop.state.posterior.epochs == learned + 1


def test_without_orders_an_epoch_closes_after_two_weeks(shop: Partition) -> None:
    assert shop.tick(at(days=13, hours=23)) == NOTHING
    assert asked(shop.tick(at(days=14, hours=1))) == [("A", "epoch")]
    assert (shop.state.posterior.orders, shop.state.posterior.epochs) == (0, 1)


def test_traffic_is_exposure(shop: Partition) -> None:
    day = {"from_time": rfc3339(at()), "to_time": rfc3339(at(days=1))}
    assert shop.send("traffic_counted", at(days=1), visits=100, **day) == NOTHING
    assert shop.state.traffic == Traffic(100.0, 100.0, at(days=1))
    day = {"from_time": rfc3339(at(days=1)), "to_time": rfc3339(at(days=2))}
    shop.send("traffic_counted", at(days=2), visits=170, **day)
    assert shop.state.traffic == Traffic(100.0, 110.0, at(days=2))
    assert shop.state.epoch.visits == 170.0
    shop.send("traffic_counted", at(days=2), visits=999, **day)  # an older or equal report
    assert shop.state.epoch.visits == 170.0


def test_a_night_is_no_typical_day(shop: Partition) -> None:
    def count(from_hour: int, to_hour: int, visits: int) -> None:
        shop.send(
            "traffic_counted", at(hours=to_hour), visits=visits,
            from_time=rfc3339(at(hours=from_hour)), to_time=rfc3339(at(hours=to_hour)),
        )  # fmt: skip

    for from_hour, visits in ((0, 2), (6, 30), (12, 60)):
        count(from_hour, from_hour + 6, visits)
        count(from_hour, from_hour + 6, 999)  # the same hours again
    assert (shop.state.traffic, shop.state.epoch.visits) == (None, None)  # time is exposure so far
    assert shop.state.first_traffic == FirstTraffic(92, 0.75, at(hours=18))
    count(18, 24, 28)
    assert shop.state.traffic == Traffic(120.0, 120.0, at(hours=24))
    assert (shop.state.first_traffic, shop.state.epoch.visits) == (None, 0.0)


# -- rivals


def rival(shop: Partition, hours: float, price_minor: int | None, **fields: Any) -> Seen:
    return shop.send(
        "competitor_price_observed", at(hours=hours), price_minor=price_minor, **fields
    )


def test_a_rival_that_moves_by_3_percent_asks_for_a_price(shop: Partition) -> None:
    assert asked(rival(shop, 1, 1000)) == [("A", "rival price")]
    assert rival(shop, 2, 1029) == NOTHING
    assert rival(shop, 3, 971) == NOTHING
    assert asked(rival(shop, 4, 1031)) == [("A", "rival price")]
    assert rival(shop, 5, 1005) == NOTHING  # 3 % from the price that the epoch began with
    assert asked(rival(shop, 6, None, listed=False)) == [("A", "rival price")]
    assert asked(rival(shop, 7, 1031)) == [("A", "rival price")]
    assert asked(rival(shop, 8, 1031, in_stock=False)) == [("A", "rival price")]
    assert shop.state.rivals == {"rival": Rival(None, at(hours=8), 1.0)}


def test_old_wrong_and_ill_matched_prices_of_rivals_move_nothing(shop: Partition) -> None:
    slip = rival(shop, 1, 100)  # a tenth: a slip of the decimal point
    assert alerts(slip) == [("data_quality", "A", "rival's price is 0.1 times the reference price")]
    assert slip == NOTHING._replace(alerts=slip.alerts)
    assert rival(shop, 2, 900, match_confidence=0.49) == NOTHING
    assert asked(rival(shop, 3, 900)) == [("A", "rival price")]
    assert rival(shop, 2, 1000) == NOTHING  # from before what is known
    assert shop.state.rivals == {"rival": Rival(900, at(hours=3), 1.0)}


def test_the_median_of_rivals_counts(shop: Partition) -> None:
    rival(shop, 1, 900, competitor="one")
    rival(shop, 1, 1000, competitor="two")
    found = rival(shop, 1, 1100, competitor="three").decision.record
    assert found is not None
    assert msgspec.to_builtins(found.competitors) == {
        "robust_price_minor": 1000.0, "rivals_used": 3, "rivals_seen": 3,
    }  # fmt: skip
    # one of three runs away: the median stays
    assert rival(shop, 2, 2000, competitor="three") == NOTHING


# -- stock


def test_edges_and_large_moves_of_stock_ask_for_a_price(shop: Partition) -> None:
    def stock(hours: float, on_hand: int) -> list[tuple[str, str]]:
        return asked(shop.send("inventory_changed", at(hours=hours), on_hand=on_hand))

    assert stock(1, 100) == [("A", "stock level")]  # the first report
    assert stock(2, 51) == []
    assert stock(3, 49) == [("A", "stock level")]  # less than half of what was decided on
    assert stock(4, 98) == []
    assert stock(5, 99) == [("A", "stock level")]
    assert stock(6, 0) == [("A", "stock edge")]
    assert shop.state.epoch.in_stock is False
    assert stock(7, 0) == []
    assert stock(8, 1) == [("A", "stock edge")]
    assert stock(9, 2) == []  # a unit or two is no news
    assert stock(8.5, 50) == []  # from before what is known
    assert shop.state.stock.on_hand == 2


def test_inbound_stock_has_its_time(shop: Partition) -> None:
    eta = rfc3339(at(days=3))
    shop.send("inventory_changed", at(hours=1), on_hand=5, inbound=20, inbound_eta=eta)
    assert shop.state.stock == Stock(5, 20, at(days=3), at(hours=1))


# -- catalogue


def test_a_product_without_a_cost_is_blocked_once_until_its_cost_comes(empty: Partition) -> None:
    no_cost = "A is not priced: no unit cost is known, so there is no floor"
    listed = empty.send("product_listed", at(), unit_cost_minor=None)
    assert (listed.decisions, alerts(listed)) == ([], [("product_blocked", "A", no_cost)])
    alert = listed.alerts[0]
    assert (alert.alert_id, alert.at, alert.evidence) == (
        "0-0-product_blocked-A", "2026-01-05T00:00:00.000Z", {"trigger": "catalogue"},
    )  # fmt: skip
    assert rival(empty, 1, 900) == NOTHING
    came = empty.send("cost_changed", at(hours=2), unit_cost_minor=400)
    assert asked(came) == [("A", "cost")]
    assert alerts(came) == [("product_unblocked", "A", "A is priced again")]
    went = empty.send("cost_changed", at(hours=3), unit_cost_minor=None)
    assert (went.decisions, alerts(went)) == ([], [("product_blocked", "A", no_cost)])


def test_without_a_list_price_the_experts_mark_up_is_the_reference(empty: Partition) -> None:
    empty.send("product_listed", at(), unit_cost_minor=None, list_price_minor=None, vat_rate=0.25)
    assert empty.state.reference_price_minor is None
    empty.send("cost_changed", at(hours=1), unit_cost_minor=333)
    assert empty.state.reference_price_minor == 833  # 2 x 333 x 1.25, rounded up
    empty.send("cost_changed", at(hours=2), unit_cost_minor=500)
    assert empty.state.reference_price_minor == 833


def test_a_cost_change_reprices_at_once(shop: Partition) -> None:
    seen = shop.send("cost_changed", at(hours=1), unit_cost_minor=900)
    assert asked(seen) == [("A", "cost")]
    assert seen.decision.price_minor == 948  # 900 / 0.95, rounded up
    entry = shop.engine.state.catalogue["A"]
    assert (entry.unit_cost_minor, entry.changed_ms) == (900, at(hours=1))


def test_a_retired_product_is_not_priced_and_goes_on_where_it_was(shop: Partition) -> None:
    price, gone = shop.state.published_minor, "A is not priced: the product is retired"
    retired = shop.send("product_retired", at(hours=1))
    assert (retired.decisions, alerts(retired)) == ([], [("product_blocked", "A", gone)])
    assert shop.send("cost_changed", at(hours=2), unit_cost_minor=510) == NOTHING
    assert rival(shop, 2, 700) == NOTHING
    assert shop.tick(at(days=28)) == NOTHING
    again = shop.send("product_listed", at(days=29))
    assert (again.decision.version, again.decision.previous_minor) == (2, price)
    assert alerts(again) == [("product_unblocked", "A", "A is priced again")]


def test_a_successor_inherits_what_its_predecessor_learned(shop: Partition) -> None:
    for number in range(12):
        shop.send("order_placed", at(hours=1 + number / 2), order_id=f"o{number}")
    shop.tick(at(days=2))
    shop.send("product_listed", at(days=3), sku="B", family="A", predecessor="A")
    before = shop.state.posterior
    shop.send(
        "product_listed", at(days=3), sku="C", family="A", predecessor="A", succession="demotes"
    )
    skus = shop.engine.state.skus
    # who stays below a successor sells to others now: known as before, and doubted
    assert skus["A"].posterior == replace(before, cov=tuple(2.0 * entry for entry in before.cov))
    assert (before.orders, skus["B"].posterior.cov) == (12, skus["A"].posterior.cov)
    assert skus["B"].posterior.mean == skus["A"].posterior.mean
    assert skus["B"].prior_kind == "predecessor A"
    assert skus["C"].posterior.mean == DEFAULT_PRIOR.mean
    assert skus["C"].prior_kind == "unseen_category"


# -- the price that the shop shows


def test_a_shop_that_follows_our_price_asks_for_nothing(shop: Partition) -> None:
    ours, exogenous = shop.state.published_minor, shop.state.published_exogenous_log
    assert exogenous != 0.0  # it explores
    assert shop.send("price_applied", at(hours=1), price_minor=ours, price_id="x") == NOTHING
    epoch = shop.state.epoch
    assert (epoch.start_ms, epoch.price_minor) == (at(hours=1), ours)
    assert (epoch.ln_price, epoch.control) == (math.log(ours / 1000), 0.0)
    # told once more: the epoch goes on
    assert shop.send("price_applied", at(hours=2), price_minor=ours) == NOTHING
    assert shop.state.epoch.start_ms == at(hours=1)


def test_a_price_of_the_shops_own_is_followed_and_asks_for_a_decision(shop: Partition) -> None:
    assert asked(shop.send("price_applied", at(hours=1), price_minor=999)) == [
        ("A", "price applied")
    ]
    epoch = shop.state.epoch
    assert (epoch.start_ms, epoch.price_minor, shop.state.exogenous_log) == (at(hours=1), 999, 0.0)
    # what we publish then does not begin an epoch: buyers do not see it yet
    shop.send("cost_changed", at(hours=2), unit_cost_minor=700)
    assert shop.state.epoch == epoch


def test_a_price_that_the_calendar_explains_is_exogenous(shop: Partition) -> None:
    for sku, days, depth in (("A", (1, 2), 0.2), ("A", (5, 6), 0.3), ("Z", (1, 9), 0.5)):
        shop.send(
            "promotion_scheduled",
            at(hours=1),
            skus=[sku],
            from_time=rfc3339(at(days=days[0])),
            to_time=rfc3339(at(days=days[1])),
            depth=depth,
        )
    first, second = shop.engine.state.windows["A"].promotions  # Z is not of this partition
    assert first == Promotion(
        from_ms=at(days=1), to_ms=at(days=2), log_depth=math.log1p(-0.2), announced=True,
        kind="winter", depth=0.2,
    )  # fmt: skip
    for hours, exogenous in ((23, 0.0), (24, first.log_depth), (48, 0.0), (121, second.log_depth)):
        shop.send("price_applied", at(hours=hours), price_minor=700 + hours)
        assert shop.state.exogenous_log == exogenous
        assert shop.state.epoch.control == shop.state.epoch.ln_price - exogenous


# -- controls


def test_a_policy_reprices_everything_at_the_next_tick(shop: Partition) -> None:
    shop.send("product_listed", at(hours=1), sku="B")
    shop.send("product_listed", at(hours=1), sku="C", unit_cost_minor=None)
    text = "[guards]\nmargin_floor_ratio = 0.45\n"
    assert shop.send("policy_published", at(hours=2), **policy(text)) == NOTHING
    seen = shop.tick(at(hours=3))
    assert asked(seen) == [("A", "policy"), ("B", "policy")]
    assert {d.policy_sha256 for d in seen.decisions} == {policy_sha256(text)}
    assert [d.price_minor for d in seen.decisions] == [910, 910]  # 500 / 0.55, rounded up
    assert orjson.loads(shop.stored[b"policy"]) == {"policy": text}
    assert shop.tick(at(hours=4)) == NOTHING


def test_a_kill_switch_holds_every_price_until_it_is_off(shop: Partition) -> None:
    price = shop.state.published_minor
    on = shop.send("operator_command", at(hours=1), command="kill_switch_on")
    assert alerts(on) == [("kill_switch", None, "kill switch on")]
    assert on.alerts[0].evidence == {"actor": "kim", "reason": "drill", "on": True}
    held = shop.send("cost_changed", at(hours=2), unit_cost_minor=900)
    assert (held.decision.status, held.decision.reasons, held.latest) == (
        "held", ("kill switch: kim: drill",), [],
    )  # fmt: skip
    assert (held.decision.price_minor, held.decision.wanted_minor) == (price, 948)
    assert (held.decision.effective_from, held.decision.valid_until) == (None, None)
    assert shop.state.published_minor == price
    off = shop.send("operator_command", at(hours=3), command="kill_switch_off")
    assert alerts(off) == [("kill_switch", None, "kill switch off")]
    # what was held is decided anew at the next tick: a price below the new cost must not stay
    anew = shop.tick(at(hours=3, minutes=1))
    assert (anew.decision.status, anew.decision.price_minor, anew.decision.reasons[0]) == (
        "published", 948, "trigger: kill switch off",
    )  # fmt: skip


def test_a_kill_switch_expires_by_the_tapes_clock(shop: Partition) -> None:
    shop.send(
        "operator_command", at(hours=1), command="kill_switch_on", expires_at=rfc3339(at(hours=5))
    )
    assert shop.tick(at(hours=4, minutes=59)) == NOTHING
    held = shop.send("cost_changed", at(hours=6), unit_cost_minor=510)  # the clock is not there
    assert held.decision.status == "held"
    expired = shop.tick(at(hours=5))
    assert alerts(expired) == [("kill_switch", None, "kill switch off: it expired")]
    assert (expired.decision.status, expired.decision.reasons[0]) == (
        "published", "trigger: kill switch off",
    )  # fmt: skip


def test_an_operators_trip_holds_until_the_reset_and_a_canary_follows(shop: Partition) -> None:
    scope = {"kind": "sku", "name": "A"}
    price = shop.state.published_minor
    tripped = shop.send("operator_command", at(hours=1), command="breaker_trip", scope=scope)
    assert alerts(tripped) == [("breaker_changed", "A", "CLOSED -> OPEN by kim: drill")]
    held = shop.send("cost_changed", at(days=3), unit_cost_minor=550)  # it does not cool down
    assert (held.decision.status, held.decision.reasons) == ("held", ("breaker: manual trip",))
    reset = shop.send("operator_command", at(days=4), command="breaker_reset", scope=scope)
    assert alerts(reset) == [
        ("breaker_changed", "A", "OPEN -> HALF_OPEN by kim: drill"),
        ("breaker_changed", "A", "HALF_OPEN -> CLOSED: canary passed"),
    ]
    assert asked(reset) == [("A", "breaker reset")]
    assert abs(reset.decision.price_minor / price - 1) <= 0.02
    assert counts(shop)["breaker_trips"] == 1


@pytest.mark.parametrize(
    ("scope", "own", "held"),
    [
        ({"kind": "sku", "name": "B1"}, ["B1"], ["B1"]),
        ({"kind": "family", "name": "B1"}, [], ["B1", "B2"]),
        ({"kind": "sku", "name": "nobody"}, [], []),
        ({"kind": "family", "name": "nobody"}, [], []),
        ({"kind": "catalogue"}, [], ["A", "B1", "B2"]),
    ],
)
def test_a_command_reaches_its_scope(shop: Partition, scope, own, held) -> None:
    for sku in ("B1", "B2", "C"):
        shop.send("product_listed", at(), sku=sku, family="B1" if sku != "C" else None)
    shop.send("product_retired", at(), sku="C")
    shop.send("operator_command", at(hours=1), command="breaker_trip", scope=scope)
    skus = shop.engine.state.skus
    assert [sku for sku in sorted(skus) if skus[sku].breaker.state == "OPEN"] == own
    found = [
        shop.send("cost_changed", at(hours=2), sku=sku, unit_cost_minor=510).decision
        for sku in ("A", "B1", "B2")
    ]
    assert [one.sku for one in found if one.status == "held"] == held


def test_products_change_over_to_a_new_prior(shop: Partition) -> None:
    prior = msgspec.structs.replace(DEFAULT_PRIOR, mean=(1.0, -3.5, 0.2, 0.0), dispersion=0.1)
    sha256 = prior_sha256(prior)
    before = shop.state.posterior
    assert before is not None
    assert before.orders == 0
    published = {"prior": msgspec.to_builtins(prior), "prior_sha256": sha256}
    assert shop.send("prior_published", at(hours=1), **published) == NOTHING
    listed = shop.send("product_listed", at(hours=2), sku="B")
    assert shop.engine.state.skus["B"].posterior.mean == prior.mean
    assert listed.decision.prior_sha256 == sha256
    assert shop.state.posterior.mean == pytest.approx(prior.mean)
    assert shop.state.posterior.cov == pytest.approx(before.cov)
    assert shop.engine.state.demand_settings.dispersion == 0.1
    assert shop.stored[b"prior"] == canonical(prior)


def test_an_heir_keeps_its_inheritance_when_the_prior_changes(shop: Partition) -> None:
    shop.send("product_listed", at(hours=1), sku="A2", family="A", predecessor="A")
    before = shop.engine.state.skus["A2"].posterior
    prior = msgspec.structs.replace(DEFAULT_PRIOR, mean=(1.0, -3.5, 0.2, 0.0))
    published = {"prior": msgspec.to_builtins(prior), "prior_sha256": prior_sha256(prior)}
    shop.send("prior_published", at(hours=2), **published)
    assert shop.engine.state.skus["A2"].posterior == before


def calendar(table: dict[str, Any]) -> dict[str, Any]:
    return {"calendar": table, "calendar_sha256": hashlib.sha256(canonical(table)).hexdigest()}


def test_a_calendar_is_kept_and_known_by_its_hash(shop: Partition) -> None:
    sent = calendar({"2026-11-27": "black friday", "2026-12-25": ["christmas_day", "pay_day"]})
    assert shop.send("calendar_published", at(hours=1), **sent) == NOTHING
    state = shop.engine.state
    assert state.manifest.calendar_sha256 == sent["calendar_sha256"]
    assert state.days.calendar == {
        "2026-11-27": ("black_friday",), "2026-12-25": ("christmas_day", "pay_day"),
    }  # fmt: skip
    assert shop.stored[b"days"] == canonical(state.days)


BAD_CALENDARS = [
    # table, field, value, expected
    ({"27.11.2026": ["x"]}, "calendar", "27.11.2026", "dates as 2026-11-27"),
    ({"2026-02-30": ["x"]}, "calendar", "2026-02-30", "dates as 2026-11-27"),
    ({"2026-11-27": {"kind": "x"}}, "calendar.2026-11-27", "{'kind': 'x'}",
     "a kind, or a list of 1 to 16"),
    ({"2026-11-27": []}, "calendar.2026-11-27", "[]", "a kind, or a list of 1 to 16"),
    ({"2026-11-27": ["Black!"]}, "calendar.2026-11-27", "Black!",
     "kinds in lower case, at most 64 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "field", "value", "expected"), BAD_CALENDARS)
def test_a_wrong_calendar_is_a_dead_letter(shop: Partition, table, field, value, expected) -> None:
    before = canonical(shop.engine.state.days)
    (letter,) = shop.send("calendar_published", at(hours=1), **calendar(table)).letters
    found = [letter.headers[f"dl_{name}"] for name in ("error", "field", "value", "expected")]
    assert found == ["invalid_calendar", field, value, expected]
    assert canonical(shop.engine.state.days) == before
    assert shop.engine.state.manifest.calendar_sha256 is None


def test_another_engine_is_noted_and_told(shop: Partition) -> None:
    changed = shop.send("engine_changed", at(hours=1), fingerprint="b 9", previous="a", worker="w")
    assert alerts(changed) == [("engine_changed", None, "another engine fingerprint prices")]
    assert changed.alerts[0].evidence == {"from": "a", "to": "b 9", "worker": "w"}
    assert shop.engine.state.manifest.engine == "b 9"


# -- names and numbers of decisions


def test_versions_have_no_gap_and_ids_name_the_place_on_the_tape(kernel: Kernel) -> None:
    shop = Partition(kernel, partition=3)
    seen = [shop.send("product_listed", at()), shop.send("product_listed", at(), sku="B")]
    seen.append(shop.send("operator_command", at(hours=1), command="kill_switch_on"))
    for hours in range(2, 6):
        seen.append(shop.send("cost_changed", at(hours=hours), unit_cost_minor=500 + hours))
    decisions = [decision for one in seen for decision in one.decisions]
    assert [(d.price_id, d.version) for d in decisions] == [
        ("3-0-A", 1), ("3-1-B", 1), ("3-3-A", 2), ("3-4-A", 3), ("3-5-A", 4), ("3-6-A", 5),
    ]  # fmt: skip
    assert [(d.tape.partition, d.tape.offset) for d in decisions] == [
        (3, int(d.price_id.split("-")[1])) for d in decisions
    ]


def test_only_effective_prices_are_the_latest(shop: Partition) -> None:
    published = shop.send("cost_changed", at(hours=1), unit_cost_minor=520)
    assert published.latest == published.decisions
    shop.send("operator_command", at(hours=2), command="kill_switch_on")
    held = shop.send("cost_changed", at(hours=3), unit_cost_minor=540)
    assert (len(held.decisions), held.latest) == (1, [])


def test_a_tape_record_keeps_the_events_bytes(shop: Partition) -> None:
    _, value = shop.tape.records[0]
    assert tape.raw_event(value) == orjson.dumps(event("product_listed", at(), "products-0"))
