"""``pricemaker demo``: a simulated shop, priced on the embedded broker."""

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from schemas.errors import ServiceError
from schemas.money import format_minor
from schemas.state import Counts
from streams.config import load_settings
from streams.output import Output, command_options

SHOWN_MOVES = 18
COLUMNS = (("at", 11), ("SKU", 9), ("price", 11), ("move", 8), ("margin", 7))


@click.command("demo")
@click.option("--events", type=click.IntRange(1), help="End after so many source events.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the shop.")
@click.option(
    "--products", type=click.IntRange(1, 2000), default=100, show_default=True,
    help="Products at the start.",
)  # fmt: skip
@click.option("--headless", is_flag=True, help="Show nothing, end with a summary.")
@click.option(
    "--desk/--no-desk", default=True, show_default=True,
    help="Serve the desk's page, on this machine alone; never with --headless.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535),
    help="Of the desk; if it is taken, a free one.  [default: gateway.port, 8080]",
)  # fmt: skip
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    events: int | None,
    seed: int,
    products: int,
    headless: bool,
    desk: bool,
    port: int | None,
) -> None:
    """Price a simulated shop: the real agents on a broker inside this process.

    The broker keeps nothing and is for trying things out. Without --headless the newest prices are
    shown until Ctrl-C or until --events, here and on the desk, whose address is printed; the same
    seed gives the same decisions.

    Example: pricemaker demo --headless --events 20000 --seed 7 --json
    """
    if headless and events is None:
        raise click.UsageError("--headless needs --events, or it would never end.")
    from streams.demo import LIVE_STEP_HOURS, STEP_HOURS, Demo, demo_overrides
    from streams.kafka.embedded import EmbeddedBroker
    from streams.logs import configure_logging
    from streams.worker.engines import warm_kernel

    configure_logging("error")
    output.note("starting the broker and the worker, compiling the kernels ...")
    started = time.perf_counter()
    with EmbeddedBroker() as broker:
        desk_port = {"gateway.port": port, "gateway.host": "127.0.0.1"}
        settings = load_settings(config_file, demo_overrides(broker) | desk_port)
        kernel = warm_kernel(settings.engine.compilation_cache_dir)
        step_hours = STEP_HOURS if headless else LIVE_STEP_HOURS
        with Demo(settings, kernel, seed, products, step_hours) as demo:
            began = time.perf_counter()
            if headless:
                for _ in demo.run(events):
                    pass
            else:
                with _desk(output, settings, kernel) if desk else nullcontext():
                    _show(output, demo, events)
            seconds = time.perf_counter() - began
            totals = demo.engines.totals()
            document = _summary(demo, totals.counts, totals.decisions_sha256, seconds)
    document["seconds_to_start"] = round(began - started, 2)
    if headless or not output.as_json:
        output.document(document, _table(document))


def _desk(output: Output, settings: Any, kernel: Any) -> AbstractContextManager[Any]:
    """The gateway with the desk, in a thread."""
    from streams.gateway.serve import GatewayServer
    from streams.gateway.standard import standard_parts

    def server(found: Any) -> Any:
        return GatewayServer(found, standard_parts(found, kernel=lambda: kernel, embedded=True))

    try:
        gateway = server(settings)
    except ServiceError:  # the port is taken
        free = settings.gateway.model_copy(update={"port": 0})
        gateway = server(settings.model_copy(update={"gateway": free}))
    output.note(f"the desk: {gateway.url}/desk/")
    return gateway


def _summary(demo: Any, counts: Counts, decisions_sha256: str, seconds: float) -> dict[str, Any]:
    return {
        "events": demo.events,
        "decisions": counts.decisions,
        "published": counts.published,
        "held": counts.held,
        "dead_letters": demo.dead_letters,
        "duplicates": counts.duplicates,
        "breaker_trips": counts.breaker_trips,
        "ticks": counts.ticks,
        "events_per_second": round(demo.events / seconds, 1),
        "seconds": round(seconds, 2),
        "decisions_sha256": decisions_sha256,
    }


def _table(document: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in document.items():
        shown = f"{value:,}" if isinstance(value, int | float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    return table


def _show(output: Output, demo: Any, events: int | None) -> None:
    """Prices as they move: a table on a terminal, lines in a pipe."""
    console = Console()
    if output.as_json or not console.is_terminal:
        for moves in demo.run(events):
            for move in moves:
                output.record(msgspec.to_builtins(move), _line(move))
        return
    began = time.perf_counter()
    try:
        with Live(console=console, auto_refresh=False) as live:
            for _ in demo.run(events):
                live.update(_screen(demo, time.perf_counter() - began), refresh=True)
    except KeyboardInterrupt:
        output.note("stopped")


def _screen(demo: Any, seconds: float) -> Group:
    counts = demo.engines.totals().counts
    head = (
        f"simulated {_day(demo)}   {demo.events:,} events   {demo.events / seconds:,.0f}/s   "
        f"{counts.decisions:,} decisions   {counts.held:,} held   "
        f"{counts.breaker_trips:,} breaker trips   Ctrl-C ends"
    )
    table = Table(box=None, pad_edge=False, expand=True)
    for name, width in COLUMNS:
        right = name in ("price", "move", "margin")
        table.add_column(name, justify="right" if right else "left", width=width, no_wrap=True)
    table.add_column("why", ratio=1, no_wrap=True)
    for move in list(demo.moves)[-SHOWN_MOVES:]:
        table.add_row(*_cells(move))
    return Group(head, "", table)


def _day(demo: Any) -> str:
    from schemas.events import rfc3339

    return rfc3339(demo.shop.now_ms)[:16].replace("T", " ")


def _cells(move: Any) -> tuple[str, ...]:
    price = format_minor(move.price_minor, move.currency)
    change = "new"
    if move.previous_minor:
        change = f"{100.0 * (move.price_minor / move.previous_minor - 1.0):+.1f} %"
    margin = "" if move.margin_pct is None else f"{move.margin_pct:.1f} %"
    at = move.decided_at[5:16].replace("T", " ")
    why = "; ".join(reason.replace("trigger: ", "") for reason in move.reasons)
    return at, move.sku, price, change, margin, why


def _line(move: Any) -> str:
    return "  ".join(_cells(move))
