"""Announced reductions and emergency caps, from their event to the price in the shop."""

from typing import Any

import pytest

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.events import rfc3339
from schemas.outputs import PriceDecided
from schemas.prior_prices import PriorPriceView
from tests.models.tapes import Partition, Seen, at, policy

MARKETS = """
[markets.DE]
time_zone = "CET-1CEST,M3.5.0,M10.5.0/3"
[markets.JP]
time_zone = "JST-9"
[decision]
exploration_log = 0.0
"""


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    """A lamp whose best price is above its list price, so that it stays at that, 1000."""
    found = Partition(kernel)
    found.send("policy_published", at(), **policy(MARKETS))
    found.send("product_listed", at(), unit_cost_minor=500, list_price_minor=1000)
    return found


def promote(shop: Partition, at_ms: int, begins: int, ends: int, depth: float, **more: Any) -> Seen:
    return shop.send(
        "promotion_scheduled",
        at_ms,
        skus=["A"],
        from_time=rfc3339(begins),
        to_time=rfc3339(ends),
        depth=depth,
        **more,
    )


def ticks(shop: Partition, begin: float, end: float, hours: int = 6) -> list[PriceDecided]:
    """Decisions of ticks from one day to another."""
    found: list[PriceDecided] = []
    for step in range(int(begin * 24), int(end * 24), hours):
        found += shop.tick(at(hours=step)).decisions
    return found


def view(market: str, prior_minor: int, highest_minor: int, **more: Any) -> PriorPriceView:
    days = {"from_time": rfc3339(at(days=21, hours=7)), "to_time": rfc3339(at(days=23, hours=13))}
    return PriorPriceView(
        market=market,
        prior_minor=prior_minor,
        depth=0.3,
        highest_minor=highest_minor,
        promotion="winter",
        **days | more,
    )


def test_a_price_keeps_what_is_announced_from_beginning_to_end_and_comes_back(
    shop: Partition,
) -> None:
    ticks(shop, 0, 20)  # 820 at first, 847 since day 14
    promote(shop, at(days=20), at(days=21, hours=7), at(days=23, hours=13), 0.3)
    begins, ends = ticks(shop, 20, 26)
    assert (begins.decided_at, begins.price_minor) == (rfc3339(at(days=21, hours=12)), 574)
    assert begins.reasons == (
        "trigger: promotion begins", "guard: announced_reduction", "gave way: day_step",
        "gave way: step",
    )  # fmt: skip
    assert begins.record is not None
    assert begins.record.prior_prices == (view("DE", 820, 574), view("JP", 820, 574))
    # The way back is further than the steps of 10 % and 20 % a day allow, and no step.
    assert (ends.decided_at, ends.price_minor) == (rfc3339(at(days=23, hours=18)), 847)
    assert ends.status == "published"
    assert ends.record is not None
    assert ends.record.prior_prices == ()


def test_markets_have_their_own_prior_price_and_the_price_keeps_both(shop: Partition) -> None:
    # 700 was shown until 16:00 UTC on the 5th: that is the 6th in Tokyo. Of a reduction on 5
    # February, 12:00 UTC, the window opens on the 6th everywhere.
    shop.send("price_applied", at(hours=1), price_minor=700)
    shop.send("price_applied", at(hours=16), price_minor=900)
    promote(shop, at(days=30), at(days=31, hours=12), at(days=33), 0.3)
    (begins,) = [
        one for one in ticks(shop, 30, 32) if one.reasons[0] == "trigger: promotion begins"
    ]
    assert begins.record is not None
    days = {"from_time": rfc3339(at(days=31, hours=12)), "to_time": rfc3339(at(days=33))}
    assert begins.record.prior_prices == (
        view("DE", 900, 630, **days), view("JP", 700, 490, **days)
    )  # fmt: skip
    # 490 is below the floor of 526.32: what is announced gives way, and people are told.
    assert (begins.price_minor, begins.record.gave_way[0]) == (527, "announced_reduction")


def test_an_announcement_that_a_floor_breaks_is_to_be_withdrawn_and_told_once(
    shop: Partition,
) -> None:
    promote(shop, at(hours=1), at(days=1), at(days=3), 0.4)  # 492 and the floor is 526.32
    told = [
        (one.kind, one.message, one.evidence)
        for hour in range(20, 60)
        for one in shop.tick(at(hours=hour)).alerts
    ]
    message = "withdraw the announcement of winter for A: buyers see 527, at most 492 keeps"
    assert told == [
        (
            "announced_reduction",
            f"{message} the announced percentage",
            {"shown_minor": 527, "highest_minor": 492},
        )
    ]
    assert shop.state.published_minor == 527
    promote(shop, at(days=2, hours=13), at(days=1), at(days=3), 0.4, announced=False)
    withdrawn = shop.tick(at(days=2, hours=14)).decision
    assert (withdrawn.reasons[0], withdrawn.price_minor) == ("trigger: promotion", 579)


