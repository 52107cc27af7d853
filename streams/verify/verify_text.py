"""A verification for people."""

from rich.console import Group, RenderableType
from rich.table import Table

from streams.verify.verification import Difference, Segment, Verification

WORDS = {
    "altered": "altered",
    "missing": "missing",
    "unexpected": "unexpected",
    "repeated": "repeated",
    "reordered": "out of the tape's order",
    "version_gap": "after a gap in versions",
    "unannounced_engine": "of an engine that nothing announces",
    "latest_differs": "otherwise on prices-latest",
    "manifest_differs": "partitions with another hash in the manifest",
}
MODES = {"bytes": "byte for byte", "actions": "as another engine's actions"}
DIGITS = 12


def summary_of(found: Verification) -> str:
    """What was not confirmed, in one sentence."""
    parts = [f"{count} {WORDS[kind]}" for kind, count in found.counts.items() if count]
    return f"of {found.decisions} decisions: {', '.join(parts)}."


def text_of(found: Verification) -> RenderableType:
    """Totals, segments, then each difference."""
    parts: list[RenderableType] = [_totals(found), ""]
    if found.segments:
        parts += [_segments(found), ""]
    for difference in found.first_divergence:
        parts.append(f"first divergence of tape[{_partition(difference)}]: {_line(difference)}")
    if found.first_divergence:
        parts.append("")
    for difference in found.differences:
        parts.append(_line(difference))
        parts += [
            f"    {path}: published {published}, recomputed {again}"
            for path, (published, again) in sorted(difference.fields.items())
        ]
    total = sum(found.counts.values())
    if total > len(found.differences):
        parts.append(f"and {total - len(found.differences):,} more")
    verdict = "confirmed" if found.confirmed else f"NOT confirmed: {summary_of(found)}"
    return Group(*parts, verdict)


def _totals(found: Verification) -> Table:
    table = Table(show_header=False, box=None)
    for one in found.ranges:
        words = "nothing" if one.last_offset < one.first_offset else (
            f"{one.first_offset:,} to {one.last_offset:,}"
        )  # fmt: skip
        since = ", from a checkpoint" if one.from_checkpoint else ""
        table.add_row(f"tape[{one.partition}]", f"offsets {words}{since}")
    table.add_row("tape records", f"{found.tape_records:,}")
    table.add_row("published decisions", f"{found.decisions:,}")
    table.add_row("reproduced byte for byte", f"{found.reproduced:,}")
    if found.agreed:
        table.add_row("agreed as another engine's", f"{found.agreed:,}")
    if found.before_checkpoint:
        table.add_row("before the checkpoint", f"{found.before_checkpoint:,} (not verified)")
    if found.latest is not None:
        held = f", {found.held_back:,} held back by the kill switch" if found.held_back else ""
        table.add_row("on prices-latest", f"{found.latest:,}{held}")
    table.add_row("this engine", found.engine)
    return table


def _segments(found: Verification) -> Table:
    table = Table("tape", "decisions at", "engine", "policy", "verified", "confirmed", box=None)
    for one in found.segments:
        table.add_row(
            f"tape[{one.partition}]",
            f"{one.first_offset:,} to {one.last_offset:,}",
            one.engine if one.announced else f"{one.engine} (unannounced)",
            one.policy_sha256[:DIGITS],
            MODES[one.mode],
            _share(one),
        )
    if found.segments_total > len(found.segments):
        table.add_row(f"and {found.segments_total - len(found.segments):,} more")
    return table


def _share(one: Segment) -> str:
    return f"{one.confirmed:,} of {one.decisions:,}"


def _partition(difference: Difference) -> str:
    return difference.tape.partition("[")[2].partition("]")[0]


def _line(one: Difference) -> str:
    words = f"{one.kind.replace('_', ' ')} {one.price_id} at {one.tape}"
    if one.kind == "reordered" and one.other is not None:
        words += f": stands on the wrong side of {one.other}"
    elif one.other is not None:
        words += f": the decision before it is {one.other}"
    if one.prices is not None:
        words += f", {one.prices}"
    if one.event is not None:
        words += f"; by {one.event.type} {one.event.event_id} ({one.event.source})"
    return words
