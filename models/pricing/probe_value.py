"""What a probe of the price teaches over what it costs (`models.pricing.exploration`)."""

from typing import TypeVar

import numpy as np

Number = TypeVar("Number", float, np.ndarray[tuple[int], np.dtype[np.float64]])


def value_over_cost(
    size: Number, variance: Number, information_per_day: Number, payback_days: float
) -> Number:
    """What a probe teaches within the payback time over what it costs; floats or arrays.

    Parameters
    ----------
    size : |elasticity|, above 1
    variance : of the elasticity
    information_per_day : of a day's orders on log demand, orders / (1 + phi orders of an epoch)
    """
    return payback_days * variance**2 * information_per_day / (size * (size - 1.0)) ** 2
