"""``pricemaker dead-letter``: look at events that could not be accepted, and send them again."""

from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from schemas.errors import CheckFailed
from schemas.topics import SOURCES
from streams.config import load_settings
from streams.kafka.dead_letters import Letter, Redrive, read_letters, redrive, select
from streams.output import Output, bootstrap_option, command_options
from streams.worker.outbox import IntakeOutbox

VALUE_CHARACTERS = 60


@click.group("dead-letter")
def command() -> None:
    """List or redrive events that could not be accepted."""


def filters(function: Callable[..., None]) -> Callable[..., None]:
    """The options that choose letters; several of one kind mean any of them."""
    for option in (
        click.option("--id", "ids", multiple=True, help="Letter, such as orders-0-12."),
        click.option("--error", "errors", multiple=True, help="Error, such as unknown_product."),
        click.option(
            "--topic",
            "topics",
            multiple=True,
            type=click.Choice([topic.name for topic in SOURCES]),
            help="Source topic the event came from.",
        ),
    ):
        function = option(function)
    return function


@command.command("list")
@filters
@bootstrap_option
@command_options()
def list_letters(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    topics: tuple[str, ...],
    errors: tuple[str, ...],
    ids: tuple[str, ...],
) -> None:
    """Show dead letters: which event, why it was refused, and whether it was sent again.

    With --json one line per letter, with the original key and value.

    \b
    Example: pricemaker dead-letter list --topic orders --error unknown_product
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    letters = select(read_letters(settings), topics=topics, errors=errors, ids=ids)
    if output.as_json:
        for letter in letters:
            output.record(letter.as_dict(), "")
    else:
        output.text(_table(letters) if letters else "no dead letters")


def _table(letters: list[Letter]) -> Table:
    table = Table("id", "error", "what", "key", "redriven")
    for letter in letters:
        key = "" if letter.key is None else letter.key.decode("utf-8", "backslashreplace")
        table.add_row(
            letter.id,
            letter.error,
            letter.facts.get("dl_message", ""),
            key[:VALUE_CHARACTERS],
            letter.redriven_at or "",
        )
    return table


@command.command("redrive")
@filters
@click.option("--all", "everything", is_flag=True, help="Every letter; needed without a filter.")
@click.option("--force", is_flag=True, help="Also letters that were redriven before.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@bootstrap_option
@command_options()
def redrive_letters(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    topics: tuple[str, ...],
    errors: tuple[str, ...],
    ids: tuple[str, ...],
    everything: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Send the original events to their topics again: key, value and headers unchanged.

    A letter that was redriven before is refused unless --force is given; exit 5 says that some
    were. The event is judged anew: mend the cause first (such as listing the product).

    \b
    Example: pricemaker dead-letter redrive --error unknown_product --dry-run
    """
    if not (topics or errors or ids or everything):
        raise click.UsageError("Give --topic, --error or --id, or --all for every letter.")
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    letters = select(read_letters(settings), topics=topics, errors=errors, ids=ids)
    outbox = None if dry_run else IntakeOutbox(settings)
    done = redrive(letters, outbox, force=force)
    output.document(_as_dict(done, dry_run), _as_text(done, dry_run))
    if done.refused:
        raise CheckFailed(
            "redriven_before",
            f"{len(done.refused)} of {len(letters)} letters were redriven before and were left.",
            where="dead-letter",
            value=", ".join(letter.id for letter in done.refused),
            fix="Look at dead-letter list; send them again with --force if that is meant.",
        )


def _as_dict(done: Redrive, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "sent": [letter.id for letter in done.sent],
        "redriven_before": [letter.id for letter in done.refused],
        "not_from_a_source": [letter.id for letter in done.foreign],
    }


def _as_text(done: Redrive, dry_run: bool) -> str:
    verb = "would be sent" if dry_run else "sent"
    text = f"{len(done.sent)} {verb} again, {len(done.refused)} redriven before"
    return f"{text}, {len(done.foreign)} not from a source" if done.foreign else text
