"""``pricemaker ingest calendar``: the named days of a country, once, as a table on the tape."""

import time
from datetime import date, datetime
from pathlib import Path

import click

from schemas.codec import canonical
from schemas.errors import ConfigError
from schemas.events import time_ms
from schemas.topics import CONTROLS
from streams.commands.feeding import make_feeder
from streams.controls.calendars import calendar_event, calendar_table
from streams.output import Output, bootstrap_option, command_options
from streams.tape.event_files import EventWriter

DAY = click.DateTime(["%Y-%m-%d"])


@click.command("calendar")
@click.argument("country")
@click.option("--from", "first", type=DAY, required=True, help="First day of the table.")
@click.option("--to", "last", type=DAY, required=True, help="Last day of the table, included.")
@click.option("--at", metavar="TIME", help="When it is published, UTC.  [default: now]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Event file to write.")
@click.option("--to-kafka", is_flag=True, help="Produce to the topic controls.")
@click.option("--dry-run", is_flag=True, help="Only make the table and show it.")
@bootstrap_option
@command_options()
def calendar(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    country: str,
    first: datetime,
    last: datetime,
    at: str | None,
    out: Path | None,
    to_kafka: bool,
    dry_run: bool,
) -> None:
    """Publish the named days of COUNTRY (ISO 3166): holidays, pay days, days of the shops.

    The table replaces the one before it. It is known by its content, so that a replay reads the
    days as they were published, whatever the library of holidays says by then.

    Example: pricemaker ingest calendar DE --from 2026-01-01 --to 2027-12-31 --dry-run
    """
    if (out is not None) + to_kafka + dry_run != 1:
        raise ConfigError(
            "one_target", "give one of --out FILE, --to-kafka and --dry-run.", field="--out"
        )
    table = calendar_table(country, first.date(), last.date())
    event = calendar_event(table, _published_ms(at))
    if out is not None:
        with EventWriter(out) as writer:
            writer.write(CONTROLS.name, canonical(event))
    elif to_kafka:
        make_feeder(config_file, bootstrap, None).feed([(CONTROLS.name, canonical(event))])
    days = [f"{date.fromisoformat(day):%a} {day}  {', '.join(table[day])}" for day in table]
    output.document(event, "\n".join([*days, f"{len(table)} days, {event['calendar_sha256']}"]))


def _published_ms(at: str | None) -> int:
    if at is None:
        return int(time.time() * 1000)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigError(
            "wrong_time", f"{at} is no time with a zone.", field="--at", value=at,
            expected="a time such as 2026-01-01T00:00:00Z",
        )  # fmt: skip
    return time_ms(moment)
