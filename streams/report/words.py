"""What a backtest found, said in sentences: no number without its interval or its doubt."""

from typing import NamedTuple

from schemas.backtest import (
    ClosedLoopValue,
    Comparison,
    Differences,
    Estimate,
    ModelValue,
    OffPolicyValue,
    SwitchbackDesign,
)
from schemas.money import format_minor
from streams.report.parts import difference, number, percent, share, with_interval

CALIBRATION_SDS = 2.0  # so far from 1, the models' forecast of profit was wrong
CALIBRATION_OFF = 0.1
FIT_SDS = 2.0


class Verdict(NamedTuple):
    """A candidate in one word and sentences. ``tone`` is better, worse or undecided; what rests on
    a forecast that is in doubt is undecided.
    """

    candidate: str
    tone: str
    headline: str
    sentences: tuple[str, ...]


def verdict(found: Comparison, baseline: str) -> Verdict:
    """What is to be said of a candidate beside the baseline."""
    tones = [tone_of(one.difference) for one in found.model]
    tone = tones[0] if tones and all(one == tones[0] for one in tones) else "undecided"
    doubts = [one for one in map(_calibration_doubt, found.model) if one]
    sentences = [
        differences_words(found.differences),
        *map(model_words, found.model),
        *doubts,
        *map(off_policy_words, found.off_policy),
        *map(closed_loop_words, found.closed_loop),
        *map(switchback_words, found.switchback),
    ]
    headline = _headline(found, baseline, tone, bool(doubts))
    return Verdict(found.candidate, "undecided" if doubts else tone, headline, tuple(sentences))


def _headline(found: Comparison, baseline: str, tone: str, doubted: bool) -> str:
    name, other = f"“{found.candidate}”", f"“{baseline}”"
    if not found.model:
        return f"{name} against {other}: not valued."
    beginning = {
        "better": f"By the models, {name} earns more than {other}",
        "worse": f"By the models, {name} earns less than {other}",
        "undecided": f"Whether {name} earns more than {other} stays open",
    }[tone]
    if doubted:
        return f"{beginning}; the models' forecast of what was charged is in doubt."
    return beginning + _agreement(found, tone)


def _agreement(found: Comparison, tone: str) -> str:
    """Whether the other two ways of looking say the same."""
    if tone == "undecided":
        return "."
    others = [one.estimate for one in found.off_policy if one.estimate is not None]
    others += [one.difference_per_day for one in found.closed_loop]
    opposite = {"better": "worse", "worse": "better"}[tone]
    tones = [tone_of(one) for one in others]
    if opposite in tones:
        return "; other estimates say the opposite."
    if tones and all(one == tone for one in tones):
        return "; every other estimate agrees."
    return (
        "; no other estimate confirms or contradicts it."
        if not tones
        else ("; none of the other estimates contradicts it.")
    )


def tone_of(found: Estimate) -> str:
    """``better`` or ``worse`` where the whole interval is on one side of 0."""
    if found.low_minor > 0.0:
        return "better"
    return "worse" if found.high_minor < 0.0 else "undecided"


_TONE_WORDS = {
    "better": "The whole interval lies above 0.",
    "worse": "The whole interval lies below 0.",
    "undecided": "The interval includes 0.",
}


def differences_words(found: Differences) -> str:
    """How often another price would have been there."""
    if found.same_share is None:
        return "No product-day is on sale under both policies, so prices can't be compared."
    moved = (
        f"On {share(1.0 - found.same_share)} of {found.product_days:,.0f} product-days the price "
        f"differs: dearer on {share(found.dearer_share)}, cheaper on {share(found.cheaper_share)}; "
        f"{found.products_differing:,} products differ at some time."
    )
    if found.mean_ln_ratio is None:
        return moved
    return f"{moved} Mean log price ratio over all product-days {found.mean_ln_ratio:+.4f}."


def model_words(found: ModelValue) -> str:
    """The model-based difference over the tape."""
    realised = (
        f"{difference(found.realised_low_minor, found.currency)} to "
        f"{difference(found.realised_high_minor, found.currency)}"
    )
    return (
        f"Models: {with_interval(found.difference)} over the tape. "
        f"{_TONE_WORDS[tone_of(found.difference)]} With the chance of single sales too, "
        f"{realised}."
    )


def _calibration_doubt(found: ModelValue) -> str | None:
    ratio, sd = found.calibration, found.calibration_sd
    if ratio is None:
        return (
            f"Doubt: no realised profit in {found.currency} could be set against what was "
            "expected of the prices that were charged."
        )
    off = abs(ratio - 1.0)
    if off <= CALIBRATION_OFF or (sd is not None and off <= CALIBRATION_SDS * sd):
        return None
    spread = "" if sd is None else f" (sd {number(sd)})"
    return (
        f"Doubt: at the prices that were charged, realised profit was {number(ratio)}{spread} "
        f"times the expected one in {found.currency}; 1 would be right."
    )


def off_policy_words(found: OffPolicyValue) -> str:
    """What logged exploration says, or why it refuses."""
    if found.estimate is None:
        reason = found.refused or "no reason was given"
        return f"Off-policy ({found.currency}): refused, {reason.rstrip('.')}."
    return (
        f"Off-policy ({found.estimator}): {with_interval(found.estimate)} for the "
        f"{share(found.supported_share)} of decisions that logged exploration supports; "
        f"effective sample size {found.effective_sample_size:,.0f} "
        f"(at least {found.effective_sample_size_min:,.0f} needed)."
    )


def closed_loop_words(found: ClosedLoopValue) -> str:
    """What simulated shops say."""
    text = (
        f"Closed loop: {with_interval(found.difference_per_day)} a day in {found.runs} simulated "
        f"shops of {found.products:,} products over {found.days} days; better in "
        f"{share(found.share_better)} of them."
    )
    odd = [one.name for one in found.fit if fit_sds(one.history, one.simulated_mean,
           one.simulated_sd) > FIT_SDS]  # fmt: skip
    if odd:
        text += f" Doubt: these shops are unlike history in {', '.join(odd)}."
    return text


def fit_sds(history: float, mean: float, sd: float) -> float:
    """How many sd a figure of history lies from that of simulated ones; without spread, far."""
    if sd > 0.0:
        return abs(history - mean) / sd
    return 0.0 if history == mean else 2.0 * FIT_SDS


def switchback_words(found: SwitchbackDesign) -> str:
    """The test that would prove it."""
    currency = found.currency
    if found.refused is not None:
        return f"A switchback test in {currency} can't prove it: {found.refused.rstrip('.')}."
    return (
        f"A switchback test would prove it: {found.units:,} units ({found.unit_kind}) over "
        f"{number(found.days, 0)} days in blocks of {number(found.block_days, 1)} days find "
        f"{format_minor(found.effect_minor_per_day, currency)} a day with power "
        f"{percent(found.power)} at level {percent(found.alpha)}; the smallest difference that "
        f"they would find is {format_minor(found.detectable_minor_per_day, currency)} a day."
    )
