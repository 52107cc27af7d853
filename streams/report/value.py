"""What the difference is worth: by models, by logged exploration, in simulated shops, by test."""

import plotly.graph_objects as go

from schemas.backtest import (
    BacktestReport,
    ClosedLoopValue,
    Comparison,
    ModelValue,
    OffPolicyValue,
    SwitchbackDesign,
)
from streams.report import ink
from streams.report.parts import (
    Panel,
    Section,
    difference,
    facts,
    figure,
    interval,
    interval_marks,
    number,
    percent,
    plain,
    row_labels,
    rows_height,
    share,
    table,
    zero_line,
)
from streams.report.words import FIT_SDS

CATEGORIES_DRAWN = 30
UNITS_DRAWN = 40
ALL = "all categories"


def section(report: BacktestReport) -> Section:
    """Four ways to value a candidate, each with its interval or the reason why it has none."""
    panels: list[Panel] = []
    for at, found in enumerate(report.comparisons):
        panels += _of_candidate(at, found)
    lead = (
        "History shows only what was sold at the prices that were charged, so no figure here is "
        "an observation. The models' answer rests on what was learned; off-policy estimates rest "
        "on logged exploration alone; the closed loop replays shops drawn from the belief; and a "
        "switchback test on customers would prove it.",
    )
    return Section("value", "Value", lead, tuple(panels))


def _of_candidate(at: int, found: Comparison) -> list[Panel]:
    panels = [_model(f"{at}-{i}", found.candidate, one) for i, one in enumerate(found.model)]
    panels += [
        _off_policy(f"{at}-{i}", found.candidate, one) for i, one in enumerate(found.off_policy)
    ]
    for i, one in enumerate(found.closed_loop):
        panels += _closed_loop(f"{at}-{i}", found.candidate, one)
    panels += [
        _switchback(f"{at}-{i}", found.candidate, one) for i, one in enumerate(found.switchback)
    ]
    return panels


# -- by the models


def _model(key: str, candidate: str, found: ModelValue) -> Panel:
    ranked = sorted(found.categories, key=lambda one: -abs(one.difference.mean_minor))
    drawn = ranked[:CATEGORIES_DRAWN]
    names = [ALL, *(one.category or "no category" for one in drawn)]
    estimates = [found.difference, *(one.difference for one in drawn)]
    plot = figure(f"difference, {found.currency}", "", height=rows_height(len(names)))
    plot.add_trace(interval_marks(names[:1], estimates[:1], ink.BASELINE.light, "diamond", ALL))
    if drawn:
        plot.add_trace(
            interval_marks(names[1:], estimates[1:], ink.CANDIDATES[0].light, "circle", "category")
        )
    plot.update_layout(yaxis=row_labels(names), showlegend=False, hovermode="closest")
    zero_line(plot, vertical=True)
    rows = [(ALL, "", difference(found.difference.mean_minor, found.currency),
             interval(found.difference))]  # fmt: skip
    rows += [
        (one.category or "no category", f"{one.products:,}",
         difference(one.difference.mean_minor, found.currency), interval(one.difference))
        for one in ranked
    ]  # fmt: skip
    return Panel(
        f"model-{key}",
        f"Model-based difference of profit: {candidate}",
        f"Candidate less baseline over the tape, {found.currency}, mean and "
        f"{percent(found.difference.level)} interval from what is not known of demand and returns"
        + (f"; the {CATEGORIES_DRAWN} largest categories." if len(ranked) > len(drawn) else "."),
        plot,
        table(("category", "products", "difference", "interval"), rows),
        (*_model_notes(found), *found.notes),
    )


def _model_notes(found: ModelValue) -> tuple[str, ...]:
    currency = found.currency
    base, cand = found.baseline, found.candidate
    notes = [
        f"Baseline {difference(base.mean_minor, currency)} ({interval(base)}), candidate "
        f"{difference(cand.mean_minor, currency)} ({interval(cand)}); they share their errors, so "
        "their difference is known better than either.",
        f"Sd of the difference: {difference(found.parameter_sd_minor, currency)} from parameters, "
        f"{difference(found.noise_sd_minor, currency)} from the chance of single sales.",
    ]
    if found.calibration is not None:
        sd = "" if found.calibration_sd is None else f" (sd {number(found.calibration_sd)})"
        notes.append(
            f"Realised over expected profit at the prices charged: {number(found.calibration)}{sd}."
        )
    return tuple(notes)


# -- by logged exploration


def _off_policy(key: str, candidate: str, found: OffPolicyValue) -> Panel:
    rows = [
        ("estimator", found.estimator),
        ("estimate", "refused" if found.estimate is None else
         f"{difference(found.estimate.mean_minor, found.currency)} ({interval(found.estimate)})"),
        ("reason of refusal", found.refused or "-"),
        ("decisions, explored", f"{found.decisions:,}, {found.explored:,}"),
        ("supported", share(found.supported_share)),
        ("effective sample size", f"{found.effective_sample_size:,.1f} "
                                  f"(at least {found.effective_sample_size_min:,.0f} needed)"),
    ]  # fmt: skip
    plot = None
    if found.estimate is not None:
        plot = figure(f"difference, {found.currency}", "", height=rows_height(1))
        plot.add_trace(
            interval_marks(
                [found.estimator], [found.estimate], ink.BASELINE.light, "diamond", "estimate"
            )
        )
        plot.update_layout(
            yaxis=row_labels([found.estimator]), showlegend=False, hovermode="closest"
        )
        zero_line(plot, vertical=True)
    return Panel(
        f"off-policy-{key}",
        f"Off-policy estimate: {candidate}",
        f"What logged exploration alone says, {found.currency}, over the decisions that it "
        "supports."
        if found.estimate is not None
        else f"Logged exploration can't say ({found.currency}).",
        plot,
        facts(rows),
        open_table=True,
    )


