"""``pricemaker whatif``: price a product from its parameters."""

from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Group
from rich.table import Table

from models.pricing.whatif import whatifs
from schemas.errors import InputError
from streams.config import load_settings
from streams.explain import amounts
from streams.output import Output, command_options
from streams.worker.engines import warm_kernel

CASES_MAX = 100_000

# Greek -> whether it is money
_GREEKS = {
    "delta": False,
    "gamma": False,
    "vega": True,
    "rho": True,
    "vanna": False,
    "theta": True,
    "vega_elasticity": True,
    "vega_return": True,
    "elasticity_slope": True,
    "level_slope": True,
    "cost_slope": False,
    "handling_slope": False,
    "return_slope": True,
    "rival_slope": True,
    "price_stock": False,
}


@click.command("whatif")
@click.argument("file", type=click.File("rb"))
@command_options()
def command(output: Output, config_file: Path | None, file: BinaryIO) -> None:
    """Price a product from its parameters: the best price, its Greeks, each step and the flags.

    FILE is a JSON object, or a list of them; "-" is stdin. Money in fields named _minor is in minor
    units of the currency. No broker is needed. All fields: docs/objective.md.

    \b
    Example:
      echo '{"currency": "EUR", "cost_minor": 5000, "reference_price_minor": 10000,
             "horizon_days": 7, "demand_per_day": 10, "elasticity": -2.0,
             "return_rate": {"shape": "constant", "rate": 0.1}}' | pricemaker whatif -
    """
    documents, single = _read(file)
    kernel = warm_kernel(load_settings(config_file).engine.compilation_cache_dir)
    answers = whatifs(documents, kernel)
    tables = [_describe(answer, index, len(answers)) for index, answer in enumerate(answers)]
    output.document(answers[0] if single else answers, Group(*tables))


def _read(file: BinaryIO) -> tuple[list[Any], bool]:
    """Return the cases, and whether the file was one object and not a list."""
    name = getattr(file, "name", "-")
    try:
        document = orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise InputError(
            "not_json",
            f"the file is not JSON: {error}.",
            where=str(name),
            expected="a JSON object or a list of objects",
            fix="Correct the file and run again.",
        ) from None
    if not isinstance(document, list):
        return [document], True
    if not 1 <= len(document) <= CASES_MAX:
        raise InputError(
            "wrong_number_of_cases",
            f"the list has {len(document)} cases; expected 1 to {CASES_MAX}.",
            where=str(name),
            value=len(document),
            expected=f"1 to {CASES_MAX} cases",
            fix="Split the list.",
        )
    return document, False


def _describe(answer: dict[str, Any], index: int, count: int) -> Table:
    money = partial(amounts.money, currency=answer["currency"])

    title = f"case {index + 1} of {count}" if count > 1 else None
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column("name")
    table.add_column("value", justify="right")
    table.add_column("note")
    bound = answer["at_bound"]
    table.add_row("price", money(answer["price_minor"]), f"at the {bound} bound" if bound else "")
    table.add_row("expected profit", money(answer["expected_profit_minor"]), "over the horizon")
    table.add_row("objective", money(answer["objective_minor"]), "after the risk terms")
    table.add_row("expected sales", f"{answer['expected_sales_units']:,.2f}", "units")
    table.add_row("return rate", f"{answer['return_rate']:.2%}", "of units sold")
    table.add_row("margin", money(answer["margin_minor"]), "per unit, after returns")
    for name, is_money in _GREEKS.items():
        value = answer["greeks"][name]
        if value is None:
            table.add_row(name, "none", "stock is unlimited")
        else:
            table.add_row(name, money(value) if is_money else f"{value:,.6g}", "")
    for step in answer["steps"]:
        table.add_row(f"step {step['step']}", money(step["price_minor"]), "")
    table.add_row("flags", ", ".join(answer["flags"]) or "none", "")
    return table
