"""Days that sell more or less than others: weekdays, holidays and other named days.

Orders of a partition's day are compared with what its products expect of a day like any other:

    ln(orders / expected) = level + weekday + sum of the day's kinds + noise

A Kalman filter with a level that returns to 0. Days are UTC days. A holiday is a kind of its own
name and shares one effect with all other holidays. docs/science/market-effects.md has the rest.
"""

import math
import re
from datetime import date
from functools import cache
from typing import Any, NamedTuple

from models.demand.pooled import Matrix, effect, known_share
from schemas.effects import DayEffects, Effect
from schemas.errors import FieldError
from schemas.events import DAY_MS

LEVEL, HOLIDAY = "level", "holiday"
WEEKDAYS = tuple(f"weekday_{number}" for number in range(7))  # from Monday
NAMELESS = (LEVEL, HOLIDAY, *WEEKDAYS)  # regressors that no calendar names
SHOP_DAYS = ("black_friday", "cyber_monday", "day_before_holiday", "double_11", "pay_day")
NAMES_MAX = 48  # holidays beyond have the shared effect only
DATES_MAX, KINDS_MAX = 20_000, 16
PRIOR_SDS = {LEVEL: 0.3} | dict.fromkeys(WEEKDAYS, 0.2) | dict.fromkeys((HOLIDAY, *SHOP_DAYS), 0.5)
NAME_SD = 0.2  # of one holiday beside the shared effect
LEVEL_KEPT, LEVEL_STEP_SD = 0.95, 0.02  # per day
DAY_SD = 0.05  # noise of a day that no count explains
EXPECTED_MIN = 5.0  # order lines a day below which a day teaches nothing
SURPRISE_SDS_MAX = 4.0
WEEK_DOUBT = 14.4  # 97.5 % of chi squared with 6 degrees of freedom
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_KIND = re.compile(r"[a-z0-9][a-z0-9 _.-]{0,63}")


class DayFactors(NamedTuple):
    """Effects in use, and their sd: ln factors by weekday from Monday, and by kind.

    A holiday's is the whole of it, what it shares included; one never seen has the shared effect.
    ``ratios`` remembers the factors of days that were asked for: a wave asks for the same weeks.
    """

    week: tuple[float, ...]
    kinds: dict[str, Effect]
    calendar: dict[str, tuple[str, ...]]
    week_sd: float
    neutral: bool  # every day is like any other
    ratios: dict[int, float]

    def log_factor(self, day: int) -> float:
        """ln of a day's demand over an average day's; ``day`` counts from 1970-01-01."""
        name, weekday = _day(day)
        found = self.week[weekday]
        holidays: list[str] = []
        for kind in self.calendar.get(name, ()):
            if kind not in SHOP_DAYS:
                holidays.append(kind)
            elif kind in self.kinds:
                found += self.kinds[kind].used
        if holidays and HOLIDAY in self.kinds:
            known = [kind for kind in holidays if kind in self.kinds]
            found += self.kinds[known[0] if known else HOLIDAY].used
        return found

    def mean_log(self, from_ms: int, to_ms: int) -> float:
        """ln of the mean factor between two event times."""
        if self.neutral or to_ms <= from_ms:
            return 0.0
        first, last, ratios = from_ms // DAY_MS, (to_ms - 1) // DAY_MS, self.ratios
        for day in range(first, last + 1):
            if day not in ratios:
                ratios[day] = math.exp(self.log_factor(day))
        total = DAY_MS * sum([ratios[day] for day in range(first, last + 1)], 0.0)
        total -= (from_ms - first * DAY_MS) * ratios[first]
        total -= ((last + 1) * DAY_MS - to_ms) * ratios[last]
        return math.log(total / (to_ms - from_ms))


@cache
def _day(day: int) -> tuple[str, int]:
    found = date.fromordinal(EPOCH_ORDINAL + day)
    return found.isoformat(), found.weekday()


def _regressors(kinds: tuple[str, ...]) -> list[str]:
    """The effects of a day's kinds: shop days by name, holidays shared and by name."""
    holidays = [kind for kind in kinds if kind not in SHOP_DAYS]
    shared = [HOLIDAY] if holidays else []
    named = [kind for kind in holidays if kind not in NAMELESS]
    return [*(kind for kind in kinds if kind in SHOP_DAYS), *shared, *named]


