"""Lag as one document, and a thread that keeps it current: for the gateway, metrics, the desk."""

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec

from schemas.errors import PricemakerError
from schemas.events import rfc3339
from schemas.topics import PRICES_LATEST, SOURCES, TAPE
from streams.kafka.kafka_settings import client_config, edge_group_id, group_id, topic_name
from streams.lag.broker import GroupLag, PartitionLag, known_groups, wall_clock_ms
from streams.lag.freshness import Freshness, price_freshness
from streams.lag.observer import LagObserver
from streams.lag.rules import Status, worst

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
WORKER_GROUPS = 3  # all roles together, or one each


class Look(NamedTuple):
    """What was seen at one time."""

    observed_ms: int
    groups: list[GroupLag]
    freshness: list[Freshness]

    @property
    def status_worst(self) -> Status:
        """The worst group's."""
        return worst([group.status_worst for group in self.groups])


def own_group_topics(settings: Any) -> dict[str, tuple[str, ...]]:
    """All groups that we may have, with their topics: workers (the common one first), edge."""
    sources = tuple(topic_name(settings, topic.name) for topic in SOURCES)
    tape = (topic_name(settings, TAPE.name),)
    topics = {"all": sources + tape, "intake": sources, "pricer": tape}
    found = {}
    for role, names in topics.items():
        worker = settings.worker.model_copy(update={"role": role})
        found[group_id(settings.model_copy(update={"worker": worker}))] = names
    latest = (topic_name(settings, PRICES_LATEST.name),)
    endpoints = [f"webhook-{endpoint.name}" for endpoint in settings.webhooks.endpoints]
    return found | {edge_group_id(settings, part): latest for part in ("projector", *endpoints)}


def own_groups(settings: Any) -> dict[str, tuple[str, ...]]:
    """Those of our groups that exist, with their topics; the common one if no worker's does.

    Raises
    ------
    ServiceError : the broker can't be reached
    """
    topics = own_group_topics(settings)
    known = set(known_groups(client_config(settings)))
    existing = {group: names for group, names in topics.items() if group in known}
    common, *of_roles = list(topics)[:WORKER_GROUPS]
    if not existing.keys() & {common, *of_roles}:
        return {common: topics[common], **existing}
    return existing


def all_groups(settings: Any) -> dict[str, tuple[str, ...]]:
    """Every group that the brokers know, ours with their topics.

    Raises
    ------
    ServiceError : the broker can't be reached
    """
    return dict.fromkeys(known_groups(client_config(settings)), ()) | own_groups(settings)


class Looker:
    """Looks at groups and, where ours are among them, at the freshness of prices."""

    def __init__(
        self,
        settings: Any,
        expected: Callable[[], dict[str, tuple[str, ...]]],
        commits_of: Collection[str] | None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self.observer = LagObserver(client_config(settings), expected, commits_of, now_ms)

    def look(self) -> Look:
        """Everything now.

        Raises
        ------
        ServiceError : the broker can't be reached
        """
        groups = self.observer.look()
        own = own_group_topics(self._settings)
        ours = [group for group in groups if group.group in own]
        freshness = price_freshness(self._settings, ours) if ours else []
        return Look(self._now_ms(), groups, freshness)

    def close(self) -> None:
        """Let the broker go."""
        self.observer.close()


class LagMonitor:
    """Looks every few seconds in a thread of its own; what it saw last can be asked at any time.

    A broker that is away is no end: the last look stays, with its time and what went wrong since.

    Parameters
    ----------
    settings : the loaded configuration
    everybody : all groups of the brokers, not only ours
    """

    def __init__(
        self, settings: Any, *, everybody: bool = False, interval_s: float = INTERVAL_S
    ) -> None:
        self._settings = settings
        self._everybody = everybody
        self._interval_s = interval_s
        self._latest: Look | None = None
        self._problem: PricemakerError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def start(self) -> "LagMonitor":
        """Begin to look."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread, after the look under way."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def latest(self) -> Look | None:
        """What was seen last; None before the first look."""
        return self._latest

    @property
    def problem(self) -> PricemakerError | None:
        """Why the last look failed; None when it did not."""
        return self._problem

    def document(self) -> dict[str, Any]:
        """The last look as one document, as ``pricemaker lag --json`` prints it, and ``problem``.

        Before the first look ``observed_at`` is null and there are no groups.
        """
        look, problem = self._latest, self._problem
        return {
            **(lag_document(look) if look is not None else EMPTY),
            "problem": None if problem is None else problem.as_dict(),
        }

    def stands_still(self) -> str | None:
        """Whether the thread has ended although nobody told it to, in words."""
        if self._ending.is_set() or self._thread.is_alive() or self._thread.ident is None:
            return None
        return "the thread that looks at lag has ended"

    def not_known(self) -> str | None:
        """Why the lag is not known now, in words; None when it is."""
        if self._problem is not None:
            return str(self._problem)
        return "the first look is under way" if self._latest is None else None

    def _run(self) -> None:
        looker = self._looker()
        try:
            while not self._ending.is_set():
                try:
                    self._latest, self._problem = looker.look(), None
                except PricemakerError as error:
                    if self._problem is None:
                        log.warning("lag is not known: %s", error)
                    self._problem = error
                except Exception as error:
                    self._problem = PricemakerError(
                        "internal_error", f"a bug ended the lag monitor: {error!r}."
                    )
                    raise
                self._ending.wait(self._interval_s)
        finally:
            looker.close()

    def _looker(self) -> Looker:
        if self._everybody:
            return Looker(self._settings, lambda: all_groups(self._settings), None)
        return Looker(
            self._settings,
            lambda: own_groups(self._settings),
            tuple(own_group_topics(self._settings)),
        )


EMPTY: dict[str, Any] = {
    "observed_at": None, "status": Status.UNKNOWN.value, "groups": [], "freshness": [],
}  # fmt: skip


def lag_document(look: Look) -> dict[str, Any]:
    """A look as data: stable keys, units in their names, null for what is not known."""
    return {
        "observed_at": rfc3339(look.observed_ms),
        "status": look.status_worst.value,
        "groups": [_group(group) for group in look.groups],
        "freshness": [_plain_freshness(found) for found in look.freshness],
    }


def _group(group: GroupLag) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(group),
        "partitions": [_row(row) for row in group.partitions],
        "consumer_lag_messages_sum": group.messages_sum,
        "consumer_lag_ms_max": group.lag_ms_max,
        "status": group.status_worst.value,
    }


def _row(row: PartitionLag) -> dict[str, Any]:
    plain = msgspec.to_builtins(row)
    rates = plain.pop("rates")
    plain["commit_time"] = _time(plain.pop("commit_time_ms"))
    return {**plain, **rates}


def _plain_freshness(found: Freshness) -> dict[str, Any]:
    plain = msgspec.to_builtins(found)
    for name in ("event_time_applied", "event_time_newest"):
        plain[name] = _time(plain.pop(f"{name}_ms"))
    return dict(plain)


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
