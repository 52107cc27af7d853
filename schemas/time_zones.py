"""Market clocks: time zones given by a POSIX TZ rule, such as ``CET-1CEST,M3.5.0,M10.5.0/3``.

A rule is pure data: no update of a tz database can change what a replay makes of it.
"""

import struct
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from io import BytesIO
from zoneinfo import ZoneInfo

from schemas.events import EPOCH, MILLISECOND

# A TZif file (RFC 9636) of version 2 with one type, UTC, and no transitions: the rule in its
# footer then holds for all time. Twice header and data block, as the format wants it.
_BLOCK = b"TZif2" + bytes(15) + struct.pack(">6llbbc", 0, 0, 0, 0, 1, 1, 0, 0, 0, b"\0")


@lru_cache(maxsize=1024)
def zone_of_rule(rule: str) -> tzinfo:
    """The clock that a POSIX TZ rule describes.

    Raises
    ------
    ValueError : the text is no such rule; an IANA name is none

    >>> zone_of_rule("CET-1CEST,M3.5.0,M10.5.0/3").utcoffset(datetime(2026, 7, 1))
    datetime.timedelta(seconds=7200)
    """
    try:
        if not rule.isascii() or not rule.isprintable() or not rule:
            raise ValueError("not a line of ASCII")
        return ZoneInfo.from_file(BytesIO(2 * _BLOCK + b"\n" + rule.encode() + b"\n"))
    except ValueError:
        raise ValueError(
            "Expected a POSIX TZ rule such as `CET-1CEST,M3.5.0,M10.5.0/3`; `pricemaker policy "
            "check` prints that of an IANA name"
        ) from None


def local_date(at_ms: int, zone: tzinfo) -> date:
    """The calendar date of an instant (epoch milliseconds) on a market's clock."""
    return (EPOCH + at_ms * MILLISECOND).astimezone(zone).date()


def day_start_ms(day: date, zone: tzinfo) -> int:
    """The first instant of a local day, epoch milliseconds; also where midnight is skipped."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return (midnight.astimezone(UTC) - EPOCH) // MILLISECOND
