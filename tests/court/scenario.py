"""A scenario of the court: one file, from what happened to what must come of it."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).parent / "scenarios"
RESULT = "\n[result]"


class Product(Struct, forbid_unknown_fields=True, kw_only=True):
    """A product as it is listed at the start; ``true_cost_minor`` where the listing is wrong."""

    sku: str
    unit_cost_minor: int
    list_price_minor: int
    category: str = "goods"
    vat_rate: float = 0.0
    fee_rate: float = 0.0
    on_hand: int | None = None
    exit_date: str | None = None


class TrueCost(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a unit really costs from a step on, whatever the feeds say."""

    skus: list[str]
    from_step: int
    unit_cost_minor: int


class Part(Struct, forbid_unknown_fields=True, kw_only=True):
    """One generator of the event script (`tests.court.script`) and its parameters."""

    generator: str
    skus: list[str] = []
    from_step: int = 0
    to_step: int = 1_000_000
    every: int = 1
    harm: bool = False
    settings: dict[str, Any] = {}


class Stop(Struct, forbid_unknown_fields=True, kw_only=True):
    """An output that shows that the disaster was stopped: the first that matches counts.

    ``guard``: a clamp of that name; ``held``: a decision held for a reason with that text;
    ``alert``: an alert with that text; ``dead_letter``: a refusal with that code; ``belief``: no
    output, the checks alone show it.
    """

    by: Literal["guard", "held", "alert", "dead_letter", "belief"]
    text: str


class Check(Struct, forbid_unknown_fields=True, kw_only=True):
    """Bounds on a field of a product's last decision up to a step (or of all of them)."""

    sku: str
    field: str
    why: str
    until_step: int = 1_000_000
    every_decision: bool = False
    low: float | None = None
    high: float | None = None


class Final(Struct, forbid_unknown_fields=True, kw_only=True):
    """A product at the end: its effective price, its last decision and its circuit breaker."""

    status: str
    breaker: str
    price_minor: int | None = None


class Result(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a run came to. ``events_to_trip`` counts harmful events up to the one that was stopped.

    ``hours_to_trip`` is event time from the first of them; both are -1 where no output stopped it.
    """

    events_to_trip: int
    hours_to_trip: float
    published: int
    below_floor: int
    final: dict[str, Final]


class Scenario(Struct, forbid_unknown_fields=True, kw_only=True):
    """One scenario file."""

    title: str
    happened: str
    sources: list[str]
    stopped_how: str
    step_hours: float
    steps: int
    policy: str = ""
    catalogue: list[Product]
    true_costs: list[TrueCost] = []
    script: list[Part]
    stops: list[Stop]
    checks: list[Check] = []
    result: Result | None = None


def names() -> list[str]:
    """All scenarios, by file name."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """Read a scenario; unknown keys are refused."""
    tables = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    return msgspec.convert(tables, Scenario)


def write_result(name: str, result: Result) -> None:
    """Renew the result at the end of a scenario's file."""
    path = FOLDER / f"{name}.toml"
    head = path.read_text().split(RESULT)[0].rstrip("\n")
    facts = msgspec.to_builtins(result)
    lines = [f"{key} = {value}" for key, value in facts.items() if key != "final"]
    for sku, final in sorted(facts["final"].items()):
        price = final["price_minor"]
        shown = "" if price is None else f"price_minor = {price}, "
        lines.append(
            f'final.{sku} = {{ {shown}status = "{final["status"]}", '
            f'breaker = "{final["breaker"]}" }}'
        )
    path.write_text(f"{head}\n{RESULT}\n" + "\n".join(lines) + "\n")
