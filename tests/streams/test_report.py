"""The report as text: verdicts in words, escaping, caps; what a browser shows is tested apart."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from schemas.backtest import BacktestReport
from schemas.errors import ServiceError
from streams.cli import cli
from streams.report import ink
from streams.report.page import report_page, write_report
from streams.report.parts import ROWS_SHOWN, table
from streams.report.words import fit_sds, tone_of, verdict
from tests.streams.report_sample import BASELINE, BOLD, estimate, sample_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028\"'{{7*7}}"
CONTRAST_AA = 4.5


class Page(HTMLParser):
    """The elements of a page, its headings' levels, and its scripts' text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        found = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in found:
            self.ids.append(found["id"] or "")
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[-1] += data
        elif self.lasttag != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def hostile() -> Page:
    return Page(report_page(sample_report(mark=HOSTILE)))


def test_what_comes_from_data_is_text(hostile: Page) -> None:
    plain = Page(report_page(sample_report()))
    assert hostile.tags == plain.tags
    assert "img" not in hostile.tags
    assert any(HOSTILE.strip() in words for words in hostile.words)
    figures = json.loads(hostile.scripts[0])
    assert {"path-0", "belief-3", "calibration-demand", "ledger-GBP", "breakers"} <= set(figures)
    labels = figures["model-0-0"]["layout"]["yaxis"]["categoryarray"]
    assert "&lt;img src=x" in labels[1]  # Plotly reads a little HTML in labels


def test_it_is_complete_and_asks_for_nothing(hostile: Page) -> None:
    assert [link for link in hostile.links if not link.startswith(("#", "data:,"))] == []
    assert len(hostile.ids) == len(set(hostile.ids))
    assert hostile.headings[:2] == [1, 2]
    steps = [b - a for a, b in zip(hostile.headings, hostile.headings[1:], strict=False)]
    assert max(steps) == 1
    assert hostile.headings.count(1) == 1
    figures = json.loads(hostile.scripts[0])
    assert set(figures) <= set(hostile.ids)
    assert hostile.tags["details"] + hostile.tags["table"] > len(figures)


def test_verdicts_are_words_with_intervals() -> None:
    bold, careful = (verdict(one, BASELINE) for one in sample_report().comparisons)
    assert bold.tone == "better"
    assert bold.headline == (
        "By the models, “bolder” earns more than “as it was”; none of the other estimates "
        "contradicts it."
    )
    assert bold.sentences[1:3] == (
        "Models: +4,120.00 GBP (90 % interval +1,488.00 to +6,752.00) over the tape. The whole "
        "interval lies above 0. With the chance of single sales too, +1,100.00 GBP to "
        "+7,140.00 GBP.",
        "Off-policy (doubly robust): +2,100.00 GBP (90 % interval -1,025.50 to +5,225.50) for the "
        "31.0 % of decisions that logged exploration supports; effective sample size 2,913 "
        "(at least 200 needed).",
    )
    assert careful.tone == "undecided"
    assert careful.headline == (
        "Whether “careful” earns more than “as it was” stays open; the models' forecast of what "
        "was charged is in doubt."
    )
    assert careful.sentences[2:4] == (
        "Doubt: at the prices that were charged, realised profit was 0.71 (sd 0.04) times the "
        "expected one in GBP; 1 would be right.",
        "Off-policy (GBP): refused, the effective sample size is 11, below 200.",
    )
    assert careful.sentences[-1] == (
        "A switchback test in GBP can't prove it: the difference would need 900 days, more than "
        "120."
    )


def test_what_rests_on_a_forecast_in_doubt_is_undecided() -> None:
    found = sample_report().comparisons[0]
    doubted = replace(found, model=tuple(replace(one, calibration=0.5) for one in found.model))
    bold = verdict(doubted, BASELINE)
    assert (bold.tone, bold.headline) == (
        "undecided",
        "By the models, “bolder” earns more than “as it was”; the models' forecast of what was "
        "charged is in doubt.",
    )


@pytest.mark.parametrize(
    ("mean", "sd", "tone"),
    [(10.0, 1.0, "better"), (-10.0, 1.0, "worse"), (1.0, 1.0, "undecided")],
)
def test_a_tone_needs_the_whole_interval(mean: float, sd: float, tone: str) -> None:
    assert tone_of(estimate(mean, sd)) == tone


