"""The feed in Redis: a hash a product, a stream of changes, and how far it has come.

Keys, after the prefix (``redis.prefix``):

- ``price:<SKU>``: the effective price. One list price holds for all markets and channels, so a key
  has no market; prices by market, should there ever be any, would get keys of their own beside it.
- ``price-changes``: a stream, an entry for each version that was accepted.
- ``feed``: the feed's own id, the id of the Kafka topic it was made from, and per partition the
  offset to go on from.

One script does everything at once: is this still the feed I know, is its position not behind mine,
is the version higher, write, announce, move the position. So a flush, a replaced server, a restored
snapshot and a replica that took over too early are all noticed before anything is written, and a
call that is repeated because its answer was lost changes nothing.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import redis

from schemas.errors import ConfigError
from streams.edge.price import Price

SCAN_KEYS = 1_000

_BEGIN = """
if redis.call('HSETNX', KEYS[1], 'id', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'topic', ARGV[2])
end
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: feed, stream, then a hash for each change.
# ARGV: id, length of the stream, partitions, partition/known/next for each;
#       then for each change: SKU, version, how many values follow, field/value pairs.
_WRITE = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'lost'} end
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local stored = tonumber(redis.call('HGET', KEYS[1], 'next:' .. ARGV[at]) or '0')
  if stored < tonumber(ARGV[at + 1]) then return {'behind'} end
  at = at + 3
end
local first = at
local accepted = 0
-- changes nothing; a Redis that is full refuses it, before anything was written
if #KEYS > 2 then redis.call('HSET', KEYS[1], 'id', ARGV[1]) end
for k = 3, #KEYS do
  local sku, version, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local stored = redis.call('HGET', KEYS[k], 'version')
  if count == 0 then
    if stored and redis.call('HGET', KEYS[k], 'status') ~= 'removed' then
      if tonumber(version) < tonumber(stored) then version = stored end
      redis.call('DEL', KEYS[k])
      redis.call('HSET', KEYS[k], 'version', version, 'status', 'removed')
      redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
                 'sku', sku, 'version', version, 'status', 'removed')
      accepted = accepted + 1
    end
  elseif not stored or tonumber(stored) < tonumber(version) then
    redis.call('DEL', KEYS[k])
    redis.call('HSET', KEYS[k], 'version', version, unpack(ARGV, at + 3, at + 2 + count))
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
               'sku', sku, 'version', version, unpack(ARGV, at + 3, at + 2 + count))
    accepted = accepted + 1
  end
  at = at + 3 + count
end
at = 4
while at < first do
  local place = 'next:' .. ARGV[at]
  local stored = tonumber(redis.call('HGET', KEYS[1], place) or '-1')
  if stored < tonumber(ARGV[at + 2]) then redis.call('HSET', KEYS[1], place, ARGV[at + 2]) end
  at = at + 3
end
return {'ok', accepted}
"""


class FeedLost(Exception):
    """Redis no longer holds what was written to it: it was flushed, replaced or set back."""


class Change(NamedTuple):
    """What became of a product: its price, or None when it was removed.

    ``version`` is the highest that was seen of it, 0 where only a removal was.
    """

    version: int
    price: Price | None


class Move(NamedTuple):
    """A partition's position: up to where the feed was known to be, and where it is after."""

    known: int
    after: int


class RedisFeed:
    """Reads and writes the feed. Methods may be called from any thread; they raise RedisError.

    Parameters
    ----------
    client : decodes answers to text
    prefix : before every key
    topic_id : of ``prices-latest`` as the broker names it
    changes_max : about how long the stream may be
    """

    def __init__(self, client: redis.Redis, prefix: str, topic_id: str, changes_max: int) -> None:
        self._client = client
        self._topic_id = topic_id
        self._changes_max = changes_max
        self._id = ""
        self._price, self.stream, self._feed = (
            f"{prefix}{name}" for name in ("price:", "price-changes", "feed")
        )
        self._begin = client.register_script(_BEGIN)
        self._write = client.register_script(_WRITE)

    def begin(self) -> dict[int, int]:
        """Take the feed up as it is, or make it; partition -> offset to go on from.

        Raises
        ------
        ConfigError : the feed was made from another topic, whose versions say nothing here
        """
        answer = self._begin(keys=[self._feed], args=[uuid.uuid4().hex, self._topic_id])
        found: dict[str, str] = dict(zip(answer[::2], answer[1::2], strict=True))
        if found["topic"] != self._topic_id:
            raise ConfigError(
                "feed_of_another_topic",
                "the feed in Redis was made from another prices-latest, whose versions count anew.",
                where=self._feed,
                field="redis.prefix",
                expected="a feed of this topic, or none",
                fix="Choose another redis.prefix, or run: pricemaker projector --rebuild",
            )
        self._id = found["id"]
        return {
            int(name.removeprefix("next:")): int(offset)
            for name, offset in found.items()
            if name.startswith("next:")
        }

    def write(self, changes: Mapping[str, Change], moves: Mapping[int, Move]) -> int:
        """Write what is newer, announce it and move the position; how many were newer.

        Raises
        ------
        FeedLost : nothing was written; `begin` again
        """
        keys = [self._feed, self.stream, *(self._price + sku for sku in changes)]
        arguments: list[Any] = [self._id, self._changes_max, len(moves)]
        for partition, move in moves.items():
            arguments += (partition, move.known, move.after)
        for sku, change in changes.items():
            fields = fields_of(change.price)
            arguments += (sku, change.version, len(fields), *fields)
        answer: list[Any] = self._write(keys=keys, args=arguments)
        if answer[0] != "ok":
            raise FeedLost(answer[0])
        return int(answer[1])

    def check(self, positions: Mapping[int, int]) -> None:
        """Look whether all is still there.

        Raises
        ------
        FeedLost : it is not
        """
        self.write({}, {number: Move(known, known) for number, known in positions.items()})

    def forget(self) -> int:
        """Delete the feed with all its keys; how many there were."""
        found = int(self._client.delete(self._feed, self.stream))
        keys: list[str] = []
        for key in self._client.scan_iter(match=f"{_literal(self._price)}*", count=SCAN_KEYS):
            keys.append(key)
            if len(keys) == SCAN_KEYS:
                found += int(self._client.delete(*keys))
                keys.clear()
        return found + (int(self._client.delete(*keys)) if keys else 0)


def fields_of(price: Price | None) -> Sequence[str | int]:
    """A hash's fields and values in turn, without the version; what is not known has no field."""
    if price is None:
        return ()
    pairs = (
        ("price_minor", price.price_minor),
        ("previous_minor", price.previous_minor),
        ("currency", price.currency),
        ("price_id", price.price_id),
        ("effective_from", price.effective_from),
        ("valid_until", price.valid_until),
        ("decided_at", price.decided_at),
        ("status", price.status),
    )
    return [part for pair in pairs if pair[1] is not None for part in pair]  # type: ignore[misc]


def _literal(text: str) -> str:
    """A text as a pattern that matches nothing but it."""
    return "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in text)
