"""Colours and line styles of the report's plots, in light and dark.

Figures are built with the light colours; the page's script exchanges them for their dark ones by
looking each up, so a colour means one thing only. On both backgrounds, paper and soft, every ink
has a contrast of 4.5 at least (a test holds it), and lines differ in dash as well as in colour.
"""

from typing import NamedTuple


class Ink(NamedTuple):
    """A role's colour on white and on the dark page, and its dash."""

    light: str
    dark: str
    dash: str = "solid"


PAPER = Ink("#ffffff", "#14181d")
SOFT = Ink("#f5f7f9", "#1c2229")  # behind text, too
TEXT = Ink("#1b2128", "#e6e9ed")
MUTED = Ink("#59636e", "#a3adb8")
GRID = Ink("#e3e7eb", "#2c343d")  # decoration: no contrast asked

BASELINE = Ink("#1f5fa8", "#7db5f0")
CANDIDATES = (
    Ink("#b3400f", "#f29a60", "dash"),
    Ink("#1b7447", "#6ccb99", "dot"),
    Ink("#763c9c", "#cb9fe8", "dashdot"),
    Ink("#7a6000", "#dcc162", "longdash"),
    Ink("#a1265c", "#f291b9", "longdashdot"),
)
SHOWN = Ink("#3a424b", "#d2d8de", "dot")
RIVAL = Ink("#5f6770", "#9da7b1", "longdash")
COST = Ink("#85603f", "#cba67f", "dashdot")
MORE = Ink("#276f86", "#7cc7de")
LESS = Ink("#9b2c2c", "#f09a9a")

INKS = (PAPER, SOFT, TEXT, MUTED, GRID, BASELINE, *CANDIDATES, SHOWN, RIVAL, COST, MORE, LESS)
BAND_ALPHA = 0.18
PATTERNS = ("", "/", ".", "x", "-", "\\", "|", "+")  # of bars, beside their colours
OVERLAY = {"fillmode": "overlay", "fgcolor": PAPER.light, "fgopacity": 0.55, "size": 6}


def band(colour: str) -> str:
    """A colour as the fill of an interval, half seen through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND_ALPHA})"


def dark_of() -> dict[str, str]:
    """The dark colour of every light one, bands included; for the page's script."""
    found = {ink.light: ink.dark for ink in INKS}
    return {**found, **{band(ink.light): band(ink.dark) for ink in INKS}}


def of_policies(names: tuple[str, ...], baseline: str) -> dict[str, Ink]:
    """Each policy's ink: the baseline's own, candidates in turn."""
    others = [name for name in names if name != baseline]
    found = {name: CANDIDATES[at % len(CANDIDATES)] for at, name in enumerate(others)}
    return {baseline: BASELINE, **found}