def test_what_the_shop_shows_itself_is_held_against_the_announcement(shop: Partition) -> None:
    shop.send("price_applied", at(hours=1), price_minor=800)
    promote(shop, at(hours=2), at(days=1), at(days=3), 0.2)
    shop.tick(at(days=1))
    (told,) = shop.send("price_applied", at(days=1, hours=1), price_minor=641).alerts
    assert told.evidence == {"shown_minor": 641, "highest_minor": 640}
    window = shop.engine.state.windows["A"]
    assert window.promotions[0].prior_minor == {"DE": 800, "JP": 800}


def test_a_reduction_of_what_was_never_shown_is_unfounded(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at(), unit_cost_minor=None)  # no cost: no price
    promote(shop, at(hours=1), at(hours=2), at(days=3), 0.2)
    shop.tick(at(hours=3))
    seen = shop.send("product_listed", at(hours=4))
    message = "withdraw the announcement of winter for A: no price was shown before it, so there"
    assert [one.message for one in seen.alerts if one.kind == "announced_reduction"] == [
        f"{message} is none to reduce"
    ]


def test_a_reduction_announced_long_after_it_began_is_refused(shop: Partition) -> None:
    shop.tick(at(days=40))
    seen = promote(shop, at(days=40), at(days=7), at(days=50), 0.2)
    (letter,) = seen.letters
    assert (letter.headers["dl_error"], letter.headers["dl_field"]) == ("too_late", "from_time")
    assert shop.engine.state.windows["A"].promotions == ()


@pytest.mark.parametrize(("progressive", "second"), [("false", 553), ("true", 615)])
def test_reductions_that_overlap(kernel: Kernel, progressive: str, second: int) -> None:
    """10 % off 820, then 25 % while it runs: off 738, then lowest, or off 820 in a run."""
    shop = Partition(kernel)
    rule = f"[markets.DE]\nprogressive_reductions = {progressive}\n"
    shop.send("policy_published", at(), **policy(f"{rule}[decision]\nexploration_log = 0.0\n"))
    shop.send("product_listed", at())
    promote(shop, at(hours=1), at(days=1), at(days=5), 0.1)
    promote(shop, at(hours=1), at(days=3), at(days=6), 0.25)
    found = [(one.decided_at, one.price_minor, one.status) for one in ticks(shop, 1, 8)]
    assert found == [
        (rfc3339(at(days=1)), 738, "published"),
        (rfc3339(at(days=3)), second, "published"),
        (rfc3339(at(days=5)), second, "published"),  # the first ends, the second goes on
        (rfc3339(at(days=6)), 820, "published"),  # back to before both
    ]


# -- emergency caps

CAP = """
[[emergency_caps]]
name = "storm"
select = { categories = ["lamps"] }
ratio = 0.9
from_time = 2026-01-25T06:30:00Z
expires_at = 2026-01-27T00:00:00Z
reason = "a drill"
"""


def test_an_emergency_cap_holds_from_beginning_to_end(shop: Partition) -> None:
    ticks(shop, 0, 19)  # 820 at first, 847 since day 14
    shop.send("policy_published", at(days=19), **policy(MARKETS + CAP))
    ticks(shop, 19.25, 20.25)  # decided anew
    found = [(one.decided_at, one.price_minor, one.reasons) for one in ticks(shop, 20.25, 24)]
    assert found == [
        (
            "2026-01-25T12:00:00.000Z",
            738,
            ("trigger: emergency cap begins", "guard: emergency_cap", "gave way: step"),
        ),
        ("2026-01-27T00:00:00.000Z", 811, ("trigger: emergency cap ends", "guard: step")),
    ]


def test_a_window_survives_its_record(shop: Partition, kernel: Kernel) -> None:
    promote(shop, at(hours=1), at(days=1), at(days=3), 0.2)
    ticks(shop, 0, 2)
    twin = PartitionEngine.restore(0, list(shop.stored.items()), kernel)
    assert twin.state.windows == shop.engine.state.windows
    records = [shop.tape.add("clock_ticked", at(hours=hour)) for hour in range(50, 100)]
    assert twin.apply(records) == shop.engine.apply(records)
