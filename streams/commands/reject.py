"""``pricemaker reject``: answer a price that waits."""

from typing import Any

import click

from streams.commands.answering import answer, yes_option
from streams.commands.steering import who_and_why
from streams.output import Output, bootstrap_option, command_options


@click.command("reject")
@click.argument("price", metavar="PRICE_ID|SKU")
@who_and_why
@yes_option
@bootstrap_option
@command_options()
def command(output: Output, price: str, yes: bool, **given: Any) -> None:
    """Reject a price that waits: the present one stays.

    The same price (within 3 %) is not proposed again until the published price, the unit cost, the
    rivals' price (by 3 %), the stock (none or some) or the policy changed.

    Example: pricemaker reject SHIRT-M --reason "agreed with the supplier"
    """
    answer(output, "reject", price, yes=yes, **given)
