"""ISO 4217 currencies. Money is an integer number of minor units of one currency."""

from functools import cache
from typing import Annotated

from iso4217 import Currency
from msgspec import Meta

from schemas.errors import FieldError

MONEY_MINOR_MAX = 10**12

PriceMinor = Annotated[
    int, Meta(ge=1, le=MONEY_MINOR_MAX, description="money above zero, in minor units of currency")
]
AmountMinor = Annotated[
    int, Meta(ge=0, le=MONEY_MINOR_MAX, description="money, in minor units of currency")
]
CurrencyCode = Annotated[
    str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217 alphabetic currency code")
]

_DIGITS: dict[str, int] = {
    currency.code: currency.exponent for currency in Currency if currency.exponent is not None
}


def is_currency(code: str) -> bool:
    """Whether ``code`` is an ISO 4217 code of a currency that has minor units defined."""
    return code in _DIGITS


@cache
def minor_digits(code: str) -> int:
    """Return the number of decimal digits of a currency's minor unit (EUR 2, JPY 0, KWD 3).

    Raises
    ------
    FieldError : the code is not an ISO 4217 currency
    """
    if code not in _DIGITS:
        raise FieldError(
            "unknown_currency",
            f"currency was {code!r}; expected an ISO 4217 code such as EUR.",
            field="currency",
            value=code,
            expected="an ISO 4217 code such as EUR",
        )
    return _DIGITS[code]


def format_minor(amount_minor: float, currency: str) -> str:
    """Write an amount for people: ``format_minor(1999, "EUR")`` is ``"19.99 EUR"``."""
    digits = minor_digits(currency)
    return f"{amount_minor / 10**digits:,.{digits}f} {currency}"
