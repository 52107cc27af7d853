"""Minor units of ISO 4217 currencies."""

import pytest

from schemas.errors import FieldError
from schemas.money import format_minor, is_currency, minor_digits


@pytest.mark.parametrize(
    ("code", "digits"), [("EUR", 2), ("GBP", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)]
)
def test_minor_digits_are_the_currency_s_own(code: str, digits: int) -> None:
    assert minor_digits(code) == digits
    assert is_currency(code)


@pytest.mark.parametrize("code", ["", "EURO", "eur", "XXX", "XAU", "XTS", "XQX"])
def test_what_has_no_minor_units_is_no_currency(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(FieldError) as caught:
        minor_digits(code)
    assert caught.value.as_dict() == {
        "code": "unknown_currency",
        "message": f"currency was {code!r}; expected an ISO 4217 code such as EUR.",
        "where": None,
        "field": "currency",
        "value": code,
        "expected": "an ISO 4217 code such as EUR",
        "fix": None,
    }


@pytest.mark.parametrize(
    ("amount_minor", "code", "text"),
    [
        (1999, "EUR", "19.99 EUR"),
        (123456789, "EUR", "1,234,567.89 EUR"),
        (1999, "JPY", "1,999 JPY"),
        (1999, "KWD", "1.999 KWD"),
        (-5, "GBP", "-0.05 GBP"),
        (0, "GBP", "0.00 GBP"),
    ],
)
def test_amounts_for_people(amount_minor: int, code: str, text: str) -> None:
    assert format_minor(amount_minor, code) == text
