"""What a decision's belief expected at another price, in arrays: the objective's mean parts.

No risk, no cost of leftovers: ``docs/objective.md`` has the equations. The kernel has them whole.
"""

import numpy as np
from scipy import special

from models.backtest.columns import INPUTS, Decisions, Floats
from models.kernel.objective import RIVAL_WIDTH

LOG_MAX = 60.0  # keeps a strange belief finite


def return_rate(inputs: Floats, price: Floats) -> Floats:
    """R at normalised prices [row], by the kernel's rows [row, len(INPUTS)]."""
    row = _named(inputs)
    score = row["return_intercept"] + row["return_linear"] * price
    score += row["return_log"] * np.log(price)
    spread = row["return_max"] - row["return_min"]
    return np.asarray(row["return_min"] + spread * special.expit(score))


def model_profit(decisions: Decisions, price_minor: Floats) -> Floats:
    """What the model expected each decision's product to earn a day at a price [decision].

    Mean demand and margin, sales cut off at the stock; minor units. NaN without a record.
    """
    row = _named(decisions.inputs)
    price = price_minor / decisions.reference_minor
    x = np.log(price)
    bend = np.logaddexp(0.0, (x - np.log(row["rival_price"]) - row["rival_tau"]) / RIVAL_WIDTH)
    log_units = np.log(row["demand_per_day"]) + row["elasticity"] * x
    log_units -= row["rival_omega"] * RIVAL_WIDTH * bend
    units = np.exp(np.minimum(log_units, LOG_MAX))
    most = np.where(row["unlimited"] < 0.5, row["stock"] / row["horizon_days"], np.inf)
    rate = return_rate(decisions.inputs, price)
    margin = (row["kept_share"] * price - row["unit_cost"]) * (1.0 - rate)
    margin -= row["return_cost"] * rate
    return np.asarray(margin * np.minimum(units, most) * decisions.reference_minor)


def _named(inputs: Floats) -> dict[str, Floats]:
    return dict(zip(INPUTS, inputs.T, strict=True))
