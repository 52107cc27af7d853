"""What a decision's profit was computed from, as it is recorded: the kernel's row by name."""

from models.kernel.objective import PADDING, Row

UNSAID = frozenset({"lower", "upper"})  # bounds of the search; no profit depends on them


def named(row: Row) -> dict[str, float]:
    """The row's fields that differ from ``PADDING``, normalised, for the decision record.

    >>> named(PADDING._replace(elasticity=-3.0, upper=9.0))
    {'elasticity': -3.0}
    """
    return {
        name: value
        for name, value, padding in zip(Row._fields, row, PADDING, strict=True)
        if value != padding and name not in UNSAID
    }


def row_of(inputs: dict[str, float]) -> Row:
    """The row that a decision record tells of; bounds of the search are ``PADDING``'s.

    A name that no row has (of another version) is passed over.
    """
    return PADDING._replace(**{name: inputs[name] for name in Row._fields if name in inputs})
