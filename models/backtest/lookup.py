"""Finding rows by product and place; a place is a whole number: event time, day or tape offset."""

import numpy as np

from models.backtest.columns import Integers


def last_at(
    of_product: Integers, of_place: Integers, product: Integers, place: Integers
) -> Integers:
    """The row of each product's last one at or before a place; -1 where there is none.

    Parameters
    ----------
    of_product, of_place : [row], in any order; of two at one place the later row is the last
    product, place : what is asked for [asked]

    >>> last_at(np.array([0, 0, 1]), np.array([5, 9, 7]), np.array([0, 0, 1]), np.array([8, 4, 7]))
    array([ 0, -1,  2])
    """
    if not len(of_product):
        return np.full(len(product), -1, dtype=np.int64)
    order = np.lexsort((of_place, of_product))
    stride = int(max(of_place.max(), place.max(initial=0))) + 1
    keys = of_product[order] * stride + of_place[order]
    found = np.searchsorted(keys, product * stride + place, side="right") - 1
    row = order[np.maximum(found, 0)]
    return np.where((found >= 0) & (of_product[row] == product), row, -1)


def first_of(of_product: Integers, of_place: Integers, product: Integers) -> Integers:
    """The row of each product's first one; -1 where it has none.

    >>> first_of(np.array([0, 0, 1]), np.array([9, 5, 7]), np.array([0, 1, 2]))
    array([ 1,  2, -1])
    """
    if not len(of_product):
        return np.full(len(product), -1, dtype=np.int64)
    order = np.lexsort((of_place, of_product))
    row = order[np.minimum(np.searchsorted(of_product[order], product), len(order) - 1)]
    return np.where(of_product[row] == product, row, -1)


def last_known(product: Integers, row: Integers) -> Integers:
    """Fill -1 with the last row of the same product; -1 stays before its first.

    Moments rise with product and time; equal products stand together.

    >>> last_known(np.array([0, 0, 0, 1, 1]), np.array([-1, 4, -1, -1, 7]))
    array([-1,  4,  4, -1,  7])
    """
    place = np.maximum.accumulate(np.where(row >= 0, np.arange(len(row)), -1))
    known = place >= 0
    known[known] = product[place[known]] == product[known]
    return np.where(known, row[place], -1)
