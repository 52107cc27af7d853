"""Amounts of money as people read them."""

from schemas.money import format_minor, minor_digits


def money(amount_minor: float | None, currency: str) -> str:
    """``money(1999, "EUR")`` is ``"19.99 EUR"``; what is not there is ``"none"``."""
    return "none" if amount_minor is None else format_minor(amount_minor, currency)


def signed(amount_minor: float, currency: str) -> str:
    """An amount with its sign, without its currency; no minus before a zero.

    >>> signed(-1250, "EUR"), signed(-0.1, "EUR")
    ('-12.50', '+0.00')
    """
    digits = minor_digits(currency)
    amount = round(amount_minor / 10**digits, digits)
    return f"{amount or 0.0:+,.{digits}f}"
