"""``pricemaker ledger``: what each rule costs a day."""

from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from models.pricing.ledger import By, ledger
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options


@click.command("ledger")
@click.option(
    "--by", type=click.Choice(get_args(By)), default="rule", show_default=True,
    help="What to add up by.",
)  # fmt: skip
@click.option(
    "--from", "file", type=click.Path(dir_okay=False, path_type=Path),
    help="Decisions written by replay --out, instead of Kafka.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output, config_file: Path | None, bootstrap: str | None, by: Any, file: Path | None
) -> None:
    """Show what each rule costs a day: guards, holds, probes, caution and rounding.

    From the last decision of each product: the expected profit after risk that lies between its
    best price and the one in the shop, rule by rule. The parts add up to the whole.

    Example: pricemaker ledger --by category --from decisions.jsonl
    """
    from streams.explain.decisions import standing_in_file, standing_on_kafka
    from streams.explain.ledger_text import ledger_text

    if file is not None:
        decisions = standing_in_file(file).decisions
    else:
        settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
        decisions = standing_on_kafka(settings).decisions
    rows = ledger(decisions, by)
    document = {"by": by, "products": len(decisions), "rows": msgspec.to_builtins(rows)}
    output.document(document, ledger_text(rows, by, len(decisions)))
