"""Burrow's rules as a table: the answer of every rule, the status, and the reason in words."""

import struct

import pytest

from schemas.errors import InputError
from streams.lag import Commit, Rates, Status, Verdict, evaluate
from streams.lag.commit_log import Committed, decode_commit, partition_of
from streams.lag.rules import (
    had_caught_up,
    is_rewound,
    is_stalled,
    is_stopped,
    never_fell,
    not_moving,
    rates,
    was_zero,
)

NOW_MS = 60_000


def window(offsets: list[int], lags: list[int], every_ms: int, last_ms: int) -> list[Commit]:
    """Commits that end at ``last_ms``."""
    first_ms = last_ms - every_ms * (len(offsets) - 1)
    return [
        Commit(offset, first_ms + every_ms * number, lag)
        for number, (offset, lag) in enumerate(zip(offsets, lags, strict=True))
    ]


RECENT_MS = NOW_MS - 1_000
# why, window, lag now, recent ends,
# stopped, had caught up, rewound, was zero, stalled, never fell, verdict
CASES = [
    (
        "caught up now", window([1, 2, 3], [9, 8, 0], 1_000, 0), 0, [3],
        (True, True, False, True, False, False), Verdict(Status.OK, "caught up"),
    ),
    (
        "caught up, then died", window([1, 2, 3], [0, 0, 0], 1_000, 0), 50, [40, 53],
        (True, False, False, True, False, True), Verdict(Status.STOP, "no commit for 60.0 s"),
    ),
    (
        "died just now: a recent end shows that it had caught up",
        window([1, 2, 3], [0, 0, 0], 1_000, 0), 50, [3, 53],
        (True, True, False, True, False, True),
        Verdict(Status.OK, "was caught up at a recent commit"),
    ),
    (
        "one commit spans no time", window([3], [5], 1_000, RECENT_MS), 5, [8],
        (True, False, False, False, True, True), Verdict(Status.STOP, "no commit for 1.0 s"),
    ),
    (
        "silent as long as the window spans: not yet stopped",
        window([3, 5], [9, 9], 1_000, RECENT_MS), 9, [14],
        (False, False, False, False, False, True),
        Verdict(Status.WARN, "the lag has not fallen over 2 commits"),
    ),
    (
        "a millisecond longer", window([3, 5], [9, 9], 999, RECENT_MS), 9, [14],
        (True, False, False, False, False, True), Verdict(Status.STOP, "no commit for 1.0 s"),
    ),
    (
        "went back", window([3, 9, 5], [9, 3, 7], 1_000, RECENT_MS), 7, [12],
        (False, False, True, False, False, False),
        Verdict(Status.REWIND, "went back by 4 and has not recovered"),
    ),
    (
        "went back, and was caught up before: no excuse",
        window([3, 9, 5], [6, 0, 4], 1_000, RECENT_MS), 7, [12],
        (False, False, True, True, False, False),
        Verdict(Status.REWIND, "went back by 4 and has not recovered"),
    ),
    (
        "went back and recovered", window([3, 9, 5, 9], [9, 4, 8, 5], 1_000, RECENT_MS), 5, [14],
        (False, False, False, False, False, False), Verdict(Status.OK, "the lag falls"),
    ),
    (
        "stopped after it went back: STOP comes first",
        window([9, 5], [3, 7], 1_000, 0), 7, [12],
        (True, False, True, False, False, True), Verdict(Status.STOP, "no commit for 60.0 s"),
    ),
    (
        "a zero lag excuses a lag that grows",
        window([3, 4, 5], [0, 4, 8], 1_000, RECENT_MS), 8, [13],
        (False, False, False, True, False, True),
        Verdict(Status.OK, "was caught up at a recent commit"),
    ),
    (
        "commits without moving", window([5, 5, 5], [3, 5, 8], 1_000, RECENT_MS), 8, [13],
        (False, False, False, False, True, True),
        Verdict(Status.STALL, "3 commits of the same offset"),
    ),
    (
        "moves, and its lag grows", window([3, 4, 5], [3, 5, 8], 1_000, RECENT_MS), 8, [13],
        (False, False, False, False, False, True),
        Verdict(Status.WARN, "the lag has not fallen over 3 commits"),
    ),
    (
        "moves, and its lag stays", window([3, 4, 5], [8, 8, 8], 1_000, RECENT_MS), 8, [13],
        (False, False, False, False, False, True),
        Verdict(Status.WARN, "the lag has not fallen over 3 commits"),
    ),
    (
        "its lag fell once", window([3, 4, 7], [7, 8, 7], 1_000, RECENT_MS), 9, [16],
        (False, False, False, False, False, False), Verdict(Status.OK, "the lag falls"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("why", "commits", "lag", "ends", "answers", "verdict"), CASES)
def test_every_rule_and_their_order(why, commits, lag, ends, answers, verdict) -> None:
    assert (
        is_stopped(commits, NOW_MS),
        had_caught_up(commits, ends),
        is_rewound(commits),
        was_zero(commits),
        is_stalled(commits),
        never_fell(commits),
    ) == answers, why
    assert evaluate(commits, lag, ends, NOW_MS) == verdict, why


@pytest.mark.parametrize(
    ("commits", "lag", "allowed", "verdict"),
    [
        ([], None, 0, Verdict(Status.UNKNOWN, "the lag is not known")),
        ([], 5, 0, Verdict(Status.UNKNOWN, "no commit was seen")),
        ([], 0, 0, Verdict(Status.OK, "caught up")),
        (window([5], [9], 1, 0), 9, 9, Verdict(Status.OK, "lag within the allowance")),
        (window([5], [9], 1, 0), 10, 9, Verdict(Status.STOP, "no commit for 60.0 s")),
    ],
)
def test_without_a_window_and_with_an_allowance(commits, lag, allowed, verdict) -> None:
    assert evaluate(commits, lag, [], NOW_MS, allowed) == verdict


def test_only_the_last_ten_commits_matter() -> None:
    """The rewind is the eleventh from the end."""
    commits = window([99, *range(10)], [1] * 11, 1_000, RECENT_MS)
    assert is_rewound(commits)
    assert evaluate(commits, 1, [10], NOW_MS).status == Status.WARN


SOME = window([5], [1], 1, 0)


@pytest.mark.parametrize(
    ("assigned", "behind", "commits", "status", "expected"),
    [
        (True, True, [], Status.UNKNOWN, True),  # has it, never read it
        (True, True, SOME, Status.STOP, True),
        (True, True, SOME, Status.STALL, True),
        (True, True, SOME, Status.WARN, False),  # it moves
        (True, False, [], Status.OK, False),  # nothing to read
        (False, True, SOME, Status.STOP, False),  # nobody has it: plain STOP
        (None, True, SOME, Status.STOP, None),  # a rebalance is under way
        (True, None, SOME, Status.UNKNOWN, None),
    ],
)
def test_assigned_but_not_moving(assigned, behind, commits, status, expected) -> None:
    assert not_moving(assigned, behind, commits, status) is expected


MOVING = window([10, 20], [50, 45], 1_000, 59_000)  # the first at 58 s, when the end was 60


@pytest.mark.parametrize(
    ("commits", "offset", "end", "lag", "status", "expected"),
    [
        # in 2 s: 10 came, 14 were read, 46 are left: 4 more out than in take 23 s
        (MOVING, 24, 70, 46, Status.OK, Rates(messages_in_per_s=5.0, messages_out_per_s=7.0,
                                              catch_up_s=23.0)),
        (MOVING, 20, 70, 50, Status.WARN, Rates(messages_in_per_s=5.0, messages_out_per_s=5.0)),
        (MOVING, 24, 70, 46, Status.STOP, Rates(messages_in_per_s=5.0, messages_out_per_s=7.0)),
        (MOVING, 70, 70, 0, Status.OK, Rates(messages_in_per_s=5.0, messages_out_per_s=30.0,
                                             catch_up_s=0.0)),
        (MOVING, 2, 70, 68, Status.REWIND, Rates(messages_in_per_s=5.0, messages_out_per_s=0.0)),
        ([], None, 70, None, Status.UNKNOWN, Rates()),
        ([], None, 0, 0, Status.OK, Rates(catch_up_s=0.0)),
    ],
)  # fmt: skip
def test_rates_and_catching_up(commits, offset, end, lag, status, expected) -> None:
    assert rates(commits, offset, end, lag, status, NOW_MS) == expected


# -- the broker's log of commits

KEY = struct.pack(">hh2sh2si", 1, 2, b"g1", 2, b"t1", 7)
# As Kafka 4.3.1 wrote it: version 4, with the topic's id among the tagged fields.
KAFKA_4 = bytes.fromhex("0004 0000000000000005 ffffffff 01 000001a21aadaad4 01 0010") + bytes(16)


@pytest.mark.parametrize(
    ("why", "value"),
    [
        ("with an expiry", struct.pack(">hqh4sqq", 1, 5, 4, b"meta", 1795743918804, -1)),
        ("as of Kafka 0.9", struct.pack(">hqh4sq", 2, 5, 4, b"meta", 1795743918804)),
        ("with a leader's epoch", struct.pack(">hqih4sq", 3, 5, 1, 4, b"meta", 1795743918804)),
        ("compact", KAFKA_4),
    ],
)
def test_commits_of_all_versions_are_read(why, value) -> None:
    assert decode_commit(KEY, value, 0) == Committed("g1", "t1", 7, 5, 1795743918804), why


def test_long_metadata_has_a_length_of_two_bytes() -> None:
    metadata = b"m" * 200
    value = struct.pack(">hqi2s200sqB", 4, 5, -1, b"\xc9\x01", metadata, 99, 0)
    assert decode_commit(KEY, value, 0) == Committed("g1", "t1", 7, 5, 99)


def test_a_deleted_commit_and_what_is_none() -> None:
    assert decode_commit(KEY, None, 99) == Committed("g1", "t1", 7, None, 99)
    assert decode_commit(struct.pack(">hh2s", 2, 2, b"g1"), b"members", 99) is None


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (KEY, struct.pack(">hq", 5, 5), "unknown_commit_version"),
        (KEY, KAFKA_4[:20], "torn_commit"),
        (KEY[:5], KAFKA_4, "torn_commit"),
    ],
)
def test_what_cannot_be_read_is_bad_input(key, value, code) -> None:
    with pytest.raises(InputError) as caught:
        decode_commit(key, value, 0)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("group", "partitions", "expected"),
    [("g1", 4, 2), ("polygenelubricants", 50, 0), ("", 50, 0), ("\U0001f6d2", 50, 9)],
)
def test_the_partition_of_a_group(group, partitions, expected) -> None:
    """Java's hash: of UTF-16 units, signed; its lowest value counts as 0."""
    assert partition_of(group, partitions) == expected
