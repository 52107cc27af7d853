"""The status of a consumer, by the rules of Burrow. Pure; times are milliseconds, all on one clock.

Each rule is a question about a *window*: the last commits of one group in one partition, oldest
first. `evaluate` holds their order, which is the design: a consumer that was caught up and then
died must not look healthy, so STOP comes before the excuse that a lag of 0 gives.

Source: LinkedIn's Burrow, `core/internal/evaluator/caching.go`, after its rules; no code of it.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

WINDOW_COMMITS_MAX = 10


class Status(StrEnum):
    """What a consumer does with a partition."""

    OK = "OK"  # caught up, or getting there
    UNKNOWN = "UNKNOWN"  # it cannot be said; never counted as OK
    WARN = "WARN"  # works, but its lag never falls
    STALL = "STALL"  # commits, but always the same offset
    STOP = "STOP"  # has not committed for longer than its last commits span
    REWIND = "REWIND"  # went back, and has not come to where it was


# Worse to the right. What is not known is worse than OK and better than a lag that is known to
# grow; the last three are Burrow's ERR.
SEVERITY = (Status.OK, Status.UNKNOWN, Status.WARN, Status.STALL, Status.STOP, Status.REWIND)
assert set(SEVERITY) == set(Status)
STANDING = (Status.STALL, Status.STOP)


class Commit(NamedTuple):
    """One commit: the next offset to read, when, and the lag there was then (messages)."""

    offset: int
    time_ms: int
    lag_messages: int


Window = Sequence[Commit]


class Verdict(Struct, frozen=True):
    """A status and why, in words."""

    status: Status
    reason: str


def is_stopped(window: Window, now_ms: int) -> bool:
    """Whether the time since the last commit exceeds the time that the window spans."""
    return now_ms - window[-1].time_ms > window[-1].time_ms - window[0].time_ms


def had_caught_up(window: Window, ends_recent: Sequence[int]) -> bool:
    """Whether a recent end of the log was at or before the last committed offset."""
    return any(end <= window[-1].offset for end in ends_recent)


def is_rewound(window: Window) -> bool:
    """Whether the offset went down and has not recovered."""
    return max(commit.offset for commit in window) > window[-1].offset


def was_zero(window: Window) -> bool:
    """Whether the lag was 0 at some commit."""
    return any(commit.lag_messages == 0 for commit in window)


def is_stalled(window: Window) -> bool:
    """Whether all commits are of one offset."""
    return all(commit.offset == window[0].offset for commit in window)


def never_fell(window: Window) -> bool:
    """Whether the lag at each commit was at least that at the one before."""
    return all(later.lag_messages >= earlier.lag_messages for earlier, later in pairwise(window))


def evaluate(
    window: Window,
    lag_messages: int | None,
    ends_recent: Sequence[int],
    now_ms: int,
    lag_allowed: int = 0,
) -> Verdict:
    """Judge one group in one partition.

    Parameters
    ----------
    window : its last commits, oldest first; at most `WINDOW_COMMITS_MAX` matter
    lag_messages : the lag now; None where it is not known
    ends_recent : ends of the log as they were seen lately
    lag_allowed : a lag up to this (messages) is always OK
    """
    if lag_messages is None:
        return Verdict(Status.UNKNOWN, "the lag is not known")
    if lag_messages <= lag_allowed:
        return Verdict(Status.OK, "caught up" if lag_messages == 0 else "lag within the allowance")
    window = window[-WINDOW_COMMITS_MAX:]
    if not window:
        return Verdict(Status.UNKNOWN, "no commit was seen")
    if is_stopped(window, now_ms) and not had_caught_up(window, ends_recent):
        silent_s = (now_ms - window[-1].time_ms) / 1000
        return Verdict(Status.STOP, f"no commit for {silent_s:,.1f} s")
    if is_rewound(window):
        back = max(commit.offset for commit in window) - window[-1].offset
        return Verdict(Status.REWIND, f"went back by {back:,} and has not recovered")
    if was_zero(window):
        return Verdict(Status.OK, "was caught up at a recent commit")
    if is_stalled(window):
        return Verdict(Status.STALL, f"{len(window)} commits of the same offset")
    if never_fell(window):
        return Verdict(Status.WARN, f"the lag has not fallen over {len(window)} commits")
    return Verdict(Status.OK, "the lag falls")


def not_moving(
    assigned: bool | None, behind: bool | None, window: Window, status: Status
) -> bool | None:
    """Whether a live member has the partition, there is something to read, and nothing moves.

    This is what heartbeats do not show: the member is in its group, so nobody takes over. None
    where it is not known who has it, or whether there is something to read.
    """
    if assigned is None or behind is None:
        return None
    return assigned and behind and (not window or status in STANDING)


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of some statuses: UNKNOWN where there are none.

    >>> worst([Status.OK, Status.WARN, Status.UNKNOWN]).value
    'WARN'
    """
    return max(statuses, key=SEVERITY.index, default=Status.UNKNOWN)


class Rates(Struct, frozen=True, kw_only=True):
    """How fast a partition is written and read, and when the reader will have caught up.

    All None where not known. ``catch_up_s`` is 0 when caught up, and None when the reader is not
    faster than what comes in: it never will.
    """

    messages_in_per_s: float | None = None
    messages_out_per_s: float | None = None
    catch_up_s: float | None = None


def rates(
    window: Window,
    offset: int | None,
    end: int,
    lag_messages: int | None,
    status: Status,
    now_ms: int,
) -> Rates:
    """Rates since the first commit of the window, up to now.

    Parameters
    ----------
    offset : committed now
    end : of the log now
    status : one that stands still never catches up, whatever it did before
    """
    caught_up = 0.0 if lag_messages == 0 else None
    window = window[-WINDOW_COMMITS_MAX:]
    if not window or offset is None or now_ms <= window[0].time_ms:
        return Rates(catch_up_s=caught_up)
    first, span_s = window[0], (now_ms - window[0].time_ms) / 1000
    # A rewound offset or a topic made anew would give a rate below 0, which is none.
    incoming = max(0, end - first.offset - first.lag_messages) / span_s
    outgoing = max(0, offset - first.offset) / span_s
    catch_up = caught_up
    if lag_messages and outgoing > incoming and status not in STANDING:
        catch_up = lag_messages / (outgoing - incoming)
    return Rates(messages_in_per_s=incoming, messages_out_per_s=outgoing, catch_up_s=catch_up)
