"""A shop behind the real gateway, for the desk's tests: no broker, and the worker is at hand.

The board has what a replay of a simulated shop decided, and three products that live: their fold
runs here, and what the desk sends to ``controls`` is its next event.
"""

import gzip
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec

from models.kernel.tile import Kernel
from schemas.events import OperatorCommand
from schemas.outputs import Alert, PriceDecided, TapePosition
from streams.edge.switch import SwitchState
from streams.gateway.desk_files import DeskFiles
from streams.gateway.judged import COLUMNS
from streams.gateway.lag import Lag
from streams.gateway.parts import Part
from streams.gateway.serve import GatewayServer
from streams.lag import Freshness, GroupLag, LagMonitor, PartitionLag, Rates, Status
from streams.lag.monitor import Look
from streams.settings import Settings
from streams.worker.engines import warm_kernel
from tests.models.tapes import Partition, Seen, at, policy
from tests.streams.gateway_app import ShownDesk, ShownPrices, token_settings

RECORDED = Path(__file__).parent / "decisions.jsonl.gz"
WAITS, LIVES, NO_COST = "LAM-00901", "LAM-00902", "LAM-00903"
WAITS_ON_5_PERCENT = "[approval]\nmove_ratio_min = 0.05\nexpires_hours = 24\n"
OBSERVED_MS = at(hours=30)


@cache
def kernel() -> Kernel:
    """The compiled kernels, once."""
    return warm_kernel(Settings().engine.compilation_cache_dir)


@cache
def recorded() -> tuple[PriceDecided, ...]:
    """What the replay decided, in tape order; the last of each product, of some the whole past."""
    with gzip.open(RECORDED) as file:
        return tuple(msgspec.json.decode(line, type=PriceDecided) for line in file)


def copies(count: int) -> list[PriceDecided]:
    """Decisions of so many products: the recorded ones under other names, at other prices."""
    last = list({one.sku: one for one in recorded()}.values())
    found = []
    for number in range(count):
        one = last[number % len(last)]
        assert one.price_minor is not None
        price = one.price_minor * (500 + number * 7919 % 1000) // 1000 + 1
        sku = f"{one.sku}-{number:05}"
        found.append(msgspec.structs.replace(one, sku=sku, price_minor=price))
    return found


