"""``pricemaker verify``: prove what was published."""

from pathlib import Path

import click
import msgspec

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.errors import CheckFailed, ConfigError
from schemas.topics import PARTITIONS_DEFAULT
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.replay.checkpoints import read_checkpoint, require_partitions_of, restored
from streams.tape.tape_selection import KAFKA, SourceSpec
from streams.verify.verify import Engines, verify
from streams.verify.verify_sources import ExportHistory, FileHistory, History, KafkaHistory
from streams.verify.verify_text import summary_of, text_of
from streams.worker.engines import warm_kernel

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("verify")
@click.argument("source", default=KAFKA)
@click.option(
    "--decisions", type=FILE,
    help="Beside a tape file: the published decisions, one JSON object a line.",
)  # fmt: skip
@click.option(
    "--partitions", type=click.IntRange(1), default=PARTITIONS_DEFAULT, show_default=True,
    help="Of the tape, where SOURCE is a file.",
)  # fmt: skip
@click.option(
    "--from-checkpoint", type=FILE,
    help="Begin with a state that replay saved; what was decided before it is not verified.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    source: str,
    decisions: Path | None,
    partitions: int,
    from_checkpoint: Path | None,
) -> None:
    """Fold the tape again and compare it with every published decision.

    Decisions of this machine's engine must come out byte for byte. Those of another are taken as
    the actions that they were: prices must agree within one step of the policy's rounding, profits
    within 1e-6; the result says which were verified how. Works on a running system: what the pricer
    had not committed when this began is left out. Exit code 5 when history is not confirmed.

    SOURCE: kafka; a folder that export wrote with --decisions; a tape file with --decisions FILE.

    Example: pricemaker verify --json
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    is_whole = source == KAFKA or Path(source).is_dir()
    if is_whole != (decisions is None):
        raise ConfigError(
            "decisions_needed",
            "--decisions was given beside kafka or an export, or not given beside a file.",
            field="--decisions", value=decisions,
            expected="a file, unless SOURCE is kafka or an export",
            fix="Give --decisions FILE beside a tape file; the others have their own decisions.",
        )  # fmt: skip
    kernel = warm_kernel(settings.engine.compilation_cache_dir)
    history: History
    if decisions is None:
        history = KafkaHistory(settings) if source == KAFKA else ExportHistory(Path(source))
    else:
        spec = SourceSpec(source=source, partitions=partitions)
        history = FileHistory(settings, spec, decisions)
    try:
        committed = history.committed()
        engines = None
        if from_checkpoint is not None:
            engines = _engines_of(from_checkpoint, len(committed), kernel)
        with progress_bar(output, "verifying") as advance:
            found = verify(history, kernel, committed, engines, advance)
    finally:
        history.close()
    document = {**msgspec.to_builtins(found), "confirmed": found.confirmed}
    output.document(document, text_of(found))
    if not found.confirmed:
        raise CheckFailed(
            "not_reproduced",
            summary_of(found),
            where="prices",
            expected="every published decision confirmed from the tape",
            fix="Look at the differences above, from the first tape position on.",
        )


def _engines_of(path: Path, partitions: int, kernel: Kernel) -> Engines:
    """The engines of a checkpoint, which is read once for each: one is in memory at a time."""
    require_partitions_of(read_checkpoint(path, ()), partitions, path)

    def engine(number: int) -> PartitionEngine:
        return restored(number, read_checkpoint(path, (number,)), kernel, path)

    return engine
