"""Delta debugging: the smallest part of some changes that still shows an effect.

Source: A. Zeller, R. Hildebrandt (2002), Simplifying and isolating failure-inducing input, IEEE
Trans. Softw. Eng. 28: ddmin. What it finds is 1-minimal: without any one of it the effect is gone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

Places = tuple[int, ...]


class Minimal(NamedTuple):
    """The changes that are left, by place; ``proved`` that none of them can be left out."""

    places: Places
    proved: bool


class OutOfProbes(Exception):
    """The bounded number of probes is used up."""


class Probes:
    """Asks whether some changes, by place, show the effect; each set is asked once.

    Parameters
    ----------
    shows : the question
    most : sets that are asked at most
    """

    def __init__(self, shows: Callable[[Places], bool], most: int) -> None:
        self._shows, self._most = shows, most
        self._known: dict[Places, bool] = {}

    @property
    def used(self) -> int:
        """How many were asked."""
        return len(self._known)

    def __call__(self, places: Places) -> bool:
        """Whether these changes alone show the effect.

        Raises
        ------
        OutOfProbes : it would be one too many
        """
        if places not in self._known:
            if self.used >= self._most:
                raise OutOfProbes
            self._known[places] = self._shows(places)
        return self._known[places]


def ddmin(places: Sequence[int], probes: Probes) -> Minimal:
    """Return a 1-minimal part of changes that together show the effect.

    Where probes run out, what is left by then shows the effect, but may be too much.

    >>> ddmin(range(8), Probes(lambda kept: {2, 6} <= {*kept}, 100))
    Minimal(places=(2, 6), proved=True)
    """
    left, parts = tuple(places), 2
    try:
        if probes(()):
            return Minimal((), True)
        while len(left) >= 2:
            chunks = _chunks(left, parts)
            smaller = next((chunk for chunk in chunks if probes(chunk)), None)
            if smaller is not None:
                left, parts = smaller, 2
                continue
            rests = (tuple(one for one in left if one not in chunk) for chunk in chunks)
            rest = next((found for found in rests if probes(found)), None)
            if rest is not None:
                left, parts = rest, max(parts - 1, 2)
            elif parts >= len(left):
                break
            else:
                parts = min(2 * parts, len(left))
    except OutOfProbes:
        return Minimal(left, False)
    return Minimal(left, True)


def _chunks(places: Places, parts: int) -> list[Places]:
    """Parts of about the same size, in order, none empty."""
    size = len(places)
    ends = [size * part // parts for part in range(parts + 1)]
    return [places[a:b] for a, b in pairwise(ends) if a < b]