class ShownLag(LagMonitor):
    """Shows what a test says instead of what a broker does."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.show(2, Status.OK)

    def start(self) -> "ShownLag":
        return self

    def show(self, messages: int, status: Status) -> None:
        """The worker's group is so many messages behind on one partition; of another nothing is
        known."""
        moving = status is Status.OK
        row = PartitionLag(
            topic="tape", partition=0, offset_committed=1_000, offset_end=1_000 + messages,
            consumer_lag_messages=messages, consumer_lag_ms=20 * messages, assigned=True,
            status=status, reason="as a test says", not_moving=not moving,
            commit_time_ms=OBSERVED_MS,
            rates=Rates(messages_in_per_s=50.0, messages_out_per_s=60.0 if moving else 0.0),
        )  # fmt: skip
        never = PartitionLag(
            topic="tape", partition=1, offset_committed=None, offset_end=0,
            consumer_lag_messages=None, consumer_lag_ms=None, unknown="never committed",
        )  # fmt: skip
        group = GroupLag(
            group="pricemaker", state="STABLE", members=1, topics_missing=(),
            partitions=(row, never),
        )  # fmt: skip
        fresh = Freshness(
            partition=0, event_time_applied_ms=OBSERVED_MS - 60_000,
            event_time_newest_ms=OBSERVED_MS, behind_ms=60_000, tape_waiting=messages,
        )  # fmt: skip
        self._latest = Look(OBSERVED_MS + messages, [group], [fresh])


class Shop:
    """The gateway and the worker behind it.

    Parameters
    ----------
    products : copies of the recorded ones, instead of these and the three that live
    tokens : for one caller of each role; without, everybody is ``local``

    Attributes
    ----------
    sent : commands that the desk sent, as events
    """

    def __init__(self, products: int | None = None, *, tokens: bool = False) -> None:
        fields = {"tokens": token_settings()} if tokens else {}
        self.settings = Settings(gateway={"port": 0, **fields})
        self.sent: list[OperatorCommand] = []
        self.lag = ShownLag()
        self._decisions: list[PriceDecided] = []
        self._alerts: list[Alert] = []
        self._hours = 27
        if products is None:
            self._decisions += recorded()
            self._partition = Partition(kernel())
            self._begin()
        else:
            self._decisions += copies(products)
        self.desk = self._desk()

    def _begin(self) -> None:
        """One product waits for approval, one is priced, one has no cost."""
        for kind, at_ms, fields in [
            ("product_listed", at(), {"sku": WAITS, "unit_cost_minor": 900}),
            ("product_listed", at(), {"sku": LIVES, "unit_cost_minor": 500}),
            ("product_listed", at(), {"sku": NO_COST, "unit_cost_minor": None}),
            ("policy_published", at(hours=1), policy(WAITS_ON_5_PERCENT)),
            ("clock_ticked", at(hours=2), {}),
            ("cost_changed", at(hours=25), {"sku": WAITS, "unit_cost_minor": 500}),
        ]:
            seen = self._partition.send(kind, at_ms, **fields)
            self._decisions += seen.decisions
            self._alerts += seen.alerts

    def _desk(self) -> ShownDesk:
        families = {one.sku: one.sku for one in self._decisions}
        return ShownDesk(ShownPrices(), kernel(), self._decisions, self._alerts, families)

    def restarted(self) -> "Shop":
        """The same in a new process of the gateway."""
        self.desk = self._desk()
        return self

    def parts(self) -> Sequence[Part]:
        """Of the gateway, in the order in which they start."""
        desk = self.desk
        lag = Lag(self.settings, desk)
        lag.monitor = self.lag
        return [desk.prices, desk.reckoner, desk, lag, DeskFiles()]

    def last(self, sku: str) -> PriceDecided:
        """A product's last decision."""
        found = self.desk.board.decision(sku)
        assert found is not None
        return found

    def rows(self) -> dict[str, dict[str, Any]]:
        """The catalogue's rows by SKU, by column."""
        found = (dict(zip(COLUMNS, row, strict=True)) for row in self.desk.board.rows())
        return {row["sku"]: row for row in found}

    # -- the worker

    def take(self, _: Any, event: OperatorCommand) -> None:
        """In place of `streams.controls.controls.send`: do what the worker does."""
        self.sent.append(event)
        if event.command.startswith("kill_switch"):
            self._throw(event)
            return
        self._hours += 1
        fields = {
            name: value
            for name, value in msgspec.to_builtins(event).items()
            if name not in ("type", "event_id", "event_time") and value is not None
        }
        self.tell(self._partition.send("operator_command", at(hours=self._hours), **fields))

    def tell(self, seen: Seen) -> None:
        """The gateway reads what the worker published."""
        self._decisions += seen.decisions
        self._alerts += seen.alerts
        self.on_loop(lambda: (self.desk.alert(*seen.alerts), self.desk.decide(*seen.decisions)))

    def decide(self, sku: str, as_of: str | None = None, **fields: Any) -> None:
        """A product's next decision: its last (or another's), with these fields."""
        before = self.last(as_of or sku)
        place = TapePosition(before.tape.partition, before.tape.offset + 1)
        version = 1 if as_of else before.version + 1
        told = {"sku": sku, "version": version, "tape": place, **fields}
        self.on_loop(lambda: self.desk.decide(msgspec.structs.replace(before, **told)))

    def on_loop(self, step: Callable[[], Any]) -> None:
        """In the gateway's thread."""
        self.desk.running.loop.call_soon_threadsafe(step)

    def _throw(self, event: OperatorCommand) -> None:
        state = SwitchState(
            event.command == "kill_switch_on", event.actor, event.reason,
            event.event_time.isoformat(),
        )  # fmt: skip
        self.on_loop(lambda: self.desk.prices.switch._tell(state))

    def commands(self) -> list[dict[str, Any]]:
        """What was sent, without its id and time."""
        return [
            {
                "command": one.command,
                "scope": (one.scope.kind, one.scope.name),
                "by": (one.actor, one.reason),
            }
            for one in self.sent
        ]


def started(settings: Settings, parts: Sequence[Part]) -> GatewayServer:
    """A gateway that answers."""
    server = GatewayServer(settings, parts).__enter__()
    httpx.get(f"{server.url}/healthz", timeout=60.0).raise_for_status()
    return server


class Serving:
    """A gateway on one port, that can go away and come back."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._server = started(shop.settings, shop.parts())
        self.url = self._server.url

    def stop(self) -> None:
        self._server.__exit__(None, None, None)

    def start(self) -> None:
        """Again, on the same port, in a new process as it were."""
        port = int(self.url.rpartition(":")[2])
        gateway = self.shop.settings.gateway.model_copy(update={"port": port})
        settings = self.shop.settings.model_copy(update={"gateway": gateway})
        self._server = started(settings, self.shop.restarted().parts())
