"""One row of the Online Retail data, whichever file it was read from."""

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from schemas.errors import InputError

ORDER, RETURN, ADJUSTMENT, FREE, BAD_DEBT = "order", "return", "adjustment", "free", "bad_debt"
SERVICE = "service"  # postage, fees, vouchers, manual entries: orders and credits alike
NO_MATCH = -1
MINUTE_MS = 60_000

Progress = Callable[[float], None]  # told which share of the file has been read, 0 to 1


class Row(NamedTuple):
    """A row, classed, with what it refers to.

    ``number`` counts from 0. ``quantity`` is positive for orders and returns alike. ``matched`` is
    the number of the order row that a return gives back, or ``NO_MATCH``. ``customer`` stays in the
    adapter: no event has it.
    """

    number: int
    at_ms: int
    invoice: str
    kind: str
    sku: str
    quantity: int
    unit_price_minor: int
    customer: str
    country: str
    description: str | None
    matched: int

    @property
    def is_account(self) -> bool:
        """Whether the row names a customer; one without is a guest's."""
        return self.customer != ""


class OrderRows:
    """Invoice and minute of every row so far, in 12 bytes a row."""

    def __init__(self) -> None:
        self._invoices: list[str] = []
        self._minutes = array("i")

    def add(self, row: Row) -> None:
        """Remember the next row."""
        invoices = self._invoices
        # neighbours of one invoice share one string
        shared = bool(invoices) and invoices[-1] == row.invoice
        invoices.append(invoices[-1] if shared else row.invoice)
        self._minutes.append(row.at_ms // MINUTE_MS)

    def find(self, number: int) -> tuple[str, int]:
        """Invoice and time (Unix milliseconds) of row ``number``."""
        return self._invoices[number], self._minutes[number] * MINUTE_MS


def bad_cell(path: Path, line: int, column: str, value: object, expected: str) -> InputError:
    """The error for a cell that can't be read."""
    return InputError(
        "bad_cell",
        f"{column} was {value!r}; expected {expected}.",
        where=f"{path}:{line}",
        field=column,
        value=value,
        expected=expected,
        fix="Use the file as its publisher gives it.",
    )
