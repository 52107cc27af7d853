"""The prior price equals brute force over random histories, on the clocks of several markets.

The brute force shares no code with the library: it walks the whole history with `zoneinfo` and the
IANA zone whose POSIX rule the library was given, and knows neither queue nor window arithmetic.
"""

import math
import random
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from models.guards import prior_price
from models.guards.prior_price import MarketRule
from schemas.codec import packed
from schemas.state import PriceWindow, Promotion
from schemas.time_zones import day_start_ms, local_date, zone_of_rule
from streams.controls.time_zone_names import posix_rule

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HISTORIES = 10_000
# Both hemispheres, no daylight saving, half hours, a negative one, midnight that is skipped or
# comes twice.
ZONES = (
    "Europe/Berlin", "Europe/Dublin", "America/New_York", "America/Santiago", "America/Havana",
    "Asia/Kolkata", "Asia/Beirut", "Asia/Tokyo", "Australia/Lord_Howe", "America/Nuuk", "Etc/UTC",
)  # fmt: skip
# Changes of the clocks near which histories are laid.
SEASONS = [datetime(2026, month, 25, tzinfo=UTC) for month in (1, 3, 4, 7, 9, 10, 11)]


class Reduction(NamedTuple):
    from_ms: int
    to_ms: int
    depth: float


class History(NamedTuple):
    shown: list[tuple[int, int]]  # from when, price
    reductions: list[Reduction]


def test_the_prior_price_is_that_of_brute_force_on_10_000_histories() -> None:
    rng, overlapping, deepened, young = random.Random(20260329), 0, 0, 0
    iana = {name: ZoneInfo(name) for name in ZONES}
    rules = {name: zone_of_rule(posix_rule(name)) for name in ZONES}
    for number in range(HISTORIES):
        history = draw(rng)
        names = rng.sample(ZONES, 2)
        days, progressive = rng.choice((7, 30, 30, 60)), rng.random() < 0.5
        markets = [MarketRule(name, rules[name], days, progressive, None, ()) for name in names]
        found = by_library(history, markets, rng)
        for name in names:
            expected = [
                brute_force(history, index, iana[name], days, progressive)
                for index in range(len(history.reductions))
            ]
            assert found[name] == expected, f"history {number}, {name}, {days} days: {history}"
            deepened += sum(
                one is not None and one != lowest_before(history, reduction, iana[name], days)
                for one, reduction in zip(expected, history.reductions, strict=True)
            )
        overlapping += any(
            one.from_ms < other.from_ms < one.to_ms
            for one in history.reductions
            for other in history.reductions
        )
        young += history.shown[0][0] > history.reductions[-1].from_ms - 29 * DAY_MS
    assert min(overlapping, deepened, young) > 1_000  # the cases that matter were among them


def draw(rng: random.Random) -> History:
    """Prices at odd minutes, at local midnights and twice at one instant; reductions overlap."""
    begin_ms = (rng.choice(SEASONS) - EPOCH) // timedelta(milliseconds=1) - 45 * DAY_MS
    span = rng.choice((20, 60, 90))
    at = sorted(
        begin_ms + rng.randrange(span * 48) * HOUR_MS // 2 for _ in range(rng.randint(1, 24))
    )
    level, shown = rng.randint(500, 2_000), []
    for at_ms in at:
        level = max(1, level + rng.choice((-200, -50, -1, 0, 1, 30, 60, 200)))
        shown.append((at_ms, level))
    reductions = []
    for _ in range(rng.randint(1, 4)):
        from_ms = at[-1] - rng.randrange(20 * 48) * HOUR_MS // 2
        to_ms = from_ms + rng.randint(1, 20 * 24) * HOUR_MS
        reductions.append(Reduction(from_ms, to_ms, rng.choice((0.05, 0.1, 0.2, 0.3, 0.5))))
    return History(shown, sorted(reductions))


