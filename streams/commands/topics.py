"""``pricemaker topics``: make the topics, or check them."""

from pathlib import Path

import click
from rich.table import Table

from schemas.errors import CheckFailed
from streams.config import load_settings
from streams.kafka.admin import Created, Finding, check_topics, create_topics
from streams.output import Output, bootstrap_option, command_options


@click.group("topics")
def command() -> None:
    """Create or check the topics that Pricemaker reads and writes."""


@command.command("create")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    help="Of the tape and what goes with it; can never change.  [default: worker.partitions, 4]",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 16),
    help="Copies of each partition.  [default: the broker's own]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be made.")
@bootstrap_option
@command_options()
def create(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    dry_run: bool,
) -> None:
    """Make every topic that does not exist; leave those that do.

    \b
    Example: pricemaker topics create --partitions 8 --replication 3
    """
    settings = load_settings(
        config_file, {"kafka.bootstrap": bootstrap, "worker.partitions": partitions}
    )
    topics = create_topics(
        settings,
        partitions=settings.worker.partitions,
        replication=-1 if replication is None else replication,
        dry_run=dry_run,
    )
    output.document({"topics": [topic.as_dict() for topic in topics]}, _created(topics, dry_run))


def _created(topics: list[Created], dry_run: bool) -> Table:
    table = Table("topic", "partitions", "what")
    for topic in topics:
        made = "would be created" if dry_run else "there already"
        what = "created" if topic.created else made
        table.add_row(topic.topic, str(topic.partitions), what)
    return table


@command.command("check")
@bootstrap_option
@command_options()
def check(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Check names, partition counts, clean-up policies and retention; exit 5 if one is wrong.

    \b
    Example: pricemaker topics check --json
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    findings = check_topics(settings)
    output.document({"topics": [finding.as_dict() for finding in findings]}, _checked(findings))
    wrong = [finding for finding in findings if finding.problem is not None]
    if wrong:
        raise CheckFailed(
            "topics_wrong",
            "; ".join(f"{finding.topic} {finding.problem}" for finding in wrong) + ".",
            where="topics",
            fix=wrong[0].fix,
        )


def _checked(findings: list[Finding]) -> Table:
    table = Table("topic", "partitions", "check")
    for finding in findings:
        table.add_row(finding.topic, str(finding.partitions), finding.problem or "ok")
    return table
