"""Committed offsets of groups at the edge: what the lag monitor sees, where a restart goes on."""

import logging
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

log = logging.getLogger(__name__)


def commit_moved(
    consumer: Consumer, topic: str, positions: Mapping[int, int], committed: dict[int, int]
) -> None:
    """Commit the positions that have moved; a broker that is away gets them next time.

    Parameters
    ----------
    topic : its name on the broker
    positions : partition -> the next offset
    committed : what is known to be committed; brought up to date
    """
    moved = [
        TopicPartition(topic, number, offset)
        for number, offset in sorted(positions.items())
        if committed.get(number) != offset
    ]
    if not moved:
        return
    try:
        consumer.commit(offsets=moved, asynchronous=False)
    except KafkaException as error:
        log.info("offsets of %s are not committed: %s", topic, error.args[0].name())
    else:
        committed.update({place.partition: place.offset for place in moved})
