"""``pricemaker train``: learn from a tape what the fold does not learn by itself.

Each part is a command of its own over the same `streams.training.training.TapeFold`: it names a
tape, writes one content-hashed document, and can publish it.
"""

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from schemas.errors import ConfigError
from streams.commands.source_options import source_options
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.tape_selection import KAFKA, SourceSpec

FILE = click.Path(dir_okay=False, path_type=Path)

out_option = click.option("--out", type=FILE, help="Write the document (canonical JSON).")
publish_option = click.option(
    "--publish", is_flag=True, help="Send the document to controls: it is in force from then on."
)


@click.group("train")
def command() -> None:
    """Learn from a tape, and publish what was learned."""


@command.command("prior")
@source_options
@click.option(
    "--challengers", is_flag=True,
    help="Let other models forecast the held-out products beside the posterior, and publish the "
    "outcome with the prior; about a millisecond an epoch.",
)  # fmt: skip
@click.option("--no-meta", is_flag=True, help="Empirical Bayes only, without its challenger MAML.")
@click.option(
    "--every", "every_s", type=click.FloatRange(1.0),
    help="Go on as a service: every so many seconds fold what has come, take ten EM steps, and "
    "publish where the document changed. Needs SOURCE kafka and --publish.",
)  # fmt: skip
@out_option
@publish_option
@bootstrap_option
@command_options()
def prior(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    challengers: bool,
    no_meta: bool,
    every_s: float | None,
    out: Path | None,
    publish: bool,
) -> None:
    """Learn what a new product starts with, from the closed epochs of a tape.

    Empirical Bayes and MAML are fitted without a fifth of the products, forecast those one epoch
    ahead, and the better one is fitted again with all. What SOURCE may be: docs/tape-sources.md.

    Example: pricemaker train prior events.jsonl.gz --out prior.json
    """
    from models.demand.history import EpochHistory
    from models.demand.search_history import SearchHistory
    from models.prior.prior import prior_sha256
    from streams.training.training import TapeFold, write_document
    from streams.training.training_prior import (
        keep_fresh,
        noting_searches,
        publish_prior,
        train_from,
    )

    if every_s is not None and (spec.source != KAFKA or not publish):
        raise ConfigError(
            "service_needs_kafka", "--every needs SOURCE kafka and --publish.", field="--every"
        )
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    history = EpochHistory()
    searches = SearchHistory() if challengers else None
    note = None if searches is None else noting_searches(searches)
    fold = TapeFold(settings, spec, history, note)
    with progress_bar(output, f"reading {Path(spec.source).name}") as advance:
        read = fold.read(advance)
    trained = train_from(history, read, spec.source, meta=not no_meta, challengers=searches)
    known = prior_sha256(trained.prior)
    if out is not None:
        write_document(out, trained.prior)
    if publish:
        publish_prior(settings, trained.prior)
    document = {
        "prior_sha256": known,
        "published": publish,
        "training": msgspec.to_builtins(trained.prior.training),
        "by_orders_seen": trained.by_orders_seen,
        "clusters": msgspec.to_builtins(trained.prior.clusters),
        "ensemble": msgspec.to_builtins(trained.prior.ensemble),
    }
    output.document(document, _prior_table(trained, known))
    if every_s is not None:
        for sha256 in keep_fresh(settings, fold, history, trained.prior, every_s, out):
            output.record({"prior_sha256": sha256, "published": True}, f"published {sha256}")


@command.command("baskets")
@source_options
@out_option
@bootstrap_option
@command_options()
def baskets(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    out: Path | None,
) -> None:
    """Propose anchors, additions and families from products that are bought together.

    A proposal changes nothing: look at it, and carry out what you approve with pricemaker family
    apply. What SOURCE may be: docs/tape-sources.md.

    Example: pricemaker train baskets events.jsonl.gz --out families.json
    """
    from streams.training.training import write_document
    from streams.training.training_baskets import propose_from

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    with progress_bar(output, f"reading {Path(spec.source).name}") as advance:
        proposal = propose_from(settings, spec, advance)
    if out is not None:
        write_document(out, proposal)
    output.document(msgspec.to_builtins(proposal), _families_table(proposal))


@command.command("quotes")
@source_options
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of the split by product, the design and the network.",
)
@click.option("--out", type=FILE, required=True, help="Write the model (ONNX).")
@bootstrap_option
@command_options()
def quotes(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    seed: int,
    out: Path,
) -> None:
    """Distil the light model of quotes from the full engine.

    It learns from four fifths of the products at the tape's end and a wide design around them;
    printed is how far it is from the full engine on the others. Put its name into
    quotes.model_file. What SOURCE may be: docs/tape-sources.md; more: docs/quotes.md.

    Example: pricemaker train quotes events.jsonl.gz --out quotes.onnx
    """
    from streams.quotes.training import rows_of, train, write_model
    from streams.training.training import TapeFold

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    fold = TapeFold(settings, spec)
    with progress_bar(output, f"reading {Path(spec.source).name}") as advance:
        read = fold.read(advance)
    trained = train(fold.engines[0].kernel, rows_of(fold.engines), seed, read.tape_sha256)
    write_model(out, trained)
    document = {"model_sha256": trained.sha256, **msgspec.to_builtins(trained.facts)}
    output.document(document, _quotes_table(trained))


