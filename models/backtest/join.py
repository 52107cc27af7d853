"""Joins the columns of tape partitions: products by SKU, rows by product and time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.backtest.collect import Columns, Notes
from models.backtest.columns import Decisions, Epochs, Integers, Outcomes, Products


def joined(parts: Sequence[Columns], skus: Sequence[str] | None = None) -> Columns:
    """Join partitions; no product is in two of them.

    Parameters
    ----------
    skus : the products' numbers are their places here; by default all that were found, sorted
    """
    whole = sorted(sku for part in parts for sku in part.products.skus) if skus is None else skus
    number = {sku: place for place, sku in enumerate(whole)}
    places = [
        np.array([number[sku] for sku in part.products.skus], dtype=np.int64) for part in parts
    ]
    decisions, order = _rows(Decisions, [part.decisions for part in parts], places)
    epochs, _ = _rows(Epochs, [part.epochs for part in parts], places)
    outcomes, _ = _rows(Outcomes, [part.outcomes for part in parts], places)
    texts = list(dict.fromkeys(text for part in parts for text in part.notes.texts))
    place_of = {text: place for place, text in enumerate(texts)}
    reasons = [
        np.array([place_of[text] for text in part.notes.texts], dtype=np.int64)[part.notes.reason]
        for part in parts
    ]
    end_ms = np.zeros(len(whole), dtype=np.int64)
    facts: list[list[str]] = [[""] * len(whole) for _ in range(3)]
    for part, place in zip(parts, places, strict=True):
        end_ms[place] = part.end_ms
        for column, values in zip(facts, part.products[1:], strict=True):
            for at, value in zip(place.tolist(), values, strict=True):
                column[at] = value
    products = Products(list(whole), *facts)
    notes = Notes(texts, np.concatenate(reasons)[order])
    return Columns(products, decisions, notes, end_ms, epochs, outcomes)


def _rows(kind: Any, parts: Sequence[Any], places: Sequence[Integers]) -> tuple[Any, Integers]:
    """Rows of all parts under the joined product numbers, and the order they were put into.

    Each part is in order already, and a product is in one part: a stable sort is enough.
    """
    product = np.concatenate(
        [place[part.product] for part, place in zip(parts, places, strict=True)]
    )
    order = np.argsort(product, kind="stable")
    columns = zip(*(part[1:] for part in parts), strict=True)
    return kind(product[order], *(np.concatenate(one)[order] for one in columns)), order
