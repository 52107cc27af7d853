"""The verifier sees: a flawless run passes, and every cut into its evidence is found and named."""

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from models.kernel.tile import Kernel
from tests.crash.accounts import letters_of
from tests.crash.evidence import Evidence, Record, Sample
from tests.crash.feed import SECRET, feed
from tests.crash.in_memory import flawless
from tests.crash.verifier import verify

SEED = 7
EVENTS = 2_400


@pytest.fixture(scope="module")
def evidence(kernel: Kernel) -> Evidence:
    return flawless(feed(SEED, EVENTS, products=40), kernel, batch=300)


def test_a_flawless_run_passes(evidence: Evidence, kernel: Kernel) -> None:
    verdict = verify(evidence, kernel)
    assert verdict.violations == []
    for name in ("tape applied", "tape repeat", "tape refused", "prices", "alerts", "dead-letter"):
        assert verdict.counts[name] > 0, name


def changed(evidence: Evidence, topic: str, records: list[Record]) -> Evidence:
    return dataclasses.replace(evidence, topics=evidence.topics | {topic: records})


def at(records: list[Record], match: bytes, nth: int = 0) -> int:
    """Index of the nth record whose value has these bytes."""
    found = [i for i, record in enumerate(records) if match in (record.value or b"")]
    return found[nth]


def edited(evidence: Evidence, topic: str, index: int, old: bytes, new: bytes) -> Evidence:
    records = list(evidence.topics[topic])
    value = records[index].value or b""
    assert old in value
    records[index] = records[index]._replace(value=value.replace(old, new, 1))
    return changed(evidence, topic, records)


def lost_on_the_way(evidence: Evidence) -> Evidence:
    """One more order was sent, and nothing came of it."""
    orders = evidence.topics["orders"]
    index = at(orders, b'"order_placed"', -1)
    last = max(r.offset for r in orders if r.partition == orders[index].partition)
    return changed(evidence, "orders", [*orders, orders[index]._replace(offset=last + 1)])


def refused_without_reason(evidence: Evidence) -> Evidence:
    letters = list(evidence.topics["dead-letter"])
    index = next(i for i, r in enumerate(letters) if ("dl_error", b"invalid_field") in r.headers)
    headers = tuple((n, b"not_json" if n == "dl_error" else v) for n, v in letters[index].headers)
    letters[index] = letters[index]._replace(headers=headers)
    return changed(evidence, "dead-letter", letters)


def letter_lost(evidence: Evidence) -> Evidence:
    stages = [letter.stage for letter in letters_of(evidence)]
    letters = list(evidence.topics["dead-letter"])
    del letters[stages.index("intake")]
    return changed(evidence, "dead-letter", letters)


def letter_altered(evidence: Evidence) -> Evidence:
    index = [letter.stage for letter in letters_of(evidence)].index("fold")
    return edited(evidence, "dead-letter", index, b"event_id", b"event-id")


def applied_twice(evidence: Evidence) -> Evidence:
    """The state counts a record that the tape has once."""
    state = evidence.topics["state"]
    index = len(state) - 1
    counts = orjson.loads(state[index].value or b"")["counts"]
    old, new = b'"applied":%d' % counts["applied"], b'"applied":%d' % (counts["applied"] + 1)
    return edited(evidence, "state", index, old, new)


def state_lost(evidence: Evidence) -> Evidence:
    """The last write of a product's record is missing: an older one counts."""
    state = list(evidence.topics["state"])
    keys = [record.key for record in state]
    index = next(i for i in reversed(range(len(state))) if (keys[i] or b"").startswith(b"sku/"))
    del state[index]
    return changed(evidence, "state", state)


def price_lost(evidence: Evidence) -> Evidence:
    prices = list(evidence.topics["prices"])
    del prices[at(prices, b'"version":2,')]
    return changed(evidence, "prices", prices)


def price_twice(evidence: Evidence) -> Evidence:
    prices = list(evidence.topics["prices"])
    index = at(prices, b'"version":2,')
    return changed(evidence, "prices", [*prices[:index], prices[index], *prices[index:]])


