"""``pricemaker explain``: why a product has its price."""

from pathlib import Path

import click
import msgspec

from streams.config import load_settings
from streams.explain.explain import explain_from_file, explain_from_kafka, explanation_text
from streams.output import Output, bootstrap_option, command_options


@click.command("explain")
@click.argument("sku")
@click.option("--version", type=click.IntRange(1), help="Which decision.  [default: the last]")
@click.option(
    "--from", "file", type=click.Path(dir_okay=False, path_type=Path),
    help="Decisions written by replay --out, instead of Kafka.",
)  # fmt: skip
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the steps as a waterfall chart, .svg or .png (needs matplotlib).",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    sku: str,
    version: int | None,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Explain a product's price, step by step, or why it has none.

    Example: pricemaker explain 85123A --from decisions.jsonl --picture why.svg
    """
    if file is not None:
        found = explain_from_file(file, sku, version)
    else:
        settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
        found = explain_from_kafka(settings, sku, version)
    if picture is not None:
        from streams.explain.explanation_picture import draw

        draw(found.decision, picture)
        output.note(f"drawn: {picture}")
    output.document(msgspec.to_builtins(found), explanation_text(found))