def by_library(
    history: History, markets: list[MarketRule], rng: random.Random
) -> dict[str, list[int | None]]:
    """Prices are shown one by one to a window that is packed and unpacked in between."""
    window = PriceWindow(
        sku="A",
        looked_ms=0,
        promotions=tuple(
            Promotion(one.from_ms, one.to_ms, math.log1p(-one.depth), True, "sale", one.depth)
            for one in history.reductions
        ),
    )
    for at_ms, price_minor in history.shown:
        if rng.random() < 0.2:
            window = msgspec.msgpack.decode(packed(window), type=PriceWindow)
        prior_price.show(window, price_minor, at_ms, markets)
    return {
        rule.market: [prior_price.prior_minor(window, one, rule) for one in window.promotions]
        for rule in markets
    }


def brute_force(
    history: History, index: int, zone: ZoneInfo, days: int, progressive: bool
) -> int | None:
    reduction = history.reductions[index]
    if progressive:
        before = [
            number
            for number, one in enumerate(history.reductions)
            if one.from_ms < reduction.from_ms and one.to_ms >= reduction.from_ms
        ]
        if before and all(history.reductions[one].depth < reduction.depth for one in before):
            firsts = [brute_force(history, one, zone, days, progressive) for one in before]
            return min((first for first in firsts if first is not None), default=None)
    return lowest_before(history, reduction, zone, days)


def lowest_before(history: History, reduction: Reduction, zone: ZoneInfo, days: int) -> int | None:
    """The lowest price in force on any of the local dates from so many before the reduction's."""
    first = date_of(reduction.from_ms, zone) - timedelta(days=days)
    lowest = None
    for number, (from_ms, price_minor) in enumerate(history.shown):
        last = number + 1 == len(history.shown)
        until_ms = reduction.from_ms if last else history.shown[number + 1][0]
        if from_ms >= reduction.from_ms:
            continue
        # Its last instant in force is just before until_ms; one replaced at once counts for that.
        if date_of(min(until_ms, reduction.from_ms) - 1, zone) >= first:
            lowest = price_minor if lowest is None else min(lowest, price_minor)
    return lowest


def date_of(at_ms: int, zone: ZoneInfo) -> date:
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()


# -- cases by hand


BERLIN = MarketRule("DE", zone_of_rule("CET-1CEST,M3.5.0,M10.5.0/3"), 30, False, None, ())


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


CASES = [
    # why, prices (from when, minor), reduction from, its prior price
    ("nothing was shown before", [("2026-05-02T00:00Z", 900)], "2026-05-01T00:00Z", None),
    ("shown since yesterday", [("2026-04-30T00:00Z", 900)], "2026-05-01T00:00Z", 900),
    ("in force when the window opens", [("2026-01-01T00:00Z", 700), ("2026-04-15T00:00Z", 900)],
     "2026-05-01T00:00Z", 700),
    ("ended a millisecond before it opens: 1 April, 00:00 in summer time is 22:00 UTC",
     [("2026-01-01T00:00Z", 700), ("2026-03-31T21:59:59.999Z", 900)], "2026-05-01T00:00Z", 900),
    ("ended a millisecond after", [("2026-01-01T00:00Z", 700), ("2026-03-31T22:00:00.001Z", 900)],
     "2026-05-01T00:00Z", 700),
    ("23:30 UTC is the next day in Berlin", [("2026-01-01T00:00Z", 700),
     ("2026-03-31T22:00Z", 900)], "2026-04-30T23:30Z", 900),
    ("21:30 UTC is not", [("2026-01-01T00:00Z", 700), ("2026-03-31T22:00Z", 900)],
     "2026-04-30T21:30Z", 700),
    ("winter time: 1 February, 00:00 is 23:00 UTC", [("2026-01-01T00:00Z", 700),
     ("2026-01-31T23:00Z", 900)], "2026-03-03T12:00Z", 900),
    ("what is shown from its beginning on is the reduction", [("2026-04-20T00:00Z", 900),
     ("2026-05-01T00:00Z", 600)], "2026-05-01T00:00Z", 900),
]  # fmt: skip


