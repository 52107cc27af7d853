"""Where log lines go, and how they look: one way for all processes."""

import logging
import sys

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# They say little of use above debug, and some set-ups of their own would log everything.
QUIET_LOGGERS = (
    "aiokafka", "faust", "jax", "mode", "streams.worker.transport",
    "uvicorn.error",
)  # fmt: skip


def configure_logging(level: str) -> None:
    """Log to stderr, in one way for all."""
    logging.basicConfig(stream=sys.stderr, format=LOG_FORMAT, level=level.upper(), force=True)
    if level != "debug":
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
