"""L1: quotes remembered in the process, the hottest products' first."""

from collections import OrderedDict
from typing import NamedTuple

from models.quotes.heat import Heat
from models.quotes.standing import Stamp
from schemas.quotes import Quote, QuoteRequest

L1 = "L1"


class Remembered(NamedTuple):
    """A quote, until when it holds (event time), and what it rests on."""

    quote: Quote
    until_ms: int
    stamp: Stamp


class HotQuotes:
    """A bounded memory of quotes by what was asked, least recently asked out first.

    When it is full a quote replaces the least recent one only where its product is asked for at
    least as often: a long tail of quotes that are asked for once does not wash the hot ones out.
    """

    def __init__(self, quotes_max: int, heat: Heat) -> None:
        self._quotes_max, self._heat = quotes_max, heat
        self._quotes: OrderedDict[QuoteRequest, Remembered] = OrderedDict()

    def get(self, request: QuoteRequest, stamp: Stamp, now_ms: int) -> Quote | None:
        """The quote, if it still rests on what is known; one that does not is forgotten."""
        found = self._quotes.get(request)
        if found is None:
            return None
        if found.stamp != stamp or now_ms >= found.until_ms:
            del self._quotes[request]
            return None
        self._quotes.move_to_end(request)
        return found.quote

    def put(self, request: QuoteRequest, found: Remembered) -> bool:
        """Remember a quote, if it is worth a place; whether it was."""
        if request not in self._quotes and len(self._quotes) >= self._quotes_max:
            coldest = next(iter(self._quotes))
            if not self._heat.hotter(request.sku, coldest.sku):
                self._quotes.move_to_end(coldest)  # the next one asks another for its place
                return False
            del self._quotes[coldest]
        self._quotes[request] = found
        return True

    def __len__(self) -> int:
        return len(self._quotes)
