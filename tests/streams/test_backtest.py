"""The backtest's driver and command, on a small simulated shop."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from models.backtest.edits import Candidate, Rule
from schemas.backtest import BacktestReport
from schemas.counterfactual import Edit, Match
from schemas.errors import ConfigError, FieldError, InputError
from streams.backtest.backtest import Asked, backtest
from streams.backtest.backtest_against import Against
from streams.backtest.backtest_loop import LoopAsked
from streams.backtest.candidates import candidates_of, parse_path
from streams.cli import cli
from streams.config import load_settings
from streams.replay.replay import Replay
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import open_source
from streams.worker.engines import warm_kernel

STEPS = Candidate("steps", rules=(Rule(("guards", "step_ratio_max"), 0.03),))
SAME = Candidate("same", rules=(Rule(("name",), "another name"),))
RIVALS = Candidate(
    "rivals",
    edits=(Edit(match=Match(types=("competitor_price_observed",)), scale={"price_minor": 0.8}),),
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An event file of a small shop that publishes what it is told and reports no prices."""
    path = tmp_path_factory.mktemp("shop") / "shop.jsonl"
    options = ["--products", "6", "--days", "21", "--seed", "3", "--out", str(path)]
    result = CliRunner().invoke(cli, ["simulate", *options])
    assert result.exit_code == 0, result.output
    return path


def run(shop: Path, *candidates: Candidate, processes: int = 1, **asked: Any) -> BacktestReport:
    return backtest(
        Asked(SourceSpec(source=str(shop)), candidates, processes, **asked), load_settings()
    )


@pytest.fixture(scope="module")
def report(shop: Path) -> BacktestReport:
    """Three candidates, one fold after the other."""
    return run(shop, SAME, STEPS, RIVALS)


def test_the_baseline_is_what_a_replay_gives(shop: Path, report: BacktestReport) -> None:
    opened = open_source(SourceSpec(source=str(shop)), load_settings())
    replay = Replay(warm_kernel(None), opened.partitions, 1000)
    replay.feed(opened.records)
    summary, baseline = replay.summary(), report.policies[0]
    assert baseline.decisions_sha256 == summary.decisions_sha256
    assert baseline.state_sha256 == summary.state_sha256
    assert (baseline.decisions, baseline.published, baseline.held) == (
        summary.decisions, summary.published, summary.held,
    )  # fmt: skip
    assert report.run.records == summary.records


def test_a_policy_that_only_has_another_name_prices_the_same(report: BacktestReport) -> None:
    same = report.comparisons[0].differences
    assert (same.same_share, same.dearer_share, same.cheaper_share) == (1.0, 0.0, 0.0)
    assert (same.mean_ln_ratio, same.products_differing) == (0.0, 0)
    assert (same.first_divergence, same.largest) == (None, ())
    assert all(count.baseline == count.candidate for count in same.guards)


def test_smaller_steps_show_as_a_guard_that_binds_more_often(report: BacktestReport) -> None:
    found = report.comparisons[1].differences
    (step,) = [count for count in found.guards if count.name == "step"]
    assert step.candidate > step.baseline
    shares = (found.same_share or 0.0, found.dearer_share or 0.0, found.cheaper_share or 0.0)
    assert sum(shares) == pytest.approx(1.0, abs=1e-12)
    assert found.products_differing > 0
    assert found.first_divergence is not None
    assert found.largest[0].at_stake_minor is not None
    stakes = [abs(one.at_stake_minor or 0.0) for one in found.largest]
    assert stakes == sorted(stakes, reverse=True)
    assert report.policies[2].edits == ("guards.step_ratio_max = 0.03",)


def test_a_rivals_lower_price_is_answered(report: BacktestReport) -> None:
    found = report.comparisons[2].differences
    assert found.mean_ln_ratio is not None
    assert found.mean_ln_ratio < 0.0
    (edit,) = report.policies[3].edits
    assert edit == "price_minor times 0.8 where type is competitor_price_observed"


def test_processes_do_not_reach_the_report(shop: Path, report: BacktestReport) -> None:
    again = run(shop, SAME, STEPS, RIVALS, processes=2)

    def timeless(one: BacktestReport) -> BacktestReport:
        return msgspec.structs.replace(one, run=msgspec.structs.replace(one.run, seconds=0.0))

    assert timeless(again) == timeless(report)


def test_a_policy_that_takes_over_later_differs_only_from_then_on(shop: Path) -> None:
    at = "2025-01-20T00:00:00.000Z"
    switch_ms = 1_737_331_200_000
    found = run(shop, STEPS._replace(switch_ms=switch_ms)).comparisons[0].differences
    assert found.first_divergence is not None
    assert found.first_divergence.from_time >= at


def test_one_product_alone(shop: Path, report: BacktestReport) -> None:
    sku = report.comparisons[1].differences.largest[0].sku
    found = run(shop, STEPS, skus=(sku,))
    differences = found.comparisons[0].differences
    assert [policy.products for policy in found.policies] == [1, 1]
    assert {one.sku for one in differences.largest} == {sku}
    of_all = [one for one in report.comparisons[1].differences.largest if one.sku == sku]
    assert [one for one in differences.largest if one in of_all] == of_all