@pytest.mark.parametrize(("why", "shown", "begins", "prior"), CASES, ids=[one[0] for one in CASES])
def test_the_windows_edges(
    why: str, shown: list[tuple[str, int]], begins: str, prior: int | None
) -> None:
    del why
    sale = Promotion(ms(begins), ms(begins) + DAY_MS, 0.0, True, "sale", 0.2)
    window = PriceWindow(sku="A", looked_ms=0, promotions=(sale,))
    for at, price_minor in shown:
        prior_price.show(window, price_minor, ms(at), [BERLIN])
    assert prior_price.prior_minor(window, window.promotions[0], BERLIN) == prior


def test_a_new_arrival_has_a_shorter_period_where_the_market_says_so() -> None:
    window = PriceWindow(sku="A", looked_ms=0)
    for day, price_minor in ((1, 500), (10, 900), (20, 800)):
        prior_price.show(window, price_minor, ms(f"2026-05-{day:02}T00:00Z"), [BERLIN])
    sale = Promotion(ms("2026-05-25T00:00Z"), ms("2026-05-26T00:00Z"), 0.0, True, "sale", 0.2)
    assert prior_price.prior_minor(window, sale, BERLIN) == 500
    assert prior_price.prior_minor(window, sale, BERLIN._replace(new_arrival_days=7)) == 800


def test_the_queue_has_a_limit_and_errs_to_the_low_side() -> None:
    window, start_ms = PriceWindow(sku="A", looked_ms=0), ms("2026-05-01T00:00Z")
    for hour in range(200):  # a new high every hour: nothing that a later low makes useless
        prior_price.show(window, 1_000 + hour, start_ms + hour * HOUR_MS, [BERLIN])
    assert len(window.since_ms) == prior_price.QUEUE_MAX
    lows = [prior_price.lowest_since(window, start_ms + hour * HOUR_MS) for hour in range(200)]
    assert lows[:73] == [1_000] * 73
    assert lows[73:] == [1_000 + hour for hour in range(73, 200)]


def test_prices_long_past_are_forgotten() -> None:
    window, start_ms = PriceWindow(sku="A", looked_ms=0), ms("2026-01-01T00:00Z")
    for day in range(120):
        prior_price.show(window, 1_000 + day, start_ms + day * DAY_MS, [BERLIN])
    assert window.since_ms[0] == start_ms + (119 - 30 - prior_price.LATE_DAYS - 1) * DAY_MS
    assert window.first_ms == start_ms


@pytest.mark.parametrize("depth", [0.05, 0.07, 0.1, 0.2, 0.29, 0.3, 1 / 3, 0.57])
def test_the_reduced_price_is_exact_and_never_too_high(depth: float) -> None:
    named = Fraction(repr(depth))
    for prior in (1, 99, 100, 999, 1_000, 12_345, 10**9 + 1):
        expected = math.floor(prior * (1 - named))
        assert prior_price.reduced_minor(prior, depth) == expected


# -- clocks


@pytest.mark.parametrize("name", ZONES)
def test_a_rule_has_the_days_of_its_zone(name: str) -> None:
    rule, zone = zone_of_rule(posix_rule(name)), ZoneInfo(name)
    for day in range(20_454, 20_454 + 2 * 366):  # 2026 and 2027
        for hour in (0, 5, 12, 22):
            at_ms = day * DAY_MS + hour * HOUR_MS
            assert local_date(at_ms, rule) == date_of(at_ms, zone)
        local = date_of(day * DAY_MS, zone)
        start_ms = day_start_ms(local, rule)
        assert (date_of(start_ms, zone), date_of(start_ms - 1, zone) < local) == (local, True)


@pytest.mark.parametrize(
    "text",
    ["Europe/Berlin", "", "CET-1CEST", "CET", "UTC0\nUTC1", "CET-1CEST,M13.5.0,M10.5.0/3", "é0"],
)
def test_what_is_no_rule_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expected a POSIX TZ rule such as .*policy check"):
        zone_of_rule(text)