def parse_calendar(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Check a published table: ISO dates, each with one kind or a list of kinds.

    Kinds are lower-case words, their spaces written as underscores.

    Raises
    ------
    FieldError : what is wrong, where, and what was expected
    """
    if len(table) > DATES_MAX:
        raise _wrong("calendar", len(table), f"at most {DATES_MAX} dates")
    found = {}
    for name in sorted(table):
        kinds = table[name]
        if not _is_date(name):
            raise _wrong("calendar", name, "dates as 2026-11-27")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not isinstance(kinds, list) or not 1 <= len(kinds) <= KINDS_MAX:
            raise _wrong(f"calendar.{name}", table[name], f"a kind, or a list of 1 to {KINDS_MAX}")
        for kind in kinds:
            if not isinstance(kind, str) or not _KIND.fullmatch(kind):
                raise _wrong(f"calendar.{name}", kind, "kinds in lower case, at most 64 characters")
        found[name] = tuple(sorted({kind.replace(" ", "_") for kind in kinds}))
    return found


def _is_date(name: str) -> bool:
    try:
        return date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False


def _wrong(field: str, value: object, expected: str) -> FieldError:
    return FieldError(
        "invalid_calendar",
        f"{field} was {value!r}; expected {expected}.",
        field=field,
        value=value,
        expected=expected,
    )


def learn_day(effects: DayEffects, day: int, orders: int, expected: float) -> None:
    """Learn one full day's order lines against what was expected of it, in place."""
    if not expected >= EXPECTED_MIN:
        return
    name, weekday = _day(day)
    active = [LEVEL, WEEKDAYS[weekday], *_regressors(effects.calendar.get(name, ()))]
    _admit(effects, [LEVEL, *WEEKDAYS, *active])
    cov = _full(effects)
    places = [effects.names.index(found) for found in active if found in effects.names]
    effects.mean[0] *= LEVEL_KEPT
    for k in range(len(cov)):
        cov[0][k] *= LEVEL_KEPT
        cov[k][0] *= LEVEL_KEPT
    cov[0][0] += LEVEL_STEP_SD**2
    gain = [sum([row[place] for place in places], 0.0) for row in cov]
    ahead = math.exp(sum([effects.mean[place] for place in places], 0.0))
    noise = 1.0 / (expected * ahead) + DAY_SD**2
    variance = sum([gain[place] for place in places], 0.0) + noise
    limit = SURPRISE_SDS_MAX * math.sqrt(variance)
    surprise = min(max(orders / (expected * ahead) - 1.0, -limit), limit)
    effects.mean = [m + g * surprise / variance for m, g in zip(effects.mean, gain, strict=True)]
    effects.cov = [
        cov[i][j] - gain[i] * gain[j] / variance
        for i in range(len(cov))
        for j in range(i, len(cov))
    ]


def _admit(effects: DayEffects, names: list[str]) -> None:
    """Give names that come up for the first time their prior."""
    for name in names:
        if name in effects.names or len(effects.names) >= NAMES_MAX:
            continue
        cov = _full(effects)
        for row in cov:
            row.append(0.0)
        cov.append([0.0] * len(cov) + [PRIOR_SDS.get(name, NAME_SD) ** 2])
        effects.names.append(name)
        effects.mean.append(0.0)
        effects.cov = [cov[i][j] for i in range(len(cov)) for j in range(i, len(cov))]


def _full(effects: DayEffects) -> Matrix:
    n, parts = len(effects.names), iter(effects.cov)
    cov: Matrix = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i, n):
            cov[i][j] = cov[j][i] = next(parts)
    return cov


def in_use(effects: DayEffects) -> DayFactors:
    """The effects as far as they are known: the week as a whole, each kind by itself."""
    if not effects.names:
        return DayFactors((0.0,) * 7, {}, effects.calendar, 0.0, neutral=True, ratios={})
    cov = _full(effects)
    days = [effects.names.index(name) for name in WEEKDAYS]
    middle = sum([effects.mean[day] for day in days], 0.0) / 7.0
    week = [effects.mean[day] - middle for day in days]
    distance, variances = 0.0, []
    for number in range(7):
        row = [(other == number) - 1.0 / 7.0 for other in range(7)]
        variance = sum(
            [row[a] * row[b] * cov[days[a]][days[b]] for a in range(7) for b in range(7)], 0.0
        )
        variances.append(variance)
        distance += week[number] ** 2 / variance
    share = known_share(distance * 6.0 / 7.0, WEEK_DOUBT)
    kinds = {}
    for place, name in enumerate(effects.names):
        if name == LEVEL or name in WEEKDAYS:
            continue
        mean, variance = effects.mean[place], cov[place][place]
        if name not in SHOP_DAYS and name != HOLIDAY:
            shared = effects.names.index(HOLIDAY)
            mean += effects.mean[shared]
            variance += cov[shared][shared] + 2.0 * cov[shared][place]
        kinds[name] = effect(mean, variance)
    sd = math.sqrt(sum(variances) / 7.0)
    neutral = share == 0.0 and not any(found.used for found in kinds.values())
    factors = tuple(share * found for found in week)
    return DayFactors(factors, kinds, effects.calendar, sd, neutral, {})
