"""`prices-latest` beside `prices`: each product's last effective decision, and nothing else.

The kill switch works before the tape brings it: effective prices that were decided after it was
thrown, and before its place on the tape, stand on `prices` and were held back from `prices-latest`.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from streams.verify.verification import Difference, Verification
from streams.verify.verify_order import (
    DIGEST_BYTES,
    EFFECTIVE,
    Effective,
    Entry,
    Order,
    Published,
    sketched,
)
from streams.verify.verify_sources import History

Thrown = Mapping[int, Mapping[int, int]]
"""By tape partition: tape offset of a kill switch thrown on -> its offset on `controls`."""


def compare_latest(
    history: History,
    order: Order,
    committed: Sequence[int],
    thrown: Thrown,
    found: Verification,
) -> None:
    """Compare the live records of `prices-latest`; differences go to ``found``."""
    records = history.latest()
    if records is None:
        return
    live: dict[str, tuple[Published | None, bytes]] = {}  # by SKU, without the bytes
    for key, value in records:
        latest = sketched(Entry(value, 0, 0))
        if latest is not None:
            latest = latest._replace(entry=Entry(b"", 0, 0))
        digest = blake2b(value, digest_size=DIGEST_BYTES).digest()
        live[key.decode("utf-8", "replace")] = latest, digest
    found.latest = 0
    waiting = dict(order.effective)
    thrown_ms = history.thrown_ms()
    for sku, (latest, digest) in live.items():
        if latest is None:
            found.note(Difference(kind="latest_differs", price_id="(no decision)", tape="(none)",
                                  sku=sku))  # fmt: skip
            continue
        at = latest.sketch.tape
        known = waiting.pop(sku, None)
        if 0 <= at.partition < len(committed) and at.offset > committed[at.partition]:
            continue  # published after we looked
        found.latest += 1
        if known is not None and digest == known.digest and latest.sketch.sku == sku:
            continue
        older = known is not None and latest.sketch.version < known.version
        if older and latest.sketch.status in EFFECTIVE and _held_back(known, thrown, thrown_ms):
            found.held_back += 1
            continue
        found.note(
            latest.difference(
                "latest_differs",
                sku=sku,
                prices=None,
                fields={
                    "version": (latest.sketch.version, None if known is None else known.version)
                },
            )
        )
    for sku, known in waiting.items():
        if _held_back(known, thrown, thrown_ms):
            found.held_back += 1
            continue
        price_id = f"{known.partition}-{known.offset}-{sku}"
        place = f"tape[{known.partition}]@{known.offset}"
        fields = {"version": (None, known.version)}
        found.note(
            Difference(kind="latest_differs", price_id=price_id, tape=place, sku=sku, fields=fields)
        )


def _held_back(known: Effective | None, thrown: Thrown, thrown_ms: Mapping[int, int]) -> bool:
    """Whether the kill switch was on when a decision was written, and not yet on its tape."""
    if known is None or known.at_ms is None:
        return False
    for offset, control in thrown.get(known.partition, {}).items():
        written_ms = thrown_ms.get(control)
        if known.offset < offset and written_ms is not None and written_ms <= known.at_ms:
            return True
    return False
