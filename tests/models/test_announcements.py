"""Reductions announced early, late, again, withdrawn and in each other's course, in the engine: the
guards' price keeps them and comes back, and the publisher gate never stands in its way.
"""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernel.tile import Kernel
from schemas import tape
from schemas.events import rfc3339
from schemas.outputs import PriceDecided
from tests.models.tapes import Partition, at, policy
from tests.oracle import Oracle

QUIET = "[decision]\nexploration_log = 0.0\n"
EPOCH_DAYS_MAX = 14


class Judged:
    """A shop whose decisions are judged by the oracle as they are made."""

    def __init__(self, kernel: Kernel, document: str) -> None:
        self.shop, self.oracle = Partition(kernel), Oracle()
        self.decisions: list[PriceDecided] = []
        self.send("policy_published", 0.0, **policy(document))

    def send(self, kind: str, day: float, /, **fields: Any) -> None:
        seen = self.shop.send(kind, at(days=day), **fields)
        event = orjson.loads(tape.raw_event(self.shop.tape.records[-1][1]))
        self.oracle.observe(event, applied=seen.letters == [])
        for decision in seen.decisions:
            assert self.oracle.judge(msgspec.to_builtins(decision)) == []
        self.decisions += seen.decisions

    def promote(self, day: float, begins: float, ends: float, depth: float, **fields: Any) -> None:
        times = {"from_time": rfc3339(at(days=begins)), "to_time": rfc3339(at(days=ends))}
        self.send("promotion_scheduled", day, skus=["A"], depth=depth, **times, **fields)

    def tick(self, begin: float, end: float, hours: int = 6) -> None:
        """Ticks after one day up to another."""
        for step in range(1, int((end - begin) * 24) // hours + 1):
            self.send("clock_ticked", begin + step * hours / 24)

    def prices(self) -> list[tuple[str, str, int | None]]:
        return [(one.decided_at, one.status, one.price_minor) for one in self.decisions]


STEPS = "[guards]\nstep_ratio_max = 0.3\nday_step_ratio_max = 0.3\n"


@pytest.fixture
def raised(kernel: Kernel) -> Judged:
    """A product shown at 700 for nine days, at its best price since."""
    found = Judged(kernel, STEPS + QUIET)
    found.send("product_listed", 1.0, list_price_minor=700)
    found.tick(1.0, 10.5)
    found.send("product_listed", 10.5, list_price_minor=1000)
    found.tick(10.5, 14.0)
    return found


def test_after_a_reduction_announced_late_the_price_comes_back_to_that_before_the_announcement(
    raised: Judged,
) -> None:
    """Announced on day 14 for day 10 to 16: 20 % off 700; the way back from 560 is no step."""
    raised.promote(14.0, 10.0, 16.0, 0.2)
    raised.tick(14.0, 20.0)
    assert raised.prices() == [
        (rfc3339(at(days=1)), "published", 700),
        (rfc3339(at(days=10.5)), "published", 816),
        (rfc3339(at(days=14.25)), "published", 560),
        (rfc3339(at(days=16)), "published", 812),
    ]


def test_after_a_reduction_withdrawn_as_it_ends_the_price_rises_by_steps(raised: Judged) -> None:
    raised.promote(14.0, 14.25, 18.0, 0.2)
    raised.tick(14.0, 17.75)
    raised.promote(17.75, 14.25, 18.0, 0.2, announced=False)
    raised.tick(17.75, 20.0)
    assert raised.prices()[2:] == [
        (rfc3339(at(days=14.25)), "published", 560),
        (rfc3339(at(days=18)), "published", 728),  # 30 % up
    ]


def test_a_reduction_announced_again_leads_back_to_the_price_before_the_first_time(
    raised: Judged,
) -> None:
    raised.promote(14.0, 14.25, 18.0, 0.2)
    raised.tick(14.0, 15.0)
    raised.promote(15.0, 14.25, 18.0, 0.2, announced=False)
    raised.tick(15.0, 16.0)
    raised.promote(16.0, 14.25, 19.0, 0.2)
    raised.tick(16.0, 20.0)
    assert raised.prices()[2:] == [
        (rfc3339(at(days=14.25)), "published", 560),
        (rfc3339(at(days=15.25)), "published", 728),
        (rfc3339(at(days=16.25)), "published", 560),
        (rfc3339(at(days=19)), "published", 815),
    ]


# -- laws

documents = st.builds(
    lambda steps, markets: f"[guards]\n{steps}{QUIET}{markets}",
    st.sampled_from(
        ["", "step_ratio_max = 0.03\n", "step_ratio_max = 0.3\nday_step_ratio_max = 0.3\n"]
    ),
    st.sampled_from(
        [
            "",
            "[markets.DE]\nprogressive_reductions = true\n",
            "[markets.DE]\n[markets.FR]\nprior_price_days = 60\n",
            "[markets.DE]\nnew_arrival_days = 7\n",
        ]
    ),
)
# Few beginnings and names, so that many are replaced or withdrawn.
promotions = st.tuples(
    st.just("promote"),
    st.sampled_from([4, 8, 12]),
    st.integers(1, 9),
    st.sampled_from([0.05, 0.25, 0.5]),
    st.sampled_from(["winter", "winter", "sale"]),
    st.sampled_from([True, True, True, False]),
)
others = st.one_of(
    st.tuples(st.just("show"), st.integers(300, 1200)),
    st.tuples(st.just("killed"), st.booleans()),
)
relists = st.tuples(st.just("relist"), st.sampled_from([None, 700, 1500]), st.integers(100, 600))
happenings = st.one_of(promotions, promotions, promotions, relists, relists, others)
stories = st.lists(st.tuples(st.integers(0, 4), happenings), min_size=5, max_size=12)
LAST_DAY = 12 + 9


def tell(shop: Judged, day: float, happening: tuple[Any, ...]) -> None:
    """Send what happens on a day."""
    kind, *values = happening
    if kind == "promote":
        begins, length, depth, name, announced = values
        shop.promote(day, begins, begins + length, depth, kind=name, announced=announced)
    elif kind == "relist":
        shop.send("product_listed", day, list_price_minor=values[0], unit_cost_minor=values[1])
    elif kind == "show":
        shop.send("price_applied", day, price_minor=values[0])
    else:
        command = "kill_switch_on" if values[0] else "kill_switch_off"
        shop.send("operator_command", day, command=command)


@settings(max_examples=120)
@given(document=documents, story=stories)
def test_the_gate_holds_no_price_that_the_guards_let_go_or_lead_back(
    kernel: Kernel, document: str, story: list[tuple[int, tuple[Any, ...]]]
) -> None:
    """Else a product would stay at its reduced price for ever, held at each decision anew."""
    shop = Judged(kernel, document)
    shop.send("product_listed", 0.0, list_price_minor=900, unit_cost_minor=300)
    day = 0.0
    for wait, happening in story:
        shop.tick(day, day + wait, hours=12)
        day += wait + 0.125
        tell(shop, day, happening)
    shop.send("operator_command", day, command="kill_switch_off")
    begins = len(shop.decisions)
    shop.tick(day, max(day, LAST_DAY) + 2 * EPOCH_DAYS_MAX, hours=24)
    held = [why for one in shop.decisions if one.status == "held" for why in one.reasons]
    assert [why for why in held if why.startswith(("gate:", "guard broken:"))] == []
    assert len(shop.decisions) > begins
