"""``/v1/desk/products``: why a product has its price, its profit curve, and what if."""

import io
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console, RenderableType

from models.pricing import curve
from models.pricing.ledger import charges
from schemas.outputs import DecisionRecord, PriceDecided
from streams.explain.explanation_text import explanation_group, step_words
from streams.gateway.desk_routes import told
from streams.gateway.judged import decided_minor
from streams.gateway.openapi import errors
from streams.gateway.refusals import Refusal, unknown_sku

if TYPE_CHECKING:
    from streams.gateway.desk import Desk

TEXT_COLUMNS = 100
Positive = Annotated[float, Field(gt=0.0, le=1e15)]


class Conditions(BaseModel):
    """A price, and conditions that differ from those of the decision; null: as they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"price_minor": 1190.0, "unit_cost_minor": 600.0}},
    )

    price_minor: Positive | None = None
    unit_cost_minor: Positive | None = None
    elasticity: Annotated[float, Field(ge=-50.0, lt=0.0)] | None = None
    stock_units: Annotated[float, Field(ge=0.0, le=1e12)] | None = None
    return_rate: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    horizon_days: Annotated[float, Field(gt=0.0, le=366.0)] | None = None


def product_routes(desk: "Desk") -> APIRouter:
    """The routes; ``desk`` is the part that they belong to.

    A SKU may have slashes; the paths below it are matched first.
    """
    router = APIRouter(
        prefix="/v1/desk/products", tags=["products"], responses=errors(400, 401, 404, 503)
    )

    @router.get("/{sku:path}/curve", summary="A product's profit as a curve of its price")
    async def profit_curve(sku: str) -> Response:
        """As the decision saw it. `lower_minor`, `upper_minor`: what guards left, where one bound;
        an objective that is no finite number is null."""
        decision, record, chosen = _priced(desk, sku)
        found = await desk.reckoner.reckon(lambda kernel: curve.curve(record, chosen, kernel))
        return told({"currency": decision.currency, **msgspec.to_builtins(found)})

    @router.post("/{sku:path}/whatif", summary="What a product would earn under other conditions")
    async def whatif(sku: str, body: Conditions) -> Response:
        """At `price_minor`, or at the best price under these conditions. `present`: the same
        conditions at today's price. With the cost move what leftovers cost and are worth; a return
        rate is the one at today's price."""
        decision, record, chosen = _priced(desk, sku)
        changes = curve.Changes(**body.model_dump(exclude={"price_minor"}))
        present = chosen if decision.price_minor is None else float(decision.price_minor)
        found = await desk.reckoner.reckon(
            lambda kernel: curve.what_if(record, present, changes, body.price_minor, kernel)
        )
        return told({"currency": decision.currency, **msgspec.to_builtins(found)})

    @router.get("/{sku:path}", summary="Why a product has its price")
    async def product(sku: str) -> Response:
        """`text` is what `pricemaker explain` says; `history` the last 500 decisions, the oldest
        first, of the newest that the gateway remembers."""
        desk.require_ready()
        if not desk.board.knows(sku):
            raise unknown_sku(sku)
        return told(_product(desk, sku))

    return router


def _priced(desk: "Desk", sku: str) -> tuple[PriceDecided, DecisionRecord, float]:
    """A product's decision with numbers, and the price that it decided."""
    desk.require_ready()
    decision = desk.board.decision(sku)
    if decision is None:
        raise unknown_sku(sku)
    chosen = decided_minor(decision)
    if decision.record is None or chosen is None:
        raise Refusal(
            409, "no_numbers", f"the last decision about {sku!r} has no numbers.", field="sku",
            value=sku, fix="Wait for its next decision.",
        )  # fmt: skip
    return decision, decision.record, float(chosen)


def _product(desk: "Desk", sku: str) -> dict[str, Any]:
    board = desk.board
    decision, shown = board.decision(sku), desk.prices.window.get(sku)
    record = None if decision is None else decision.record
    blocked, changed = board.blocked.get(sku), board.breakers.of_sku(sku)
    breaker = None if changed is None else f"{changed.since}: {changed.message}"
    text = explanation_group(decision, blocked, breaker, board.offers(sku))
    return {
        "sku": sku,
        "row": board.row(sku),
        "decision": None if decision is None else msgspec.to_builtins(decision),
        "price": None if shown is None or shown.body is None else orjson.Fragment(shown.body),
        "history": board.histories.of(sku),
        "waterfall": [] if decision is None else _waterfall(decision),
        "charges": [] if decision is None else [one._asdict() for one in charges(decision)],
        "text": _plain(text),
        "passport": None if record is None else msgspec.to_builtins(record.passport),
        "blocked": blocked,
        "drift": board.drift(sku),
    }


def _waterfall(decision: PriceDecided) -> list[dict[str, Any]]:
    """The way from the best price to the decided one, step by step."""
    record = decision.record
    if record is None:
        return []
    clamps = {f"guard {clamp.guard}": clamp for clamp in record.clamps}
    return [
        {
            "name": step.name,
            "price_minor": step.price_minor,
            "objective_per_day_minor": step.objective_per_day_minor,
            "why": step_words(decision, step.name, clamps.get(step.name)),
        }
        for step in record.steps
    ]


def _plain(text: RenderableType) -> str:
    lines = io.StringIO()
    console = Console(file=lines, width=TEXT_COLUMNS, highlight=False, markup=False, emoji=False)
    console.print(text)
    return lines.getvalue()
