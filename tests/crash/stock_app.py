"""A stock Faust app: a table that counts per SKU, and one record out for each one in.

Nothing is hardened: it is what the harness must be able to see through.
``python -m tests.crash.stock_app BOOTSTRAP PREFIX WORKER``
"""

import logging
import sys
import tempfile

import faust

SESSION_S = 6.0


def build(bootstrap: str, prefix: str, worker: str) -> faust.App:
    """The app: orders in, counts in a table, one record per order out."""
    app = faust.App(
        f"{prefix}stock",
        broker=f"kafka://{bootstrap}",
        broker_client_id=worker,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=1.0,
        consumer_auto_offset_reset="earliest",
        topic_partitions=4,
        store="memory://",
        datadir=tempfile.mkdtemp(),
        web_enabled=False,
    )
    orders = app.topic(f"{prefix}orders", key_type=bytes, value_type=bytes, value_serializer="raw")
    prices = app.topic(f"{prefix}prices", key_type=bytes, value_type=bytes, value_serializer="raw")
    counts = app.Table(f"{prefix}counts", default=int, partitions=4)

    @app.agent(orders)
    async def count(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            key = event.key.decode()
            counts[key] += 1
            await prices.send(key=event.key, value=event.value)

    return app


if __name__ == "__main__":
    bootstrap, prefix, worker = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    app = build(bootstrap, prefix, worker)
    faust.Worker(app, loglevel="info").execute_from_commandline()
