"""Training of the demand prior on a tape, once or as a service that keeps it fresh."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from models.demand.history import EpochHistory
from models.demand.search_history import SearchHistory
from models.prior.prior import prior_sha256
from models.prior.training import TapeFacts, Trained, refreshed, train
from schemas.errors import InputError
from schemas.events import TrafficCounted
from schemas.learned import DemandPrior
from streams.tape.tape_builder import Placed
from streams.tape.tape_faults import decoded
from streams.training.training import TapeFold, TapeRead, publish_control, write_document


def train_from(
    history: EpochHistory,
    read: TapeRead,
    source: str,
    *,
    meta: bool,
    challengers: SearchHistory | None,
) -> Trained:
    """Train on what a fold has collected.

    Raises
    ------
    InputError : too few products have a closed epoch
    """
    try:
        return train(
            history.episodes(),
            _facts(read),
            _named(source, read),
            meta=meta,
            challengers=challengers,
        )
    except ValueError as error:
        raise InputError(
            "too_few_products",
            f"{error}.",
            where=source,
            fix="Train on a longer tape, or one with more products.",
        ) from None


def noting_searches(history: SearchHistory) -> Callable[[Placed], None]:
    """A listener to tape records that hands traffic reports to the history."""

    def note(placed: Placed) -> None:
        # a look at the bytes spares decoding every order a second time
        if b'"traffic_counted"' in placed.value:
            event = decoded(placed).event
            if isinstance(event, TrafficCounted):
                history.add(event)

    return note


def keep_fresh(
    settings: Any,
    fold: TapeFold,
    history: EpochHistory,
    prior: DemandPrior,
    every_s: float,
    out: Path | None,
) -> Iterator[str]:
    """Fold on, refresh and publish, for ever; yields the hash of each document published."""
    while True:
        time.sleep(every_s)
        fresh = refresh_once(fold, history, prior)
        if fresh is None:
            continue
        prior = fresh
        if out is not None:
            write_document(out, prior)
        yield publish_prior(settings, prior)


def refresh_once(fold: TapeFold, history: EpochHistory, prior: DemandPrior) -> DemandPrior | None:
    """Fold what has come; the refreshed prior, or None where no epoch has closed since.

    The tape grows by every publication itself: only what taught counts as news.
    """
    before = history.noted
    read = fold.read()
    if history.noted == before:
        return None
    return refreshed(prior, history.episodes(), _facts(read), _named("kafka", read))


def publish_prior(settings: Any, prior: DemandPrior) -> str:
    """Put a prior in force on every tape partition; its hash.

    Raises
    ------
    ServiceError : the broker did not confirm it
    """
    sha256 = prior_sha256(prior)
    fields = {"prior": msgspec.to_builtins(prior), "prior_sha256": sha256}
    publish_control(settings, "prior_published", sha256[:16], fields)
    return sha256


def _facts(read: TapeRead) -> TapeFacts:
    return TapeFacts(read.positions, read.tape_sha256)


def _named(source: str, read: TapeRead) -> str:
    return f"trained on {Path(source).name}, {read.records} records, {read.tape_sha256[:16]}"
