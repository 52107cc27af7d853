"""A message as it goes out: body, deterministic id, signature."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from standardwebhooks import Webhook

from schemas.codec import plan
from schemas.events import rfc3339
from streams.edge.price import Price
from streams.webhooks.pending import Change

TYPE = "prices.changed"
ID_CHARACTERS = 32


class Removed(msgspec.Struct, frozen=True):
    """A product that has no effective price any more; ``version`` is its last."""

    sku: str
    version: int


class Data(msgspec.Struct, frozen=True):
    """What has changed: at most one of each product."""

    prices: tuple[Price, ...]
    removed: tuple[Removed, ...]


class Body(msgspec.Struct, frozen=True):
    """The payload, as Standard Webhooks recommends it; ``timestamp`` is of the newest record."""

    type: str
    timestamp: str
    data: Data


plan(Body)


class Message(NamedTuple):
    """A body and its id: the same changes to the same endpoint make the same."""

    id: str
    body: str


def message_of(endpoint: str, changes: Sequence[Change]) -> Message:
    """The message that tells an endpoint of these changes."""
    data = Data(
        prices=tuple(change.price for change in changes if change.price is not None),
        removed=tuple(
            Removed(change.sku, change.version) for change in changes if change.price is None
        ),
    )
    newest_ms = max(change.timestamp_ms for change in changes)
    body = msgspec.json.encode(Body(TYPE, rfc3339(newest_ms), data))
    digest = hashlib.sha256(endpoint.encode() + b"\n" + body).hexdigest()
    return Message(f"msg_{digest[:ID_CHARACTERS]}", body.decode())


def headers_of(message: Message, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Headers of one attempt; a signature for each secret, so that secrets can be changed.

    Parameters
    ----------
    secrets : ``whsec_`` and base64, the newest first
    now : UTC
    """
    signatures = [Webhook(secret).sign(message.id, now, message.body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
