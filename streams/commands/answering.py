"""What ``pricemaker approve`` and ``pricemaker reject`` share."""

import re
from pathlib import Path
from typing import Any

import click

from schemas.errors import InputError
from schemas.events import Scope
from schemas.money import format_minor
from schemas.outputs import PriceDecided
from streams.config import load_settings
from streams.explain.decisions import WAITS, waits
from streams.output import Output

_PRICE_ID = re.compile(r"\d+-\d+-(?P<sku>.+)", re.DOTALL)

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def answer(
    output: Output,
    command: str,
    name: str,
    *,
    yes: bool,
    config_file: Path | None,
    bootstrap: str | None,
    reason: str,
    actor: str | None,
) -> None:
    """Find what waits under a price id or SKU, ask, and put the answer on ``controls``."""
    from streams.controls import controls

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    decision = find(settings, name)
    told = _told(decision)
    if not yes:
        if output.as_json:
            raise click.UsageError("With --json give --yes: nobody can be asked.")
        click.confirm(f"{told}\n{command.capitalize()} it?", abort=True, err=True)
    actor = actor or controls.default_actor()
    scope, price_id = Scope("sku", decision.sku), decision.price_id
    controls.send(
        settings, controls.command_event(command, scope, actor, reason, price_id=price_id)
    )
    document = {
        "command": command, "sku": decision.sku, "price_id": decision.price_id,
        "wanted_minor": decision.wanted_minor, "currency": decision.currency, "actor": actor,
        "reason": reason,
    }  # fmt: skip
    after = (
        "Guards, breaker and gate look once more before it goes out: pricemaker explain "
        f"{decision.sku}"
        if command == "approve"
        else "It is not proposed again until something changes."
    )
    output.document(document, f"{told}\n{command} sent by {actor}. {after}")


def find(settings: Any, name: str) -> PriceDecided:
    """The decision that waits, by SKU or price id.

    Raises
    ------
    InputError : nothing is known of it, it does not wait, or a newer decision took its place
    """
    from streams.explain.explain import explain_from_kafka

    match = _PRICE_ID.fullmatch(name)
    try:
        decision = explain_from_kafka(settings, name, None).decision
    except InputError:
        if match is None:
            raise
        decision = explain_from_kafka(settings, match["sku"], None).decision
        if decision is not None and decision.price_id != name:
            raise InputError(
                "superseded",
                f"{name} waits no more: the last decision about {decision.sku} is "
                f"{decision.price_id}.",
                field="price_id", value=name, expected=decision.price_id,
                fix=f"See it: pricemaker explain {decision.sku}",
            ) from None  # fmt: skip
    if decision is None or not waits(decision):
        what = "has no price yet" if decision is None else f"is {decision.status}"
        raise InputError(
            "nothing_waits", f"nothing of {name} waits for approval: its last decision {what}.",
            field="price_id", value=name, fix="See what waits: pricemaker exceptions",
        )  # fmt: skip
    return decision


def _told(decision: PriceDecided) -> str:
    before = (
        "no price"
        if decision.previous_minor is None
        else format_minor(decision.previous_minor, decision.currency)
    )
    wanted = format_minor(decision.wanted_minor or 0, decision.currency)
    why = "; ".join(reason.removeprefix(WAITS) for reason in decision.reasons)
    return f"{decision.sku}: {before} -> {wanted}, since {why} ({decision.price_id})"