def test_a_product_that_was_never_listed_is_named(shop: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(shop, STEPS, skus=("NO-SUCH",))
    assert (caught.value.field, caught.value.value) == ("--sku", "NO-SUCH")


def test_a_rule_of_a_scope_that_no_policy_has_is_named(shop: Path) -> None:
    scoped = Candidate("s", rules=(Rule(("scopes", 0, "guards", "step_ratio_max"), 0.01),))
    with pytest.raises(FieldError) as caught:
        run(shop, scoped)
    assert caught.value.field == "scopes[0].guards.step_ratio_max"


# -- another build's decisions


@pytest.fixture(scope="module")
def decisions(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a replay of the shop decides."""
    path = tmp_path_factory.mktemp("decisions") / "decisions.jsonl"
    result = CliRunner().invoke(cli, ["replay", str(shop), "--out", str(path)])
    assert result.exit_code == 0, result.output
    return path


def test_the_same_builds_decisions_are_the_same(
    shop: Path, report: BacktestReport, decisions: Path
) -> None:
    found = run(shop, against=(Against("build", decisions),))
    baseline, other = found.policies
    assert (
        other.decisions_sha256 == baseline.decisions_sha256 == report.policies[0].decisions_sha256
    )
    assert (other.published, other.held, other.price_changes) == (
        baseline.published, baseline.held, baseline.price_changes,
    )  # fmt: skip
    assert found.comparisons[0].differences.same_share == 1.0


def test_one_price_of_another_build_is_found(shop: Path, decisions: Path, tmp_path: Path) -> None:
    lines = decisions.read_bytes().splitlines()
    place = max(at for at, line in enumerate(lines) if b'"status":"published"' in line)
    altered = json.loads(lines[place])
    altered["price_minor"] = altered["wanted_minor"] = altered["price_minor"] + 100
    lines[place] = json.dumps(altered).encode()
    path = tmp_path / "altered.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    (found,) = run(shop, against=(Against("build", path),)).comparisons
    first = found.differences.first_divergence
    assert first is not None
    assert first.sku == altered["sku"]
    assert first.tape == f"tape[{altered['tape']['partition']}]@{altered['tape']['offset']}"
    assert first.candidate_minor == altered["price_minor"]
    assert first.baseline_minor == altered["price_minor"] - 100
    assert found.differences.products_differing == 1


def test_an_engine_in_another_environment_is_run(shop: Path, report: BacktestReport) -> None:
    found = run(shop, against=(Against("build", python=Path(sys.executable)),))
    assert found.policies[1].decisions_sha256 == report.policies[0].decisions_sha256


def test_an_engine_that_is_none_is_named(shop: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(shop, against=(Against("build", python=Path("/no/such/python")),))
    assert caught.value.field == "--engine"


# -- the command


def test_the_command_prints_the_document(shop: Path) -> None:
    options = ["--set", "steps:guards.step_ratio_max=0.03", "--processes", "1", "--json"]
    result = CliRunner().invoke(cli, ["backtest", str(shop), *options])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = msgspec.convert(document, BacktestReport)
    assert [one.name for one in found.policies] == ["as published", "steps"]
    assert found.run.baseline == "as published"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ([], "--policy"),
        (["--set", "steps:guards.step_ratio_max"], "--set"),
        (["--set", "as published:name=x"], "--set"),
        (["--set", "a:no..key=1"], "--set"),
        (["--set", "a:name=x", "--against", "a=file"], "--against"),
    ],
)
def test_wrong_usage_names_the_option(shop: Path, options: list[str], field: str) -> None:
    result = CliRunner().invoke(cli, ["backtest", str(shop), *options, "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stderr)["field"] == field


def test_a_rule_out_of_bounds_names_its_key(shop: Path) -> None:
    options = ["--set", "bold:guards.step_ratio_max=7", "--json"]
    result = CliRunner().invoke(cli, ["backtest", str(shop), *options])
    assert result.exit_code == 3
    error = json.loads(result.stderr)
    assert (error["code"], error["where"]) == ("invalid_policy", "guards.step_ratio_max")


def test_what_is_given_under_one_name_belongs_together(tmp_path: Path) -> None:
    policy, edits = tmp_path / "calm.toml", tmp_path / "edits.toml"
    policy.write_text("version = 3\n")
    edits.write_text('[[edits]]\nmatch = { skus = ["A"] }\ndrop = true\n')
    found = candidates_of(
        [str(policy)], ["calm:name=soft", "other:version=2"], [], [f"calm={edits}"], 5, "base"
    )
    assert found == (
        Candidate(
            "calm", "version = 3\n", (Rule(("name",), "soft"),), None,
            (Edit(match=Match(skus=("A",)), drop=True),), 5,
        ),
        Candidate("other", rules=(Rule(("version",), 2),), switch_ms=5),
    )  # fmt: skip


def test_a_path_names_each_part() -> None:
    assert parse_path("scopes[0].guards.tick_minor") == ("scopes", 0, "guards", "tick_minor")
    with pytest.raises(ConfigError):
        parse_path("scopes[x]")


def test_closed_loops_stand_beside_a_changed_policy_and_not_beside_a_changed_tape(
    shop: Path,
) -> None:
    loop = LoopAsked(runs=2, days=4, products=3)
    report = run(shop, STEPS, RIVALS, loop=loop)
    steps, rivals = report.comparisons
    (value,) = steps.closed_loop
    assert (value.runs, value.days, value.products) == (2, 4, 3)
    assert value.baseline_per_day.mean_minor != 0.0
    assert rivals.closed_loop == ()
    assert "rivals: no closed loop, which needs a candidate that changes the policy alone." in (
        report.run.assumptions
    )
    again = run(shop, STEPS, processes=2, loop=loop)
    assert again.comparisons[0].closed_loop == steps.closed_loop
