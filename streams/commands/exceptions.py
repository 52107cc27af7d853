"""``pricemaker exceptions``: what needs a person, by money at stake."""

from pathlib import Path

import click
import msgspec

from models.pricing.ledger import exceptions
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options


@click.command("exceptions")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Show so many."
)
@click.option(
    "--from", "file", type=click.Path(dir_okay=False, path_type=Path),
    help="Decisions written by replay --out, instead of Kafka; products that can't be priced are "
    "not in it.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output, config_file: Path | None, bootstrap: str | None, limit: int, file: Path | None
) -> None:
    """Show the products that need a person, by expected money at stake a day.

    Held by breaker, gate, guard or kill switch; waiting for approval; not priced at all; drifted;
    where a rule gave way; and where limits cost money. What nobody can put a figure on comes first.

    Example: pricemaker exceptions --limit 50 --from decisions.jsonl
    """
    from streams.explain.decisions import standing_in_file, standing_on_kafka
    from streams.explain.ledger_text import exceptions_text

    if file is not None:
        standing = standing_in_file(file)
    else:
        settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
        standing = standing_on_kafka(settings)
    cases = exceptions(*standing)
    document = {"found": len(cases), "exceptions": msgspec.to_builtins(cases[:limit])}
    output.document(document, exceptions_text(cases, limit))
