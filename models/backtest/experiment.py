"""The experiments that exploration ran: coins, what either side led to, what policies make of them.

A coin at a decision sends the price up or down. A policy's price between both is to first order the
mixture of the two that has its log price as mean; one outside was never tried.
"""

from typing import NamedTuple

import numpy as np

from models.backtest.columns import Bools, Decisions, Floats, Integers
from models.backtest.expected import model_profit
from models.backtest.lookup import last_at

NEAR_MINOR = 1.0  # a price so far outside the two is taken as the nearer one


class Mixture(NamedTuple):
    """A policy's prices at some decisions: the upper with a probability, else the lower, [n].

    Both are one price where no chance is in it; NaN where it has none yet.
    """

    up_minor: Floats
    down_minor: Floats
    up_probability: Floats


def is_coin(decisions: Decisions) -> Bools:
    """Where chance chose between two prices [decision]."""
    chance = np.nan_to_num(decisions.up_probability)
    apart = np.nan_to_num(decisions.up_minor) > np.nan_to_num(decisions.down_minor)
    return (chance > 0.0) & (chance < 1.0) & apart


def prices_at(decisions: Decisions, product: Integers, offset: Integers) -> Mixture:
    """What a policy shows from some places of the tape on, before its coin is known there.

    A coin that it tossed earlier is no chance any more: its price is the one in force.
    """
    row = last_at(decisions.product, decisions.offset, product, offset)
    known = row >= 0
    row = np.maximum(row, 0)
    if not len(decisions.product):
        none = np.full(len(product), np.nan)
        return Mixture(none, none, np.ones(len(product)))
    tossed = known & is_coin(decisions)[row] & (decisions.offset[row] == offset)
    in_force = np.where(known, decisions.price_minor[row], np.nan)
    return Mixture(
        up_minor=np.where(tossed, decisions.up_minor[row], in_force),
        down_minor=np.where(tossed, decisions.down_minor[row], in_force),
        up_probability=np.where(tossed, decisions.up_probability[row], 1.0),
    )


def up_share(policy: Mixture, up_minor: Floats, down_minor: Floats) -> Floats:
    """How much of the upper logged price a policy's prices are, 0 to 1; NaN where unsupported."""
    share = np.zeros(len(up_minor))
    span = np.log(up_minor / down_minor)
    sides = (policy.up_minor, policy.up_probability), (policy.down_minor, 1 - policy.up_probability)
    for price, chance in sides:
        inside = (price >= down_minor - NEAR_MINOR) & (price <= up_minor + NEAR_MINOR)
        at = np.log(np.clip(price, down_minor, up_minor) / down_minor) / span
        share += np.where(chance > 0.0, chance * np.where(inside, at, np.nan), 0.0)
    return share


def mixed_profit(decisions: Decisions, policy: Mixture) -> Floats:
    """`model_profit` of a policy's prices, in the mean over its coin."""
    up = model_profit(decisions, policy.up_minor)
    down = model_profit(decisions, policy.down_minor)
    return policy.up_probability * up + (1.0 - policy.up_probability) * down
