"""Rules between the prices of a family as difference constraints on log prices.

A ladder says how far apart two prices may stand: ``low <= ln P_upper - ln P_lower <= high``. With
bounds on every price such rules have a closure (shortest paths), in which the tightest bound on
every price and every difference is written out; whatever is chosen inside it one price after
another can be completed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.family.family_profit import Floats, Indices

TIED = 1e-9  # two prices this near to their limit move together
RUN_MEMBERS_MAX = 8  # of a longer ladder only runs from either end move as one


class Link(NamedTuple):
    """``low <= ln P[upper] - ln P[lower] <= high``; members by index, infinite: no limit."""

    lower: int
    upper: int
    low: float
    high: float


class Ladders:
    """The closure of bounds and links, in log prices over the reference price.

    Attributes
    ----------
    low, high : [n], bounds of x that the links leave
    apart : [n, n], the most that x_j may lie above x_i; None without links
    feasible : whether any prices keep all of it; if not, the links are dropped
    """

    def __init__(
        self, low: Floats, high: Floats, links: Sequence[Link], log_reference: Floats
    ) -> None:
        self.low, self.high = np.array(low), np.array(high)
        self.links = tuple(links)
        self.feasible = True
        self.apart: Floats | None = None
        if links:
            self._close(log_reference)

    def _close(self, log_reference: Floats) -> None:
        n = len(self.low)
        far = np.full((n + 1, n + 1), np.inf)  # the last node is the price that never moves
        np.fill_diagonal(far, 0.0)
        far[n, :n], far[:n, n] = self.high, -self.low
        for link in self.links:
            offset = log_reference[link.upper] - log_reference[link.lower]
            far[link.lower, link.upper] = min(far[link.lower, link.upper], link.high - offset)
            far[link.upper, link.lower] = min(far[link.upper, link.lower], offset - link.low)
        for k in range(n + 1):
            far = np.minimum(far, far[:, k : k + 1] + far[k : k + 1, :])
        if np.diag(far).min() < -TIED:
            self.feasible, self.links = False, ()
            return
        self.low, self.high, self.apart = -far[:n, n], far[n, :n].copy(), far[:n, :n]
        self.low = np.minimum(self.low, self.high)

    def fit(self, x: Floats) -> Floats:
        """The allowed price vectors near to x [..., n], member after member."""
        if self.apart is None:
            return np.clip(x, self.low, self.high)
        found = np.array(x)
        low = np.broadcast_to(self.low, found.shape).copy()
        high = np.broadcast_to(self.high, found.shape).copy()
        for i in range(len(self.low)):
            found[..., i] = np.minimum(np.maximum(found[..., i], low[..., i]), high[..., i])
            at = found[..., i : i + 1]
            low = np.maximum(low, at - self.apart[:, i])
            high = np.minimum(high, at + self.apart[i, :])
        return found

    def room(self, x: Floats, group: Indices) -> tuple[Floats, Floats]:
        """How far the group may move down and up together, [s] each, from allowed x [s, n]."""
        down = (self.low[group] - x[:, group]).max(axis=1)
        up = (self.high[group] - x[:, group]).min(axis=1)
        others = np.setdiff1d(np.arange(len(self.low)), group)
        if self.apart is not None and len(others):
            gap = x[:, None, others] - x[:, group, None]  # of each other above each of the group
            down = np.maximum(down, (gap - self.apart[np.ix_(group, others)]).max(axis=(1, 2)))
            up = np.minimum(up, (gap + self.apart[np.ix_(others, group)].T).min(axis=(1, 2)))
        return np.minimum(down, 0.0), np.maximum(up, 0.0)

    def groups(self) -> list[Indices]:
        """Who is moved together when a search looks along one direction: each, and runs."""
        n = len(self.low)
        found = [np.array([i]) for i in range(n)]
        seen = set()
        for ladder in self._chains():
            size = len(ladder)
            runs = (
                [(a, b) for a in range(size) for b in range(a + 2, size + 1)]
                if size <= RUN_MEMBERS_MAX
                else [(0, b) for b in range(2, size + 1)] + [(a, size) for a in range(1, size - 1)]
            )
            for a, b in runs:
                run = tuple(sorted(ladder[a:b]))
                if run not in seen:
                    seen.add(run)
                    found.append(np.array(run))
        return found

    def _chains(self) -> list[list[int]]:
        """The links put together to ladders, in their order."""
        chains: list[list[int]] = []
        for link in self.links:
            for chain in chains:
                if chain[-1] == link.lower and link.upper not in chain:
                    chain.append(link.upper)
                    break
            else:
                chains.append([link.lower, link.upper])
        return chains

    def tied(self, x: Floats) -> Floats:
        """The members of one price vector [n] that now can only move together: 0 or 1 [k, n]."""
        group = np.arange(len(self.low))
        for link in self.links if self.apart is not None else ():
            i, j = link.lower, link.upper
            assert self.apart is not None
            near = min(self.apart[i, j] - (x[j] - x[i]), self.apart[j, i] + (x[j] - x[i]))
            if near <= TIED:
                group = np.where(group == group[j], group[i], group)
        return np.asarray((np.unique(group)[:, None] == group).astype(float))
