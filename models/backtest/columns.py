"""What a folded tape hands to a backtest's evaluators, as columns.

The driver fills these beside the fold, one set a tape partition, and joins them; the evaluators
read arrays and no engine. Products are numbered by ``skus``; rows stand in the order of product,
then time. Money is in minor units, time in event-time milliseconds.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.kernel.objective import Row

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

INPUTS = Row._fields  # the columns of `Decisions.inputs`


class Products(NamedTuple):
    """The catalogue at the tape's end, [product], sorted by SKU."""

    skus: list[str]
    families: list[str]
    categories: list[str]
    currencies: list[str]


class Decisions(NamedTuple):
    """The decisions of one policy, [decision].

    ``price_minor`` is the price in force afterwards, NaN before the first; ``wanted_minor`` what
    was decided; both are whole numbers. ``plain_minor`` is what would have been decided without
    exploration (``wanted_minor`` where it was no probe). ``effective`` is False for what was held.
    ``probe`` marks published probes. Where a coin was tossed (`PriceDecided.exploration`),
    ``up_minor`` and ``down_minor`` are what its sides led to, ``up_probability`` how likely the
    upper was and ``drew_up`` whether it came; NaN and False elsewhere. ``inputs`` are the kernel's
    rows [decision, len(INPUTS)], normalised by ``reference_minor``; NaN where a decision has no
    record.
    """

    product: Integers
    at_ms: Integers
    partition: Integers
    offset: Integers
    price_minor: Floats
    wanted_minor: Floats
    plain_minor: Floats
    effective: Bools
    probe: Bools
    up_minor: Floats
    down_minor: Floats
    up_probability: Floats
    drew_up: Bools
    exogenous_log: Floats
    reference_minor: Floats
    profit_per_day_minor: Floats  # expected, at the price in force; NaN without a record
    inputs: Floats


class Epochs(NamedTuple):
    """Closed epochs at the prices that buyers saw, [epoch]; the same for every policy.

    ``mean_orders`` is what was expected before the epoch taught anything, at its exposure;
    ``posterior_mean`` [epoch, 4] and ``posterior_cov`` [epoch, 4, 4] the belief (level, elasticity,
    rival, control) after it. ``ln_rival`` is NaN where no rival was known.
    """

    product: Integers
    begin_ms: Integers
    end_ms: Integers
    price_minor: Floats
    reference_minor: Floats
    orders: Floats
    units: Floats
    exposure_days: Floats
    ln_rival: Floats
    control: Floats
    offset: Floats
    mean_orders: Floats
    posterior_mean: Floats
    posterior_cov: Floats


class Outcomes(NamedTuple):
    """What happened by product and event day, [product-day]: from orders and returns, no model.

    ``returned_units`` and ``refund_minor`` stand on the day of the order where the return names
    it, otherwise on the day of the return.
    """

    product: Integers
    day: Integers
    orders: Floats
    units: Floats
    revenue_minor: Floats  # as shown to buyers, before VAT, fees and refunds
    returned_units: Floats
    refund_minor: Floats
    unit_cost_minor: Floats
    kept_share: Floats
    handling_minor: Floats
