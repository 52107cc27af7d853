"""The page: one HTML file with all that it needs inside, so that it opens from disk, offline.

What comes from data is escaped by the template; JSON inside the page escapes ``<`` too, so that no
``</script>`` in a product's name ends it. The page's own policy (CSP) forbids every request.
"""

from pathlib import Path
from typing import Any

import jinja2
import orjson
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from schemas.backtest import BacktestReport, PolicyRun
from schemas.errors import ServiceError
from streams.report import checks, ink, over_time, prices, value
from streams.report.parts import (
    Panel,
    Section,
    Table,
    facts,
    minute,
    number,
    table,
)
from streams.report.words import verdict

SHORT = 24  # characters of a cell that are not broken
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("streams.report", "template"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(report: BacktestReport, path: Path) -> None:
    """Draw the report and write it; a file that is there is replaced whole.

    Raises
    ------
    ServiceError : the file can't be written
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(report_page(report), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error}.", where=str(path), fix="Check the folder."
        ) from error


def report_page(report: BacktestReport) -> str:
    """The page's text."""
    baseline = report.run.baseline
    inks = ink.of_policies(_names(report), baseline)
    sections = [
        _policies(report),
        prices.section(report, inks),
        value.section(report),
        over_time.section(report, inks),
        checks.section(report, inks),
        _run(report),
    ]
    return _TEMPLATES.get_template("report.html.jinja").render(
        title=_title(report),
        short=SHORT,
        run=report.run,
        first=minute(report.run.first_event),
        last=minute(report.run.last_event),
        verdicts=[verdict(one, baseline) for one in report.comparisons],
        sections=sections,
        figures=_json(_figures(sections)),
        dark=_json(ink.dark_of()),
        inks={"paper": ink.PAPER, "soft": ink.SOFT, "text": ink.TEXT, "muted": ink.MUTED,
              "grid": ink.GRID, "accent": ink.BASELINE, "more": ink.MORE, "less": ink.LESS},
        plotly=_script(get_plotlyjs()),
    )  # fmt: skip


def _names(report: BacktestReport) -> tuple[str, ...]:
    """All policies that are drawn, in their order."""
    drawn = [one.policy for one in (*report.days, *report.ledger)]
    prices = [name for one in report.products for name in one.prices]
    return tuple(dict.fromkeys([*(one.name for one in report.policies), *drawn, *prices]))


def _title(report: BacktestReport) -> str:
    candidates = [one.candidate for one in report.comparisons]
    if not candidates:
        return f"Backtest of {report.run.baseline}"
    return f"Backtest: {', '.join(candidates)} against {report.run.baseline}"


def _figures(sections: list[Section]) -> dict[str, Any]:
    """All figures by the panel's key, as Plotly reads them."""
    found: dict[str, Any] = {}
    for section in sections:
        chosen = [panel for choice in section.choices for panel in choice.panels]
        for panel in (*chosen, *section.panels):
            if panel.figure is not None:
                plotted = panel.figure.to_plotly_json()
                found[panel.key] = {"data": plotted["data"], "layout": plotted["layout"]}
    return found


def _json(value: Any) -> Markup:
    """JSON that may stand inside a script element, whatever its strings say."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _script(text: str) -> Markup:
    """A library's script to be put inside the page.

    Raises
    ------
    ValueError : it would end the element, or change how it is read
    """
    lowered = text.lower()
    if "</script" in lowered or "<!--" in lowered:
        raise ValueError("the script can't stand inside a page as it is")
    return Markup(text)


# -- what was compared, and how to do it again


def _policies(report: BacktestReport) -> Section:
    rows = [_policy_row(one, report.run.baseline) for one in report.policies]
    columns = (
        "policy", "changed for it", "products priced", "decisions", "published", "held",
        "price changes", "a product-day", "breaker trips", "dead letters",
    )  # fmt: skip
    panels = [
        Panel(
            "policies",
            "Policies",
            "Counts over the whole tape, a fold each.",
            table=table(columns, rows, 2),
            open_table=True,
        )
    ]
    shares = prices.shares_table(report)
    panels += [] if shares is None else [shares]
    return Section("compared", "What was compared", (), tuple(panels))


def _policy_row(one: PolicyRun, baseline: str) -> tuple[str, ...]:
    return (
        f"{one.name} (baseline)" if one.name == baseline else one.name,
        "; ".join(one.edits) or "-",
        f"{one.products_priced:,} of {one.products:,}",
        f"{one.decisions:,}",
        f"{one.published:,}",
        f"{one.held:,}",
        f"{one.price_changes:,}",
        number(one.price_changes_per_product_day, 3),
        f"{one.breaker_trips:,}",
        f"{one.dead_letters:,}",
    )


def _run(report: BacktestReport) -> Section:
    run = report.run
    rows: list[tuple[str, str]] = [
        ("source", run.source + (" (a reconstruction: no tape was kept)"
                                 if run.reconstruction else "")),
        ("tape records", f"{run.records:,} on {run.partitions:,} partitions"),
        ("events", f"{run.first_event or 'none'} to {run.last_event or 'none'}"),
        ("tape SHA-256", run.tape_sha256),
        ("engine", run.engine),
        ("Pricemaker", run.version),
        ("seed", str(run.seed)),
        ("time", f"{run.seconds:,.1f} s"),
    ]  # fmt: skip
    hashes = [
        (one.name, one.decisions_sha256, one.state_sha256, one.policy_sha256, one.prior_sha256)
        for one in report.policies
    ]
    columns = ("policy", "decisions SHA-256", "state SHA-256", "policy SHA-256", "prior SHA-256")
    by_policy: Table | None = table(columns, hashes, 5)
    panels = (
        Panel("source", "The run", "What was read, and with what.", table=facts(rows),
              open_table=True),
        Panel("hashes", "Hashes by policy",
              "The same tape, policy and engine give the same hashes again.",
              table=by_policy, open_table=True),
    )  # fmt: skip
    return Section("run", "Assumptions and hashes", run.assumptions, panels)
