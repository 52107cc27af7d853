"""Watching consumers: windows of commits, ends of logs, and what the rules say of them.

A commit's lag needs the end of the log *at that time*: the first record that is not older than the
commit, and where there is none, the end now. That is exact where record timestamps follow the
clock, as they do unless a producer sets its own; between two looks the ends that they saw bound it.
So that an end that cannot be placed any better is not taken for a lag that falls, only the last
commit of each look enters the window, as Burrow's ``min-distance`` does; before the first, all do.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec
from msgspec import structs

from streams.kafka.kafka_settings import QUIET
from streams.kafka.reader import unreachable
from streams.lag.broker import (
    NEVER_COMMITTED,
    ClientConfig,
    GroupLag,
    PartitionLag,
    Place,
    consumer_lag,
    list_offsets,
    wall_clock_ms,
    where,
)
from streams.lag.commit_log import CommitLog, Committed
from streams.lag.rules import WINDOW_COMMITS_MAX, Commit, evaluate, not_moving, rates

ENDS_RECENT_MAX = 10
# A group whose next record is younger had caught up so short a time ago: it may not have had the
# time to commit. What the ends of earlier looks show, a first look knows by this.
RECENT_MS = 5_000
LOOKUPS_MAX = 50  # requests for ends in the past at one look; older commits than that are left out
REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
GroupPlace = tuple[str, Place]  # group, (topic, partition)


class LagObserver:
    """Looks at the lag of some groups, again and again.

    Parameters
    ----------
    client : bootstrap and security settings as confluent-kafka takes them
    expected : group -> topics it should be reading, asked at each look: groups come and go
    commits_of : groups whose commits are followed; None: all
    now_ms : the clock that commit and record times are compared with

    Attributes
    ----------
    sampled : the commit log may not be read, so commits are seen only when the offset has changed
        between two looks; STALL then looks like STOP, and times are those of the looks
    """

    def __init__(
        self,
        client: ClientConfig,
        expected: Callable[[], Mapping[str, Collection[str]]],
        commits_of: Collection[str] | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.sampled = False
        self._client = client
        self._expected = expected
        self._now_ms = now_ms
        self._log = CommitLog(client, commits_of)
        self._admin = AdminClient({**client, **QUIET})
        self._windows: dict[GroupPlace, deque[Commit]] = {}
        self._ends: dict[Place, deque[int]] = {}

    def close(self) -> None:
        """Let the broker go."""
        self._log.close()

    def look(self) -> list[GroupLag]:
        """The lag of all expected groups now.

        Raises
        ------
        ServiceError : the broker can't be reached or refuses
        InputError : the broker is of a version whose commits can't be read
        """
        # Commits first: what is committed by the time the ends are known is at least this much.
        commits = self._commits()
        groups = consumer_lag(self._client, self._expected(), self._now_ms)
        rows = {
            (group.group, (row.topic, row.partition)): row
            for group in groups
            for row in group.partitions
        }
        if self.sampled:
            commits = self._changes(rows)
        try:
            self._take(commits, rows)
        except KafkaException as error:
            raise unreachable(error, where(self._client)) from error
        ends = {}
        for (_, place), row in rows.items():
            ends[place] = row.offset_end
        for place, end in ends.items():
            self._ends.setdefault(place, deque(maxlen=ENDS_RECENT_MAX)).append(end)
        self._forget(rows)
        return [self._judged(group) for group in groups]

    # -- commits

    def _commits(self) -> list[Committed]:
        if self.sampled:
            return []
        try:
            return self._log.read()
        except KafkaException as error:
            if error.args[0].code() not in REFUSED:
                raise unreachable(error, where(self._client)) from error
            self.sampled = True
            return []

    def _changes(self, rows: Mapping[GroupPlace, PartitionLag]) -> list[Committed]:
        """What was committed since the last look, where only offsets can be asked for."""
        now_ms, found = self._now_ms(), []
        for (group, place), row in rows.items():
            window = self._windows.get((group, place))
            if row.offset_committed is not None and (
                not window or window[-1].offset != row.offset_committed
            ):
                found.append(Committed(group, *place, row.offset_committed, now_ms))
        return found

    def _take(self, commits: Iterable[Committed], rows: Mapping[GroupPlace, PartitionLag]) -> None:
        fresh: dict[GroupPlace, deque[Committed]] = {}
        for commit in commits:
            key = commit.group, (commit.topic, commit.partition)
            if commit.offset is None:  # deleted: what comes after it begins anew
                fresh.pop(key, None)
                self._windows.pop(key, None)
            elif key in rows:
                fresh.setdefault(key, deque(maxlen=WINDOW_COMMITS_MAX)).append(commit)
        newest = {
            key: deque([found[-1]]) if key in self._windows else found
            for key, found in fresh.items()
        }
        self._append(newest, rows)

    def _append(
        self,
        fresh: Mapping[GroupPlace, deque[Committed]],
        rows: Mapping[GroupPlace, PartitionLag],
    ) -> None:
        # One request asks for one time per partition: take turns, the newest commits first.
        waiting = {key: deque(commits) for key, commits in fresh.items()}
        added: dict[GroupPlace, deque[Commit]] = {key: deque() for key in fresh}
        for turn in count():
            asked: dict[Place, tuple[GroupPlace, Committed]] = {}
            for key, commits in waiting.items():
                if commits and key[1] not in asked:
                    asked[key[1]] = key, commits.pop()
            if not asked or turn == LOOKUPS_MAX:
                break
            ends = self._ends_at({place: commit.time_ms for place, (_, commit) in asked.items()})
            for place, (key, commit) in asked.items():
                end_now = rows[key].offset_end
                end = end_now if ends[place] < 0 else min(ends[place], end_now)
                if key in self._windows:
                    end = max(end, self._ends[place][-1])
                added[key].appendleft(_commit(commit, end))
        for key, commits in added.items():
            self._windows.setdefault(key, deque(maxlen=WINDOW_COMMITS_MAX)).extend(commits)

    def _ends_at(self, times_ms: Mapping[Place, int]) -> dict[Place, int]:
        """Per partition the first record at or after a time; below 0 where there is none."""
        specs = {place: OffsetSpec.for_timestamp(ms) for place, ms in times_ms.items()}
        return {
            place: int(found.offset) for place, found in list_offsets(self._admin, specs).items()
        }

    def _forget(self, rows: Mapping[GroupPlace, PartitionLag]) -> None:
        """Keep nothing of groups and topics that are gone."""
        places = {place for _, place in rows}
        self._windows = {key: value for key, value in self._windows.items() if key in rows}
        self._ends = {key: value for key, value in self._ends.items() if key in places}

    # -- judgement

    def _judged(self, group: GroupLag) -> GroupLag:
        rows = tuple(self._judge(group.group, row) for row in group.partitions)
        return structs.replace(group, partitions=rows)

    def _judge(self, group: str, row: PartitionLag) -> PartitionLag:
        place = row.topic, row.partition
        window = list(self._windows.get((group, place), ()))
        now_ms, lag = self._now_ms(), row.consumer_lag_messages
        ends = list(self._ends[place])
        if (
            row.offset_committed is not None
            and row.consumer_lag_ms is not None
            and 0 <= row.consumer_lag_ms < RECENT_MS
        ):
            ends.append(row.offset_committed)  # the end was there when that record was not
        verdict = evaluate(window, lag, ends, now_ms)
        behind = None if lag is None else lag > 0
        if row.unknown == NEVER_COMMITTED:
            behind = True
        return structs.replace(
            row,
            status=verdict.status,
            reason=row.unknown if lag is None and row.unknown else verdict.reason,
            not_moving=not_moving(row.assigned, behind, window, verdict.status),
            commit_time_ms=window[-1].time_ms if window else None,
            rates=rates(window, row.offset_committed, row.offset_end, lag, verdict.status, now_ms),
        )


def _commit(committed: Committed, end: int) -> Commit:
    offset: Any = committed.offset  # deletions never come here
    return Commit(offset, committed.time_ms, max(0, end - offset))
