"""The POSIX TZ rule of an IANA time zone, for a policy's ``time_zone``."""

import importlib.resources
import zoneinfo
from contextlib import suppress
from pathlib import Path

from schemas.errors import FieldError

TZIF_MAGIC = b"TZif"


def posix_rule(name: str) -> str:
    """The rule that a zone follows from now on: the footer of its file in the tz database.

    Raises
    ------
    FieldError : the name is unknown here, or the zone follows no rule

    >>> posix_rule("Europe/Berlin")
    'CET-1CEST,M3.5.0,M10.5.0/3'
    """
    content = _file(name)
    footer = b"" if content is None else content.rstrip(b"\n").rsplit(b"\n", 1)[-1]
    if content is None or not footer or not footer.isascii():
        raise FieldError(
            "unknown_time_zone",
            f"time zone was {name}; expected an IANA name that the tz database has a rule for.",
            field="time_zone",
            value=name,
            expected="an IANA name, such as Europe/Berlin",
            fix="Check the spelling, or install the tzdata package.",
        )
    return footer.decode()


def _file(name: str) -> bytes | None:
    """The zone's TZif file: the system's, else the tzdata package's."""
    parts = name.split("/")
    if not all(part and part.strip(".") for part in parts) or "\\" in name:
        return None  # no way out of the database's folder
    roots = [Path(folder) for folder in zoneinfo.TZPATH]
    with suppress(ModuleNotFoundError):  # optional: most systems bring the database
        roots.append(Path(str(importlib.resources.files("tzdata") / "zoneinfo")))
    for root in roots:
        path = root.joinpath(*parts)
        if path.is_file():
            content = path.read_bytes()
            if content.startswith(TZIF_MAGIC) and content[4:5] >= b"2":
                return content
    return None
