"""The hash of a tape: one chain a partition, so that it can be gone on with, and one over all."""

import hashlib
from collections.abc import Iterable, Iterator

from streams.tape.tape_builder import Placed


class TapeHash:
    """Hash of records in the order of each partition's offsets.

    A partition's chain starts as ``""``; each record makes it the SHA-256 (hexadecimal) of the
    chain before, as text, and the record's value.

    Parameters
    ----------
    partitions : of the tape
    chains : those that an earlier reading ended with, by partition; to go on
    """

    def __init__(self, partitions: int, chains: Iterable[str] = ()) -> None:
        self.chains = list(chains) or [""] * partitions

    def add(self, partition: int, value: bytes) -> None:
        """Take the partition's next record."""
        text = self.chains[partition].encode()
        self.chains[partition] = hashlib.sha256(text + value).hexdigest()

    def noted(self, records: Iterable[Placed]) -> Iterator[Placed]:
        """Pass records on, and take each."""
        for placed in records:
            self.add(placed.partition, placed.value)
            yield placed

    @property
    def sha256(self) -> str:
        """One hash over the partitions' chains."""
        return combined_sha256(self.chains)


def combined_sha256(parts: Iterable[str], numbers: Iterable[int] | None = None) -> str:
    """One hash over the partitions' hashes, in partition order.

    Parameters
    ----------
    numbers : of the partitions that the parts are of; by default 0, 1, 2...
    """
    placed = enumerate(parts) if numbers is None else zip(numbers, parts, strict=True)
    lines = "".join(f"{number}:{part}\n" for number, part in placed)
    return hashlib.sha256(lines.encode()).hexdigest()
