"""``pricemaker reject``: answer a price that waits."""

from pathlib import Path

import click

from streams.commands.answering import actor_option, answer, reason_option, yes_option
from streams.output import Output, bootstrap_option, command_options


@click.command("reject")
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
    """Reject a price that waits: the present one stays.

    The same price (within 3 %) is not proposed again until the published price, the unit cost, the
    rivals' price (by 3 %), the stock (none or some) or the policy changed.

    Example: pricemaker reject SHIRT-M --reason "agreed with the supplier"
    """
    answer(output, config_file, bootstrap, "reject", price, reason, actor, yes)
