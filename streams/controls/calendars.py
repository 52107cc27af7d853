"""Named days of a country as a table, made once and then carried on the tape.

The fold and the simulator never ask the library: another version of it may name other days, and a
replay must not notice. The table goes out as ``calendar_published`` and is known by its hash.
"""

import re
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import holidays

from schemas.codec import canonical
from schemas.errors import ConfigError
from schemas.events import rfc3339

DAY_BEFORE, PAY_DAY = "day_before_holiday", "pay_day"
PAY_DAYS_OF_MONTH = (1, 15)
THURSDAY = 3

Calendar = dict[str, list[str]]


def calendar_table(country: str, first: date, last: date) -> Calendar:
    """Kinds of each named day from ``first`` to ``last``, both included, by ISO date.

    A public holiday is named by its name, as ``christmas_day``; the day before one that is none
    itself, pay days (the 1st and the 15th), Black Friday, Cyber Monday and Double 11 have kinds of
    their own. Days without a kind are left out.

    Parameters
    ----------
    country : ISO 3166 code of two letters, as the ``holidays`` library knows it

    Raises
    ------
    ConfigError : the library does not know the country
    """
    years = range(first.year, last.year + 2)  # one on: the last day may come before a holiday
    try:
        found = holidays.country_holidays(country, years=years, language="en_US")
    except NotImplementedError:
        raise ConfigError(
            "unknown_country",
            f"no holidays are known for {country}.",
            field="country",
            value=country,
            expected="an ISO 3166 code of two letters such as DE",
        ) from None
    table: Calendar = {}
    for number in range((last - first).days + 1):
        day = first + timedelta(number)
        kinds = {_kind(name) for name in found.get_list(day)} | _shop_days(day)
        if day + timedelta(1) in found and day not in found:
            kinds.add(DAY_BEFORE)
        if kinds:
            table[day.isoformat()] = sorted(kinds)
    return table


def calendar_sha256(table: Calendar) -> str:
    """The table's identity: the SHA-256 of its canonical JSON."""
    return sha256(canonical(table)).hexdigest()


def calendar_event(table: Calendar, at_ms: int) -> dict[str, Any]:
    """The table as the event ``calendar_published``, named by its content."""
    identity = calendar_sha256(table)
    return {
        "type": "calendar_published",
        "event_id": f"calendar-{identity[:16]}",
        "event_time": rfc3339(at_ms),
        "calendar": table,
        "calendar_sha256": identity,
    }


def _kind(name: str) -> str:
    """A holiday's name as a kind: ``_kind("New Year's Day")`` is ``"new_years_day"``."""
    return re.sub(r"\W+", "_", name.lower().replace("'", "").replace("’", "")).strip("_")


def _shop_days(day: date) -> set[str]:
    found = set()
    if day.day in PAY_DAYS_OF_MONTH:
        found.add(PAY_DAY)
    if (day.month, day.day) == (11, 11):
        found.add("double_11")
    if day == _thanksgiving(day.year) + timedelta(1):
        found.add("black_friday")
    if day == _thanksgiving(day.year) + timedelta(4):
        found.add("cyber_monday")
    return found


def _thanksgiving(year: int) -> date:
    """The fourth Thursday of November."""
    first = date(year, 11, 1)
    return first + timedelta((THURSDAY - first.weekday()) % 7 + 21)
