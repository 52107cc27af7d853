"""What of a policy holds for a product: worked out once for each catalogue entry."""

from typing import NamedTuple

from schemas.policy import Policy, ResaleTrial
from schemas.scopes import PlacedGuards, PolicyDocument, Subject
from schemas.state import CatalogueEntry


class Holds(NamedTuple):
    """What holds for a catalogue entry; an entry that was replaced is another one.

    ``guards`` of each market and channel that it is sold in; ``trial``: the resale price trial that
    it is allowed, of several places the first's.
    """

    entry: CatalogueEntry
    policy: Policy
    guards: tuple[PlacedGuards, ...]
    trial: ResaleTrial | None


class PolicyInForce:
    """A policy document, by product."""

    def __init__(self, document: PolicyDocument) -> None:
        self.document = document
        self._known: dict[str, Holds] = {}

    def of(self, entry: CatalogueEntry) -> Holds:
        """What holds for a product."""
        found = self._known.get(entry.sku)
        if found is None or found.entry is not entry:
            subject = subject_of(entry)
            guards = self.document.guards_of(subject)
            trials = (place.guards.minimum_resale_price_trial for place in guards)
            trial = next((one for one in trials if one is not None), None)
            found = Holds(entry, self.document.of(subject), guards, trial)
            self._known[entry.sku] = found
        return found


def subject_of(entry: CatalogueEntry) -> Subject:
    """A product as a policy's selectors see it."""
    return Subject(entry.sku, entry.family, entry.category, entry.role)
