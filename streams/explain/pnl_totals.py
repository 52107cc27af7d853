"""P&L explain, added up by category and currency."""

import math

import msgspec

from models.pnl.pnl import TERMS
from streams.explain.pnl import PnlDay


class PnlTotal(msgspec.Struct, kw_only=True):
    """Sums over products and days of one category and currency, minor units.

    ``residual_mean`` and ``residual_sd`` are over product-days; None for fewer than two.
    """

    category: str
    currency: str
    days: int
    change_minor: float
    terms: dict[str, float]
    revaluation_minor: float
    realised_expected_minor: float
    realised_minor: float
    noise_minor: float
    drift_minor: float
    residual_mean: float | None
    residual_sd: float | None


def totals(rows: list[PnlDay]) -> list[PnlTotal]:
    """Add rows up; money is only added within one currency."""
    groups: dict[tuple[str, str], list[PnlDay]] = {}
    for row in rows:
        groups.setdefault((row.category, row.currency), []).append(row)
    return [_total(key, of_group) for key, of_group in sorted(groups.items())]


def _total(key: tuple[str, str], rows: list[PnlDay]) -> PnlTotal:
    realised = [row.realised for row in rows if row.realised is not None]
    residuals = [found.residual for found in realised if found.residual is not None]
    mean = sd = None
    if len(residuals) > 1:
        mean = math.fsum(residuals) / len(residuals)
        sd = math.sqrt(math.fsum((one - mean) ** 2 for one in residuals) / len(residuals))
    told = [row.terms for row in rows if row.terms is not None]
    return PnlTotal(
        category=key[0],
        currency=key[1],
        days=len(rows),
        change_minor=math.fsum(row.change_minor or 0.0 for row in rows),
        terms={name: math.fsum(terms[name] for terms in told) for name in TERMS},
        revaluation_minor=math.fsum(row.revaluation_minor or 0.0 for row in rows),
        realised_expected_minor=math.fsum(found.expected_minor for found in realised),
        realised_minor=math.fsum(found.realised_minor for found in realised),
        noise_minor=math.fsum(found.noise_minor for found in realised),
        drift_minor=math.fsum(found.drift_minor for found in realised),
        residual_mean=mean,
        residual_sd=sd,
    )