def test_estimates_that_disagree_are_named() -> None:
    found = sample_report().comparisons[0]
    loop = msgspec.structs.replace(found.closed_loop[0], difference_per_day=estimate(-900.0, 100.0))
    opposite = msgspec.structs.replace(found, closed_loop=(loop,))
    assert verdict(opposite, BASELINE).headline == (
        "By the models, “bolder” earns more than “as it was”; other estimates say the opposite."
    )


def test_a_figure_without_spread_is_far_from_another() -> None:
    assert (fit_sds(3.0, 2.0, 0.5), fit_sds(2.0, 2.0, 0.0), fit_sds(2.1, 2.0, 0.0)) == (
        2.0, 0.0, 4.0,
    )  # fmt: skip


def test_a_saved_document_draws_the_same_page() -> None:
    report = sample_report(days=20, products=2)
    again = msgspec.json.decode(msgspec.json.encode(report), type=BacktestReport)
    assert report_page(again) == report_page(report)


def test_a_run_of_one_policy_has_a_page_too() -> None:
    report = sample_report(days=5, products=0)
    alone = msgspec.structs.replace(
        report, policies=report.policies[:1], comparisons=(), days=(), breakers=(),
        calibration=(), ledger=(), explained=(),
    )  # fmt: skip
    page = Page(report_page(alone))
    assert "One policy was run; there is nothing to compare it with." in page.words
    assert json.loads(page.scripts[0]) == {}


def test_long_tables_say_what_they_leave_out() -> None:
    found = table(("a", "b"), [(str(at), "x") for at in range(ROWS_SHOWN + 7)])
    assert found is not None
    assert (len(found.rows), found.more) == (ROWS_SHOWN, 7)
    assert "more rows, see the JSON" in report_page(sample_report(days=ROWS_SHOWN + 1, products=1))


def test_a_year_of_three_policies_stays_small() -> None:
    page = report_page(sample_report(days=374, products=24))
    assert len(page.encode()) < 8_000_000


def test_inks_are_legible_and_told_apart() -> None:
    for side in ("light", "dark"):
        for one in ink.INKS:
            for paper in (ink.PAPER, ink.SOFT):
                if one not in (ink.PAPER, ink.SOFT, ink.GRID):
                    found = contrast(getattr(one, side), getattr(paper, side))
                    assert found >= CONTRAST_AA, one
    assert len({one.light for one in ink.INKS}) == len(ink.INKS)
    lines = (ink.BASELINE, *ink.CANDIDATES)
    assert len({one.dash for one in lines}) == len(lines)
    names = (BASELINE, BOLD, "third")
    assert list(ink.of_policies(names, BOLD).values()) == [ink.BASELINE, *ink.CANDIDATES[:2]]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255.0 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_command_draws_a_saved_document_again(tmp_path: Path) -> None:
    report = sample_report(days=5, products=1)
    saved, page = tmp_path / "backtest.json", tmp_path / "page.html"
    saved.write_bytes(msgspec.json.encode(report))
    arguments = ["report", str(saved), "--html", str(page), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert page.read_text(encoding="utf-8") == report_page(report)
    assert json.loads(result.stdout) == {
        "html": str(page), "bytes": page.stat().st_size, "candidates": [BOLD, "careful"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"), [(b"{}", "not_a_backtest"), (b"\xff", "not_a_backtest"), (None, None)]
)
def test_what_is_no_backtest_is_refused(
    tmp_path: Path, text: bytes | None, code: str | None
) -> None:
    saved = tmp_path / "backtest.json"
    if text is not None:
        saved.write_bytes(text)
    arguments = ["report", str(saved), "--html", str(tmp_path / "page.html"), "--json"]
    result = CliRunner().invoke(cli, arguments)
    error = json.loads(result.stderr)
    assert (error["code"], error["where"]) == (code or "file_unreachable", str(saved))
    assert result.exit_code == (3 if code else 4)
    assert not (tmp_path / "page.html").exists()


def test_it_is_written_whole_or_the_error_says_where(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = sample_report(days=5, products=1)
    write_report(report, path)
    assert path.read_text(encoding="utf-8") == report_page(report)
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ServiceError) as caught:
        write_report(report, tmp_path / "nowhere" / "report.html")
    assert caught.value.where == str(tmp_path / "nowhere" / "report.html")