def _quotes_table(trained: Any) -> Table:
    facts = trained.facts
    title = (
        f"model {trained.sha256[:16]} from {facts.products:,} products, {facts.rows:,} rows; "
        "error: of the price before guards, over the full engine's"
    )
    table = Table(
        "held out", "rows", "answered", "within 1 %", "median error", "99 %", "99.9 %", "worst",
        title=title, title_justify="left", box=None,
    )  # fmt: skip
    for name, found in (
        (f"{facts.held_out.products} products", facts.held_out),
        ("design around them", facts.held_out_design),
    ):
        table.add_row(
            name, f"{found.rows:,}", f"{found.answered_share:.2%}",
            f"{found.within_1_percent_share:.2%}", f"{found.p50:.4%}", f"{found.p99:.4%}",
            f"{found.p999:.4%}", f"{found.worst:.4%}",
        )  # fmt: skip
    return table


def _families_table(proposal: Any) -> Table:
    title = f"proposal {proposal.sha256[:16]} from {proposal.orders:,} orders; nothing is applied"
    table = Table(
        "family", "category", "anchor", "addition", "orders", "together", "by chance",
        "lift (90 %)",
        title=title, title_justify="left", box=None,
    )  # fmt: skip
    for family in proposal.families:
        for one in family.additions:
            table.add_row(
                family.name, family.category, family.anchor, one.sku, f"{one.orders:,}",
                f"{one.orders_together:,}", f"{one.expected_together:,.1f}",
                f"{one.lift:.2f} ({one.lift_low:.2f} to {one.lift_high:.2f})",
            )  # fmt: skip
    return table


def _prior_table(trained: Any, known: str) -> Table:
    """Candidates by orders seen: mean log likelihood of an epoch of a held-out product, nats."""
    from models.prior.champion import ORDERS_SEEN

    record = trained.prior.training
    title = (
        f"prior {known[:16]} from {record.products:,} products, {record.epochs:,} epochs, "
        f"{record.orders:,} orders; champion: {record.champion}"
    )
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("log likelihood, nats per epoch, after")
    for score in record.scores:
        table.add_column(score.name, justify="right")
    for row, orders in enumerate(ORDERS_SEEN):
        values = [trained.by_orders_seen[score.name][row] for score in record.scores]
        shown = ["-" if value is None else f"{value:.4f}" for value in values]
        table.add_row(f"K = {orders} orders", *shown)
    first = [f"{score.first_epoch:.4f}" for score in record.scores]
    table.add_row("first epoch", *first)
    mean = [f"{score.log_likelihood:.4f} ± {score.standard_error:.4f}" for score in record.scores]
    table.add_row("mean over products", *mean)
    lines = [*_cluster_lines(trained.prior.clusters), *_ensemble_lines(trained.prior.ensemble)]
    table.caption = "\n".join(lines)
    table.caption_justify = "left"
    return table


def _cluster_lines(clusters: Any) -> list[str]:
    """Each cluster of the catalogue: products, elasticity, quantile of its residuals."""
    found = [f"clusters: {len(clusters.clusters)}, mean silhouette {clusters.silhouette:.2f}"]
    for place, cluster in enumerate(clusters.clusters):
        found.append(
            f"{place}: {cluster.products:,} products, elasticity {cluster.elasticity_mean:.2f} "
            f"(sd {cluster.elasticity_sd:.2f}), residuals up to "
            f"{cluster.residual_quantiles[-1]:.1f} sd in {clusters.probabilities[-1]:.0%} of epochs"
        )
    return found


def _ensemble_lines(ensemble: Any) -> list[str]:
    """Each cluster's challengers: mean log likelihood of an epoch, and weight in the pool."""
    if ensemble is None:
        return []
    found = []
    for part in ensemble.clusters:
        members = ", ".join(
            f"{member.name} {member.log_score:.3f} ({member.weight:.0%})" for member in part.members
        )
        found.append(
            f"cluster {part.cluster}, {part.epochs:,} epochs: {members}; average "
            f"{part.average_log_score:.3f}, weighted {part.weighted_log_score:.3f}"
        )
    found.extend(
        f"{alert.member} of cluster {alert.cluster} {alert.event}: {alert.reason}"
        for alert in ensemble.alerts
    )
    found.append(
        f"posterior far from the ensemble: {len(ensemble.outliers)} products "
        f"{' '.join(one.sku for one in ensemble.outliers[:10])}".rstrip()
    )
    return found
