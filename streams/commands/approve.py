"""``pricemaker approve``: answer a price that waits."""

from pathlib import Path

import click

from streams.commands.answering import actor_option, answer, reason_option, yes_option
from streams.output import Output, bootstrap_option, command_options


@click.command("approve")
@click.argument("price", metavar="PRICE_ID|SKU")
@reason_option
@actor_option
@yes_option
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    price: str,
    reason: str,
    actor: str | None,
    yes: bool,
) -> None:
    """Approve a price that waits; the policy says which do.

    Guards, breaker and gate look at it once more, as they are when the answer arrives: they may
    still hold it. A price that waited too long, or that a newer decision replaced, is refused as a
    dead letter.

    Example: pricemaker approve SHIRT-M --reason "agreed with the supplier"
    """
    answer(output, config_file, bootstrap, "approve", price, reason, actor, yes)
