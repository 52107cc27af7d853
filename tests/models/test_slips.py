"""Figures of the catalogue's feeds that are beyond belief, stale, or ignored by the shop."""

import pytest

from models.kernel.tile import Kernel
from schemas.outputs import Alert
from tests.models.tapes import Partition, Seen, at


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    found = Partition(kernel)
    found.send("product_listed", at())
    return found


def moved(seen: Seen) -> list[Alert]:
    return [alert for alert in seen.alerts if alert.kind == "breaker_changed"]


@pytest.mark.parametrize(
    ("cost", "opens"), [(100, False), (99, True), (2500, False), (2501, True), (5, True)]
)
def test_a_cost_beyond_five_times_either_way_opens_the_breaker(
    shop: Partition, cost: int, opens: bool
) -> None:
    price = shop.state.published_minor
    found = shop.send("cost_changed", at(hours=1), unit_cost_minor=cost)
    assert any("beyond belief" in reason for reason in shop.state.breaker.reasons) == opens
    if opens:
        reason = f"unit cost 500 -> {cost} is beyond belief: 5 times at most"
        assert (found.decision.status, found.decision.price_minor) == ("held", price)
        assert f"breaker: {reason}" in found.decision.reasons
        assert [alert.evidence for alert in moved(found)] == [
            {"states": ["CLOSED", "OPEN"], "reasons": [reason]}
        ]


def test_no_time_that_passes_cures_it_and_a_believable_cost_does(shop: Partition) -> None:
    shop.send("cost_changed", at(hours=1), unit_cost_minor=5)
    for day in range(2, 40):
        assert shop.tick(at(days=day)).latest == []
    again = shop.send("cost_changed", at(days=40), unit_cost_minor=6)  # wrong once more
    assert (again.decision.status, shop.state.breaker.state) == ("held", "OPEN")
    cured = shop.send("cost_changed", at(days=41), unit_cost_minor=510)
    assert cured.decision.status == "published"
    assert "guard: canary_step" in cured.decision.reasons or shop.state.published_minor >= 537
    assert shop.engine.state.catalogue["A"].believed == {}


def test_a_person_may_believe_it(shop: Partition) -> None:
    shop.send("cost_changed", at(hours=1), unit_cost_minor=99)
    found = shop.send("operator_command", at(hours=2), command="breaker_reset")
    assert found.decision.status == "published"
    assert shop.send("cost_changed", at(hours=3), unit_cost_minor=98).decision.status == "published"


def test_a_list_price_is_doubted_too(shop: Partition) -> None:
    found = shop.send("product_listed", at(hours=1), list_price_minor=10)
    assert found.decision.status == "held"
    assert "list price 1000 -> 10" in " ".join(found.decision.reasons)
    back = shop.send("product_listed", at(hours=2))
    assert back.decision.status == "published"


def test_a_cost_older_than_the_one_in_force_is_refused(shop: Partition) -> None:
    shop.send("cost_changed", at(hours=5), unit_cost_minor=600)
    found = shop.send("cost_changed", at(hours=4), unit_cost_minor=500)
    assert [letter.headers["dl_error"] for letter in found.letters] == ["stale_cost"]
    assert shop.engine.state.catalogue["A"].unit_cost_minor == 600
    again = shop.send("cost_changed", at(hours=5), unit_cost_minor=610)
    assert (again.letters, shop.engine.state.catalogue["A"].unit_cost_minor) == ([], 610)


@pytest.mark.parametrize(("price", "told"), [(499, True), (500, False)])
def test_a_shop_that_sells_below_cost_is_told(shop: Partition, price: int, told: bool) -> None:
    found = shop.send("price_applied", at(hours=1), price_minor=price)
    messages = [alert.message for alert in found.alerts if alert.kind == "data_quality"]
    assert messages == ([f"the shop shows {price}, below cost"] if told else [])
