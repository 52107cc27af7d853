"""How far consumers are behind, and what they do about it: for our own groups and any other.

    from streams.lag import LagObserver

    observer = LagObserver({"bootstrap.servers": "localhost:9092"}, lambda: {"billing": ["orders"]})
    for group in observer.look():
        print(group.group, group.status_worst, group.messages_sum)

``docs/lag.md`` has the rules and what each figure means.
"""

from streams.lag.broker import GroupLag, PartitionLag, known_groups
from streams.lag.freshness import Freshness, price_freshness
from streams.lag.monitor import LagMonitor, lag_document
from streams.lag.observer import LagObserver
from streams.lag.rules import Commit, Rates, Status, Verdict, evaluate

__all__ = [
    "Commit",
    "Freshness",
    "GroupLag",
    "LagMonitor",
    "LagObserver",
    "PartitionLag",
    "Rates",
    "Status",
    "Verdict",
    "evaluate",
    "known_groups",
    "lag_document",
    "price_freshness",
]
