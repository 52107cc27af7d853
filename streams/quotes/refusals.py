"""When nothing can be quoted at all."""

from schemas.errors import ServiceError
from streams.edge.follower import TopicFollower


def not_ready(reason: str) -> ServiceError:
    """Nothing can be quoted yet, or any more."""
    return ServiceError(
        "not_ready", f"quotes are not ready: {reason}.",
        fix="Ask again; if it lasts, look at Kafka and at the worker.",
    )  # fmt: skip


def require_following(follower: TopicFollower | None, what: str) -> None:
    """That what is followed is known, and still moves.

    Raises
    ------
    ServiceError : it is still being read, or following it ended
    """
    if follower is not None and follower.error is not None:
        reason = getattr(follower.error, "message", repr(follower.error))
        raise not_ready(f"following {what} ended: {reason}")
    if follower is None or not follower.caught_up.is_set():
        raise not_ready(f"reading {what} has not come to its end yet")
