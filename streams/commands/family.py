"""``pricemaker family``: products priced together; look at them, and carry out a proposal."""

import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group
from rich.table import Table

from schemas.errors import InputError
from streams.config import load_settings
from streams.explain.amounts import money, signed
from streams.output import Output, bootstrap_option, command_options

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("family")
def command() -> None:
    """Look at families of products, and carry out an approved proposal."""


@command.command("apply")
@click.argument("proposal", type=FILE)
@click.option("--only", multiple=True, metavar="NAME", help="Only this family of the proposal.")
@click.option(
    "--rename", "renames", multiple=True, metavar="OLD=NEW",
    help="New SKU of a product.  [default: the old one, @, and six digits of the proposal's hash]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option("--yes", is_flag=True, help="Approve: without it nothing is sent.")
@bootstrap_option
@command_options()
def apply_proposal(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    proposal: Path,
    only: tuple[str, ...],
    renames: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """Carry out a proposal of families that you approve (from pricemaker train baskets).

    Each product is listed anew in its family, under a new SKU and with all that was learned of it,
    and its old SKU is retired. Sell under the new SKUs from then on. Run again, it sends only what
    is missing.

    \b
    Example: pricemaker family apply families.json --only family-LAMP-1 --dry-run
    """
    from streams.controls import families
    from streams.kafka.feeder import Feeder

    if dry_run == yes:
        raise click.UsageError("Give --dry-run to look, or --yes to carry it out.")
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    document = families.read_proposal(proposal)
    known = families.read_known(settings)
    moves = families.plan(document, known, only=only, renames=_renames(renames))
    records = families.events(moves, known, time.time_ns() // 1_000_000)
    if not dry_run and records:
        Feeder(settings).feed(records)
    shown = [move._asdict() for move in moves]
    answer = {"sha256": document.sha256, "dry_run": dry_run, "events": len(records), "moves": shown}
    output.document(answer, _moves_table(moves, len(records), dry_run))


def _renames(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        old, separator, new = text.partition("=")
        if not (old and separator and new):
            raise click.UsageError(f"--rename was {text!r}; expected OLD=NEW.")
        found[old] = new
    return found


def _moves_table(moves: list[Any], events: int, dry_run: bool) -> Table:
    verb = "would be sent" if dry_run else "sent"
    table = Table(
        "family", "role", "SKU", "new SKU", "learned", "state",
        title=f"{events} events {verb}", title_justify="left", box=None,
    )  # fmt: skip
    for move in moves:
        learned = "handed over" if move.handed_over else "nothing yet"
        state = "done before" if move.done else "to move" if dry_run else "moved"
        table.add_row(move.family, move.role, move.sku, move.new_sku, learned, state)
    return table


@command.command("list")
@bootstrap_option
@command_options()
def list_families(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Show the families of several products on sale.

    With --json one line per family.

    Example: pricemaker family list
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    found = _families(settings)
    if output.as_json:
        for family in found:
            output.record(family, "")
        return
    table = Table("family", "products", "anchors", box=None)
    for family in found:
        anchors = [one["sku"] for one in family["products"] if one["role"] == "anchor"]
        table.add_row(family["family"], str(len(family["products"])), ", ".join(anchors))
    output.text(table if found else "no families of several products")


@command.command("show")
@click.argument("name")
@click.option(
    "--from", "file", type=FILE,
    help="Decisions written by replay --out, instead of Kafka; NAME is then one of the products.",
)  # fmt: skip
@bootstrap_option
@command_options()
def show_family(
    output: Output, config_file: Path | None, bootstrap: str | None, name: str, file: Path | None
) -> None:
    """Show a family's cross effects and its joint prices, as its last decisions have them.

    Example: pricemaker family show family-LAMP-1
    """
    from streams.explain.decisions import standing_in_file, standing_on_kafka
    from streams.explain.family_view import joint_view, newest, products_beside

    if file is not None:
        decisions = standing_in_file(file).decisions
        products = [{"sku": sku} for sku in products_beside(decisions, name)]
        family: dict[str, Any] = {"family": None, "products": products}
    else:
        settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
        family = _named(_families(settings), name)
        decisions = standing_on_kafka(settings).decisions
    joint = joint_view(decisions, {product["sku"] for product in family["products"]})
    for product in family["products"]:
        product["joint"] = joint.get(product["sku"])
    family["joint"] = newest(joint)
    known = [] if file is not None else [_effects_table(family)]
    output.document(family, Group(*known, *_joint_text(family)))


def _named(families: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for family in families:
        if family["family"] == name:
            return family
    raise InputError(
        "unknown_family", f"no family {name!r} of several products is on sale.", field="name",
        value=name, fix="See what there is: pricemaker family list",
    )  # fmt: skip


def _families(settings: Any) -> list[dict[str, Any]]:
    from models.demand.cross_effects import effect
    from streams.controls.families import read_known

    known = read_known(settings)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for sku, entry in known.catalogue.items():
        if entry.retired:
            continue
        member = known.members.get(sku)
        effects = [] if member is None or member.effects is None else [
            {"partner": partner, "elasticity": mean, "sd": sd}
            for partner, (mean, sd) in (
                (partner, effect(member.effects, index))
                for index, partner in enumerate(member.effects.partners)
            )
        ]  # fmt: skip
        product = {"sku": sku, "role": entry.role, "cross_elasticities": effects}
        groups[entry.family].append(product)
    return [
        {"family": name, "products": msgspec.to_builtins(products)}
        for name, products in sorted(groups.items())
        if len(products) > 1
    ]


def _effects_table(family: dict[str, Any]) -> Table:
    table = Table("product", "role", "partner", "d ln units / d ln price", "sd", box=None)
    for product in family["products"]:
        table.add_row(product["sku"], product["role"], "", "", "")
        for one in product["cross_elasticities"]:
            table.add_row("", "", one["partner"], f"{one['elasticity']:.2f}", f"{one['sd']:.2f}")
    return table


def _joint_text(family: dict[str, Any]) -> list[Table | str]:
    last = family["joint"]
    if last is None:
        return ["\nno last decision of these products was reckoned together with partners"]
    table = Table(
        "product", "decided", "price", "best together", "partner", "reckoned at",
        "cross-gamma a day", box=None,
    )  # fmt: skip
    for product in family["products"]:
        one = product["joint"]
        if one is None:
            table.add_row(product["sku"], "not together", "", "", "", "", "")
            continue
        shown = partial(money, currency=one["currency"])
        price = shown(one["price_minor"]) + (" (held)" if one["status"] == "held" else "")
        together = shown(one["joint_price_minor"])
        table.add_row(product["sku"], one["decided_at"][:16] + "Z", price, together, "", "", "")
        for partner in one["partners"]:
            gamma = signed(partner["cross_gamma_per_day_minor"], one["currency"])
            reckoned = shown(partner["price_minor"])
            table.add_row("", "", "", "", partner["sku"], reckoned, gamma)
    gain = last["joint_profit_per_day_minor"] - last["present_profit_per_day_minor"]
    starts = "all starts agree" if last["starts_agree"] else "not all starts agree"
    return [
        "",
        table,
        f"\nnewest decision {last['price_id']}: at the joint prices the family earns "
        f"{money(last['joint_profit_per_day_minor'], last['currency'])} a day, "
        f"{signed(gain, last['currency'])} beside the present ones; at most "
        f"{last['gap_ratio']:.1%} below the best there is inside the guards; {starts}",
    ]
