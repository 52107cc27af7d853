"""When nothing can be quoted at all."""

from schemas.errors import ServiceError


def not_ready(reason: str) -> ServiceError:
    """Nothing can be quoted yet, or any more."""
    return ServiceError(
        "not_ready", f"quotes are not ready: {reason}.",
        fix="Ask again; if it lasts, look at Kafka and at the worker.",
    )  # fmt: skip