# -- in simulated shops


def _closed_loop(key: str, candidate: str, found: ClosedLoopValue) -> list[Panel]:
    currency = found.currency
    names = ["baseline", "candidate", "difference"]
    estimates = [found.baseline_per_day, found.candidate_per_day, found.difference_per_day]
    plot = figure(f"profit a day, {currency}", "", height=rows_height(3))
    plot.add_trace(interval_marks(names[:2], estimates[:2], ink.CANDIDATES[0].light, "circle", ""))
    plot.add_trace(interval_marks(names[2:], estimates[2:], ink.BASELINE.light, "diamond", ""))
    plot.update_layout(yaxis=row_labels(names), showlegend=False, hovermode="closest")
    zero_line(plot, vertical=True)
    rows = [
        (name, difference(one.mean_minor, currency), difference(one.sd_minor, currency),
         interval(one))
        for name, one in zip(names, estimates, strict=True)
    ]  # fmt: skip
    runs = Panel(
        f"closed-loop-{key}",
        f"Closed loop in simulated shops: {candidate}",
        f"Profit a day in {currency} over {found.runs} shops drawn from the belief, "
        f"{found.products:,} products and {found.days} days each, seed {found.seed}: mean and "
        f"{percent(found.difference_per_day.level)} interval of the shops.",
        plot,
        table(("what", "mean a day", "sd", "interval"), rows),
        (f"Candidate better in {share(found.share_better)} of the shops.", *found.notes),
    )
    return [runs, *_fit(key, candidate, found)]


def _fit(key: str, candidate: str, found: ClosedLoopValue) -> list[Panel]:
    if not found.fit:
        return []
    spread = [one for one in found.fit if one.simulated_sd > 0.0]
    names = [one.name for one in spread]
    away = [(one.history - one.simulated_mean) / one.simulated_sd for one in spread]
    plot = figure("history, in simulated sd", "", height=rows_height(len(names)))
    plot.add_trace(
        go.Scatter(
            x=away,
            y=[plain(name) for name in names],
            mode="markers",
            marker={
                "size": 10,
                "color": [
                    (ink.LESS if abs(one) > FIT_SDS else ink.MORE).light for one in away
                ],
                "symbol": ["x" if abs(one) > FIT_SDS else "circle" for one in away],
            },
            hovertemplate="%{y}: %{x:.2f} sd<extra></extra>",
        )
    )  # fmt: skip
    plot.add_vrect(-FIT_SDS, FIT_SDS, fillcolor=ink.band(ink.MORE.light), line_width=0)
    plot.update_layout(yaxis=row_labels(names), showlegend=False, hovermode="closest")
    rows = [
        (one.name, number(one.history, 3), number(one.simulated_mean, 3),
         number(one.simulated_sd, 3))
        for one in found.fit
    ]  # fmt: skip
    return [
        Panel(
            f"fit-{key}",
            f"How like history the simulated shops are: {candidate}",
            f"Where history lies among simulated ones, in their sd; within {FIT_SDS:g} it is "
            "like them.",
            plot if spread else None,
            table(("figure", "history", "simulated mean", "simulated sd"), rows),
        )
    ]


# -- by a test on customers


def _switchback(key: str, candidate: str, found: SwitchbackDesign) -> Panel:
    currency = found.currency
    correlation = found.intraclass_correlation
    rows = [
        ("units", f"{found.units:,} ({found.unit_kind})"),
        ("blocks", f"{found.blocks} of {number(found.block_days, 1)} days, the first "
                   f"{number(found.washout_days, 1)} days of each not counted"),
        ("length", f"{number(found.days, 0)} days (at most {number(found.days_max, 0)})"),
        ("level, power", f"{percent(found.alpha)}, {percent(found.power)}"),
        ("effect to be found", f"{difference(found.effect_minor_per_day, currency)} a day"),
        ("detectable", f"{difference(found.detectable_minor_per_day, currency)} a day"),
        ("sd of the estimate", f"{difference(found.sd_minor_per_day, currency)} a day"),
        ("intraclass correlation", "not known" if correlation is None else number(correlation, 3)),
    ]  # fmt: skip
    return Panel(
        f"switchback-{key}",
        f"Switchback test design: {candidate}",
        f"No test fits: {found.refused}"
        if found.refused is not None
        else f"Which policy a unit has in each block of {number(found.block_days, 1)} days"
        + (f", the first {UNITS_DRAWN} units." if found.units > UNITS_DRAWN else "."),
        _schedule(found),
        facts(rows),
        found.notes,
        open_table=True,
    )


def _schedule(found: SwitchbackDesign) -> go.Figure | None:
    if not found.schedule:
        return None
    units = list(dict.fromkeys(cell.unit for cell in found.schedule))[:UNITS_DRAWN]
    policies = list(dict.fromkeys(cell.policy for cell in found.schedule))
    inks = [ink.BASELINE, *ink.CANDIDATES]
    plot = figure("block", "", height=rows_height(len(units)))
    for at, policy in enumerate(sorted(policies)):
        cells = [cell for cell in found.schedule if cell.policy == policy and cell.unit in units]
        plot.add_trace(
            go.Scatter(
                x=[cell.block for cell in cells],
                y=[plain(cell.unit) for cell in cells],
                mode="markers",
                name=plain(policy),
                marker={
                    "symbol": "square" if at == 0 else "diamond",
                    "size": 11,
                    "color": inks[at % len(inks)].light,
                },
                hovertemplate="%{y}, block %{x}<extra></extra>",
            )
        )
    plot.update_layout(yaxis=row_labels(units), hovermode="closest")
    return plot
