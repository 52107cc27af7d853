"""Keeping a copy of a partition's state in step with its records, one consistent cut after another.

Who only reads the state follows the ``state`` topic: the records of one transaction, the manifest
last, replace what the copy had under the same keys. Nothing is folded, and what only the fold needs
(who is due, the day's moves) is not kept up.
"""

from collections.abc import Iterable

import msgspec

from models.fold.partition import MANIFEST_KEY, PartitionState
from schemas.errors import EngineError
from schemas.state import CatalogueEntry, Manifest


def take_cut(state: PartitionState, records: Iterable[tuple[bytes, bytes | None]]) -> bool:
    """Bring a copy to the cut that these records end with; whether it moved.

    An older cut than the copy's is left alone. Several cuts at once are as good as the last.

    Parameters
    ----------
    records : of the state topic, in its order, the last one a manifest; None: a tombstone

    Raises
    ------
    EngineError : no manifest came last, or a record is of no known kind
    """
    found = dict(records)
    value = found.pop(MANIFEST_KEY, None)
    if value is None:
        raise EngineError("no_manifest", "a cut of the state ended without its manifest.")
    manifest = msgspec.json.decode(value, type=Manifest)
    if manifest.position <= state.manifest.position:
        return False
    for key, record in sorted(found.items()):
        if record is None:
            _forget(state, key.decode())
        else:
            _put(state, key.decode(), record)
    state.manifest = manifest
    state.forget_changed()
    return True


def _put(state: PartitionState, key: str, value: bytes) -> None:
    kind, _, rest = key.partition("/")
    if kind == "catalogue" and rest in state.catalogue:  # it is among its family's already
        state.catalogue[rest] = msgspec.json.decode(value, type=CatalogueEntry)
        return
    if kind == "cohort":
        _drop_cohort(state, rest)
    state.take_record(key, value)


def _forget(state: PartitionState, key: str) -> None:
    """Remove what a tombstone names; only these records ever end."""
    kind, _, rest = key.partition("/")
    if kind == "offers":
        state.offers.pop(rest, None)
    elif kind == "breaker":
        state.family_breakers.pop(rest.removeprefix("family/"), None)
    elif kind == "cohort":
        _drop_cohort(state, rest)
    else:
        raise EngineError("unknown_record", f"a tombstone of {key!r} is unknown.", value=key)


def _drop_cohort(state: PartitionState, rest: str) -> None:
    """Forget an open cohort, where it is known; ``<SKU>/<day>/<segment>``, the SKU with slashes."""
    sku, day, segment = rest.rsplit("/", 2)
    name = f"{day}/{segment}"
    cohort = state.cohorts.get(sku, {}).get(name)
    if cohort is not None:
        state.open_cohorts.drop(name, cohort)