def price_by_a_bit(evidence: Evidence) -> Evidence:
    """The last digit of one Greek."""
    value = evidence.topics["prices"][5].value or b""
    delta = orjson.dumps(orjson.loads(value)["greeks"]["delta"])
    other = delta[:-1] + (b"1" if delta[-1:] != b"1" else b"2")
    return edited(evidence, "prices", 5, b'"delta":' + delta, b'"delta":' + other)


def price_below_cost(evidence: Evidence) -> Evidence:
    """A published price of one cent."""
    prices = evidence.topics["prices"]
    index = at(prices, b'"status":"published"', 40)
    price = orjson.loads(prices[index].value or b"")["price_minor"]
    return edited(evidence, "prices", index, b'"price_minor":%d' % price, b'"price_minor":1')


def price_leaps(evidence: Evidence) -> Evidence:
    """A published price 30 % above the one before."""
    prices = evidence.topics["prices"]
    index = at(prices, b'"version":3,')
    price = orjson.loads(prices[index].value or b"")["price_minor"]
    new = b'"price_minor":%d' % round(price * 1.3)
    return edited(evidence, "prices", index, b'"price_minor":%d' % price, new)


def latest_is_old(evidence: Evidence) -> Evidence:
    latest = list(evidence.topics["prices-latest"])
    twice = next(r for r in latest if sum(other.key == r.key for other in latest) > 1)
    index = max(i for i, record in enumerate(latest) if record.key == twice.key)
    del latest[index]
    return changed(evidence, "prices-latest", latest)


def committed_too_early(evidence: Evidence) -> Evidence:
    """Midway the group had committed the tape's end while the state was at its beginning."""
    last = evidence.samples[-1]
    early = Sample({("tape", 0): last.committed["tape", 0]}, last.ends | {("state", 0): 3})
    return dataclasses.replace(evidence, samples=[early, last])


def source_committed_too_early(evidence: Evidence) -> Evidence:
    last = evidence.samples[-1]
    empty = {(topic, n): 0 for topic in ("tape", "dead-letter") for n in range(4)}
    early = Sample({("orders", 0): 10}, last.ends | empty)
    return dataclasses.replace(evidence, samples=[early, last])


def lag_stays(evidence: Evidence) -> Evidence:
    last = evidence.samples[-1]
    behind = last.committed | {("tape", 1): last.committed["tape", 1] - 1}
    return dataclasses.replace(evidence, samples=[Sample(behind, last.ends)])


def secret_logged(evidence: Evidence) -> Evidence:
    return dataclasses.replace(evidence, logs={"a": f"order {SECRET}"}, secrets=(SECRET,))


CUTS: list[tuple[Callable[[Evidence], Evidence], set[str]]] = [
    (lost_on_the_way, {"I1"}),
    (refused_without_reason, {"I1"}),
    (letter_lost, {"I1", "I5"}),
    (letter_altered, {"I1", "I4"}),
    (applied_twice, {"I2", "I6"}),
    (state_lost, {"I2", "I6"}),
    (price_lost, {"I3", "I4"}),
    (price_twice, {"I3", "I4"}),
    (price_by_a_bit, {"I4"}),
    (price_below_cost, {"I4", "I7"}),
    (price_leaps, {"I4", "I7"}),
    (latest_is_old, {"I4", "I7"}),
    (committed_too_early, {"I5"}),
    (source_committed_too_early, {"I5"}),
    (lag_stays, {"I8"}),
    (secret_logged, {"I10"}),
]


@pytest.mark.parametrize(("cut", "broken"), CUTS, ids=lambda found: getattr(found, "__name__", ""))
def test_a_cut_is_found(
    cut: Callable[[Evidence], Evidence], broken: set[str], evidence: Evidence, kernel: Kernel
) -> None:
    assert set(verify(cut(evidence), kernel).broken()) == broken


def test_the_verifier_shares_no_code_with_the_worker() -> None:
    here = Path(__file__).parent
    for name in ("verifier", "accounts", "../oracle", "evidence"):
        tree = ast.parse((here / f"{name}.py").read_text())
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        assert not [module for module in imported if module.split(".")[0] == "streams"], name
