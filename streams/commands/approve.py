"""``pricemaker approve``: answer a price that waits."""

from typing import Any

import click

from streams.commands.answering import answer, yes_option
from streams.commands.steering import who_and_why
from streams.output import Output, bootstrap_option, command_options


@click.command("approve")
@click.argument("price", metavar="PRICE_ID|SKU")
@who_and_why
@yes_option
@bootstrap_option
@command_options()
def command(output: Output, price: str, yes: bool, **given: Any) -> None:
    """Approve a price that waits; the policy says which do.

    Guards, breaker and gate look at it once more, as they are when the answer arrives: they may
    still hold it. A price that waited too long, or that a newer decision replaced, is refused as a
    dead letter.

    Example: pricemaker approve SHIRT-M --reason "agreed with the supplier"
    """
    answer(output, "approve", price, yes=yes, **given)
