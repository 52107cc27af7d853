"""Fills the columns of a backtest beside the fold of one partition under one policy."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from models.backtest.columns import INPUTS, Decisions, Epochs, Floats, Integers, Outcomes, Products
from models.backtest.day_book import decided_ms
from models.backtest.outcomes import OutcomeBook
from models.demand.surprise import surprise
from models.fold.context import Output
from models.fold.partition import PartitionState
from models.fold.watch import Closed, Shown
from models.kernel.greeks import Greeks
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from models.pricing.path import EXPLORATION
from schemas import topics
from schemas.events import AnyEvent, SkuEvent
from schemas.outputs import Alert, PriceDecided
from schemas.state import CatalogueEntry

NAN = math.nan
NUMBERS = len(Decisions._fields) - 1  # of one decision; its inputs stand apart
EPOCH_NUMBERS = len(Epochs._fields) - 2 + 4 + 10  # mean, and the upper triangle of the covariance
UPPER = np.triu_indices(4)
Chosen = Callable[[CatalogueEntry], bool]

_decisions = msgspec.json.Decoder(PriceDecided)
_alerts = msgspec.json.Decoder(Alert)


class Observer(Protocol):
    """Reads along what a fold decides, for a part of the report. Its result can be pickled."""

    def decided(self, decision: PriceDecided) -> None:
        """A decision, in the tape order of its partition."""

    def alerted(self, alert: Alert) -> None:
        """An alert, in the tape order of its partition."""

    def closed(self, closed: Closed) -> None:
        """An epoch that taught; products of a family in tape order."""

    def result(self) -> Any:
        """What was found."""


class Notes(NamedTuple):
    """What decisions say in words: ``texts[reason[i]]`` are the reasons of decision i."""

    texts: list[str]
    reason: Integers


class Activity(NamedTuple):
    """How often what happened: guards by the decisions they bound, breakers by what they moved to,
    decisions held by what held them, decisions by status.
    """

    guards: Counter[str]
    breakers: Counter[str]
    holds: Counter[str]
    statuses: Counter[str]

    @classmethod
    def none(cls) -> "Activity":
        """Nothing yet."""
        return cls(Counter(), Counter(), Counter(), Counter())

    def add(self, other: "Activity") -> None:
        """Take in another partition's counts."""
        for sums, counts in zip(self, other, strict=True):
            sums.update(counts)


class Columns(NamedTuple):
    """All of one partition, or of several joined; ``end_ms`` [product] is when it left the shop, or
    the tape's end.
    """

    products: Products
    decisions: Decisions
    notes: Notes
    end_ms: Integers
    epochs: Epochs
    outcomes: Outcomes


class DecisionRows:
    """Decisions of numbered products as they come, with what they say."""

    def __init__(self) -> None:
        self._numbers, self._inputs = array("d"), array("d")
        self._texts: dict[str, int] = {}
        self._reason = array("q")
        self.activity = Activity.none()

    def add(self, product: int, decision: PriceDecided) -> None:
        """Keep a decision."""
        self._numbers.extend((product, *_numbers(decision)))
        record = decision.record
        if record is None:
            self._inputs.extend([NAN] * len(INPUTS))
        else:
            found = record.inputs
            self._inputs.extend(
                found.get(name, padding) for name, padding in zip(INPUTS, PADDING, strict=True)
            )
            self.activity.guards.update({clamp.guard for clamp in record.clamps})
        self.activity.statuses[decision.status] += 1
        if decision.status == "held":
            self.activity.holds.update({_held_by(reason) for reason in decision.reasons})
        text = "; ".join(decision.reasons)
        self._reason.append(self._texts.setdefault(text, len(self._texts)))

    def columns(self, place: Integers, kernel: Kernel) -> tuple[Decisions, Notes]:
        """By product and time; ``place`` [product] gives each product's final number.

        What was held has the value of what stayed.
        """
        numbers = np.frombuffer(self._numbers).reshape(-1, NUMBERS).copy()
        inputs = np.frombuffer(self._inputs).reshape(-1, len(INPUTS)).copy()
        if len(numbers):
            numbers[:, 0] = place[numbers[:, 0].astype(np.int64)]
        order = np.lexsort((numbers[:, 1], numbers[:, 0]))
        decisions = valued(_decisions_of(numbers[order], inputs[order]), kernel)
        reason = np.frombuffer(self._reason, dtype=np.int64)[order]
        return decisions, Notes(list(self._texts), reason)


