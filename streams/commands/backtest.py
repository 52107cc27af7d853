"""``pricemaker backtest``: other policies over a recorded tape."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from schemas.errors import ConfigError
from schemas.events import time_ms
from streams.commands.source_options import source_options
from streams.commands.steering import TIME
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.tape_selection import SourceSpec

if TYPE_CHECKING:  # the engine brings JAX, which takes seconds to load
    from models.backtest.edits import Candidate


@click.command("backtest")
@source_options
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME=FILE",
    help="A candidate: this policy in place of every policy of the tape. May be given again.",
)  # fmt: skip
@click.option(
    "--set",
    "rules",
    multiple=True,
    metavar="NAME:KEY=VALUE",
    help="A candidate: the tape's own policies with one key changed. May be given again.",
)
@click.option(
    "--prior", "priors", multiple=True, metavar="NAME=FILE",
    help="A candidate: this demand prior in place of those of the tape.",
)  # fmt: skip
@click.option(
    "--edit",
    "edits",
    multiple=True,
    metavar="NAME=FILE",
    help="A candidate: the tape with the changes that this file tells (docs/backtest.md).",
)
@click.option(
    "--against",
    "decisions",
    multiple=True,
    metavar="NAME=FILE",
    help="A candidate: the decisions that another build's replay --out wrote of this source.",
)
@click.option(
    "--engine",
    "pythons",
    multiple=True,
    metavar="NAME=PYTHON",
    help="A candidate: the build in another environment, which replays this source.",
)
@click.option(
    "--switch-at", type=TIME,
    help="Candidates' policies take over at this time, UTC.  [default: at the beginning]",
)  # fmt: skip
@click.option("--sku", "skus", multiple=True, help="Only this product; may be given again.")
@click.option("--family", "families", multiple=True, help="Only this family's products.")
@click.option(
    "--processes", type=click.IntRange(1, 256), help="Folds at a time.  [default: one a core]"
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report as one HTML file that opens from disk.",
)
@click.option(
    "--bisect",
    "decision",
    metavar="DECISION",
    help="Find what caused a decision, by its price_id or as SKU@TIME: which of the one "
    "candidate's changes, or without a candidate which events.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of estimates.")
@click.option(
    "--closed-loop", "runs", metavar="RUNS", type=click.IntRange(2, 10_000),
    help="Let the engine price so many simulated shops that are like this one.  [default: none]",
)  # fmt: skip
@click.option(
    "--closed-loop-days", "loop_days", type=click.IntRange(1, 3650), default=56, show_default=True,
    help="Days that each of them is open.",
)  # fmt: skip
@click.option(
    "--closed-loop-products", "loop_products", type=click.IntRange(1), default=30,
    show_default=True, help="Products in each, chosen at random.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    policies: tuple[str, ...],
    rules: tuple[str, ...],
    priors: tuple[str, ...],
    edits: tuple[str, ...],
    decisions: tuple[str, ...],
    pythons: tuple[str, ...],
    switch_at: datetime | None,
    skus: tuple[str, ...],
    families: tuple[str, ...],
    processes: int | None,
    html: Path | None,
    decision: str | None,
    seed: int,
    runs: int | None,
    loop_days: int,
    loop_products: int,
) -> None:
    """Fold a tape under other policies beside its own, and compare.

    What SOURCE may be: docs/tape-sources.md. Candidates are named; what is given under one name
    belongs together. Every policy learns from the prices that buyers saw.

    Example: pricemaker backtest shop.jsonl --set calm:objective.risk_aversion=0.3
    """
    from streams.backtest.backtest import AS_PUBLISHED, Asked, backtest
    from streams.backtest.backtest_loop import LoopAsked
    from streams.backtest.backtest_text import backtest_text
    from streams.backtest.candidates import candidates_of, others_of

    switch_ms = None if switch_at is None else time_ms(switch_at.replace(tzinfo=UTC))
    candidates = candidates_of(policies, rules, priors, edits, switch_ms, AS_PUBLISHED)
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    if decision is not None:
        _bisect(output, spec, decision, candidates, settings)
        return
    others = others_of(decisions, pythons, {AS_PUBLISHED, *(one.name for one in candidates)})
    if not candidates and not others:
        raise ConfigError(
            "no_candidate", "there is nothing to compare with the tape's own policies.",
            field="--policy", expected="--policy, --set, --prior, --edit, --against or --engine",
        )  # fmt: skip
    asked = Asked(
        spec=spec,
        candidates=candidates,
        processes=processes or len(os.sched_getaffinity(0)),
        skus=skus,
        families=families,
        seed=seed,
        loop=None if runs is None else LoopAsked(runs, loop_days, loop_products, seed),
        against=others,
    )
    with progress_bar(output, f"folding {Path(spec.source).name}") as advance:
        report = backtest(asked, settings, advance)
    if html is not None:
        from streams.report.page import write_report

        write_report(report, html)
    output.document(msgspec.to_builtins(report), backtest_text(report))


def _bisect(
    output: Output,
    spec: SourceSpec,
    decision: str,
    candidates: "tuple[Candidate, ...]",
    settings: Any,
) -> None:
    from streams.backtest.backtest_text import bisection_text
    from streams.backtest.bisection import bisect

    if len(candidates) > 1:
        raise ConfigError(
            "one_candidate", "--bisect compares with one candidate.", field="--bisect",
            value=len(candidates), expected="at most one candidate",
        )  # fmt: skip
    with progress_bar(output, f"bisecting {decision}") as advance:
        found = bisect(spec, decision, candidates[0] if candidates else None, settings, advance)
    output.document(msgspec.to_builtins(found), bisection_text(found))