class Collector:
    """Collects; it is the engine's onlooker and is given the outputs of each batch.

    Parameters
    ----------
    state : of the partition, to look things up
    chosen : which products count
    is_baseline : epochs, outcomes and shown prices are kept of the baseline alone
    observers : told of each decision, alert and epoch of a chosen product
    """

    def __init__(
        self,
        state: PartitionState,
        chosen: Chosen,
        *,
        is_baseline: bool,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._state, self._chosen, self._is_baseline = state, chosen, is_baseline
        self._observers = observers
        self._product: dict[str, int] = {}
        self._passed: dict[str, None] = {}  # products that do not count
        self._rows, self._epochs = DecisionRows(), array("d")
        self._outcomes = OutcomeBook(state)
        self.activity = self._rows.activity
        self.shown_prices: list[Shown] = []  # since the last batch was taken

    # -- the engine's onlooker -----------------------------------------------------------------

    def applied(self, event: AnyEvent, now_ms: int) -> None:
        """Count what was sold and returned."""
        if self._is_baseline and isinstance(event, SkuEvent):
            number = self._number(event.sku)
            if number is not None:
                self._outcomes.note(number, event, now_ms)

    def closed(self, closed: Closed) -> None:
        """Keep an epoch of the baseline."""
        number = self._number(closed.entry.sku)
        if number is None:
            return
        for observer in self._observers:
            observer.closed(closed)
        if not self._is_baseline:
            return
        epoch, seen, after = closed.epoch, closed.seen, closed.after
        covered = epoch.visits is not None
        state = self._state.skus[closed.entry.sku]
        rival = seen.features.ln_rival
        self._epochs.extend((
            number, epoch.start_ms, closed.now_ms, epoch.price_minor,
            NAN if state.reference_price_minor is None else state.reference_price_minor,
            epoch.covered_orders if covered else epoch.orders, epoch.units, seen.exposure_days,
            NAN if rival is None else rival, seen.features.control, seen.offset,
            surprise(closed.before, seen, self._state.demand_settings).expected,
            *after.mean, *after.cov,
        ))  # fmt: skip

    def shown(self, shown: Shown) -> None:
        """Keep what buyers saw, for the folds of other policies."""
        if self._is_baseline:
            self.shown_prices.append(shown)

    # -- outputs -------------------------------------------------------------------------------

    def take(self, outputs: Sequence[Output]) -> None:
        """Read what a batch led to."""
        for output in outputs:
            if output.topic == topics.PRICES.name:
                self.decided(_decisions.decode(output.value))
            elif output.topic == topics.ALERTS.name:
                self._alerted(_alerts.decode(output.value))

    def decided(self, decision: PriceDecided) -> None:
        """Keep a decision."""
        number = self._number(decision.sku)
        if number is not None:
            for observer in self._observers:
                observer.decided(decision)
            self._rows.add(number, decision)

    def _alerted(self, alert: Alert) -> None:
        if alert.sku is not None and self._number(alert.sku) is None:
            return
        for observer in self._observers:
            observer.alerted(alert)
        if alert.kind == "breaker_changed":
            states = alert.evidence.get("states") or [alert.evidence.get("to")]
            if states[-1] is not None:
                self.activity.breakers[str(states[-1])] += 1

    def _number(self, sku: str) -> int | None:
        found = self._product.get(sku)
        if found is None and sku not in self._passed:
            entry = self._state.catalogue.get(sku)
            if entry is None:
                return None
            if not self._chosen(entry):
                self._passed[sku] = None
                return None
            found = self._product[sku] = len(self._product)
        return found

    # -- columns -------------------------------------------------------------------------------

    def columns(self, kernel: Kernel) -> Columns:
        """All that was collected, products by SKU."""
        skus = sorted(self._product)
        place = np.zeros(len(skus), dtype=np.int64)
        for number, sku in enumerate(skus):
            place[self._product[sku]] = number
        entries = [self._state.catalogue[sku] for sku in skus]
        last_ms = self._state.manifest.clock_ms or 0
        decisions, notes = self._rows.columns(place, kernel)
        return Columns(
            Products(
                skus,
                [entry.family for entry in entries],
                [entry.category for entry in entries],
                [entry.currency for entry in entries],
            ),
            decisions,
            notes,
            np.array([e.changed_ms if e.retired else last_ms for e in entries], dtype=np.int64),
            _epochs_of(np.frombuffer(self._epochs).reshape(-1, EPOCH_NUMBERS), place),
            self._outcomes.outcomes(place),
        )


def _numbers(decision: PriceDecided) -> tuple[float, ...]:
    """A decision's row after its product, in the order of `Decisions`."""
    record, coin = decision.record, decision.exploration
    wanted, price = decision.wanted_minor, decision.price_minor
    held = decision.status == "held"
    plain = NAN if wanted is None else round(wanted * math.exp(-decision.exogenous_log))
    return (
        decided_ms(decision),
        decision.tape.partition,
        decision.tape.offset,
        NAN if price is None else price,
        NAN if wanted is None else wanted,
        plain,
        not held,
        not held and EXPLORATION in decision.reasons,
        NAN if coin is None else coin.up_minor,
        NAN if coin is None else coin.down_minor,
        NAN if coin is None else coin.up_probability,
        coin is not None and coin.drew_up,
        decision.exogenous_log,
        NAN if record is None else record.demand.reference_price_minor,
        NAN if record is None or held else record.expected_profit_per_day_minor,
    )


def _held_by(reason: str) -> str:
    """What holds: of a breaker's or gate's many words only whose they are and the rule."""
    kind, colon, rest = reason.partition(": ")
    return f"{kind}: {rest}" if colon and kind in ("gate", "guard broken") else kind


def _decisions_of(numbers: Floats, inputs: Floats) -> Decisions:
    columns = dict(zip(Decisions._fields[:-1], numbers.T, strict=True))
    whole = {
        name: columns[name].astype(np.int64) for name in ("product", "at_ms", "partition", "offset")
    }
    flags = {name: columns[name] > 0.5 for name in ("effective", "probe", "drew_up")}
    return Decisions(**{**columns, **whole, **flags, "inputs": inputs})


def valued(decisions: Decisions, kernel: Kernel) -> Decisions:
    """Value the prices in force where a decision was held: expected profit a day by its inputs."""
    profit = decisions.profit_per_day_minor.copy()
    asked = (
        np.isnan(profit) & np.isfinite(decisions.price_minor) & np.isfinite(decisions.inputs[:, 0])
    )
    index = np.flatnonzero(asked)
    profit[index] = profits_per_day_minor(
        kernel,
        decisions.inputs[index],
        decisions.price_minor[index],
        decisions.reference_minor[index],
    )
    return decisions._replace(profit_per_day_minor=profit)


def profits_per_day_minor(
    kernel: Kernel, inputs: Floats, price_minor: Floats, reference_minor: Floats
) -> Floats:
    """Expected profit a day before risk, [n], of kernel rows ``inputs`` [n, fields] at prices [n].

    NaN where the kernel's number is not finite.
    """
    if not len(inputs):
        return np.zeros(0)
    found = kernel.evaluate_arrays(inputs.T, (price_minor / reference_minor)[None, :])
    profit = found[2 + len(Greeks._fields)]  # after the objective and the slope at one price
    per_day = profit * reference_minor / inputs[:, INPUTS.index("horizon_days")]
    return np.where(np.isfinite(per_day), per_day, NAN)


def _epochs_of(numbers: Floats, place: Integers) -> Epochs:
    product = place[numbers[:, 0].astype(np.int64)] if len(numbers) else np.zeros(0, dtype=np.int64)
    order = np.lexsort((numbers[:, 2], product))
    numbers, product = numbers[order], product[order]
    plain = numbers[:, 1:12].T
    covariance = np.zeros((len(numbers), 4, 4))
    covariance[:, UPPER[0], UPPER[1]] = numbers[:, 16:]
    covariance[:, UPPER[1], UPPER[0]] = numbers[:, 16:]
    begin_ms, end_ms = plain[0].astype(np.int64), plain[1].astype(np.int64)
    parts = [product, begin_ms, end_ms, *plain[2:], numbers[:, 12:16], covariance]
    return Epochs._make(parts)
