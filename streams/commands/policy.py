"""``pricemaker policy``: check a policy file, show what it would do, publish it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from models.guards.policy_check import Finding
from schemas.errors import ConfigError, InputError
from schemas.policy import policy_sha256
from schemas.scopes import parse_policy
from streams.config import load_settings
from streams.controls.policy_files import PolicyFile, check, read_policy
from streams.output import Output, bootstrap_option, command_options
from streams.tape.tape_sources import KAFKA

FILE = click.Path(dir_okay=False, path_type=Path)


def _from_option(**options: Any) -> Callable[[Any], Any]:
    return click.option(
        "--from",
        "source",
        metavar="SOURCE",
        help='The catalogue: "kafka", a checkpoint (replay --checkpoint), a tape or an event file.',
        **options,
    )


@click.group("policy")
def command() -> None:
    """Check a policy, show what it would do, publish it."""


@command.command("check")
@click.argument("file", type=FILE)
@_from_option()
@bootstrap_option
@command_options()
def check_policy(
    output: Output, config_file: Path | None, bootstrap: str | None, file: Path, source: str | None
) -> None:
    """Check a policy file: errors with key, value and what is expected; and what looks unmeant.

    With --from the selectors are also held against the products on sale.

    Example: pricemaker policy check policy.toml
    """
    found = read_policy(file)
    engines = [] if source is None else _engines(output, config_file, bootstrap, source)
    told = check(found, _subjects(engines))
    base = found.document.base
    document = {
        "name": base.name, "version": base.version, "sha256": policy_sha256(found.text),
        "scopes": len(found.document.scopes), "findings": msgspec.to_builtins(told),
    }  # fmt: skip
    head = f"{base.name}, version {base.version}, {len(found.document.scopes)} scopes: valid"
    output.document(document, "\n".join([head, *map(_finding_line, told)]))


def _finding_line(one: Finding) -> str:
    return f"  look at {one.where}: {one.message}. {one.fix}"


@command.command("diff")
@click.argument("file", type=FILE)
@_from_option(default=KAFKA, show_default=True)
@bootstrap_option
@command_options()
def diff_policy(
    output: Output, config_file: Path | None, bootstrap: str | None, file: Path, source: str
) -> None:
    """Price the present catalogue under the policy in force and under FILE, and compare.

    It is the next decision on every product, with steps and no-change band; nothing is published.

    Example: pricemaker policy diff policy.toml --from checkpoint.jsonl
    """
    from models.pricing.policy_diff import summary
    from streams.explain.policy_text import diff_text

    found = read_policy(file)
    engines = _engines(output, config_file, bootstrap, source)
    diff = summary(_compared(engines, found))
    told = check(found, _subjects(engines))
    document = {**msgspec.to_builtins(diff), "findings": msgspec.to_builtins(told)}
    output.document(document, diff_text(diff, [_finding_line(one) for one in told]))


@command.command("publish")
@click.argument("file", type=FILE)
@click.option("--yes", is_flag=True, help="Do not ask, and show no comparison.")
@click.option("--dry-run", is_flag=True, help="Check all, publish nothing.")
@bootstrap_option
@command_options()
def publish_policy(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    file: Path,
    yes: bool,
    dry_run: bool,
) -> None:
    """Put a policy in force: its version must be above the present one's.

    Shows what it would do and asks first, unless --yes. Products are decided anew at the next tick.

    Example: pricemaker policy publish policy.toml
    """
    from streams.controls import controls
    from streams.worker.engine_states import read_policies

    if output.as_json and not (yes or dry_run):
        raise click.UsageError("With --json give --yes or --dry-run: nobody can be asked.")
    found = read_policy(file)
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    _check_version(found, read_policies(settings), file)
    for one in check(found):
        output.note(_finding_line(one))
    if not (yes or dry_run):
        _ask(output, config_file, bootstrap, found)
    base = found.document.base
    if not dry_run:
        controls.send(settings, controls.policy_event(found.text, base.version))
    document = {
        "name": base.name, "version": base.version, "sha256": policy_sha256(found.text),
        "published": not dry_run,
    }  # fmt: skip
    done = "would be published" if dry_run else "published; prices follow at the next tick"
    output.document(document, f"{base.name}, version {base.version}: {done}")


def _ask(
    output: Output, config_file: Path | None, bootstrap: str | None, found: PolicyFile
) -> None:
    from models.pricing.policy_diff import summary
    from streams.explain.policy_text import diff_text

    engines = _engines(output, config_file, bootstrap, KAFKA)
    output.text(diff_text(summary(_compared(engines, found)), []))
    click.confirm("Publish it?", abort=True, err=True)


def _check_version(found: PolicyFile, in_force: list[str], file: Path) -> None:
    """Refuse what is in force already, and a version that is not above it."""
    versions = [parse_policy(text).base.version for text in in_force if text]
    least = max(versions, default=0) + 1
    if found.text in in_force:
        raise ConfigError(
            "in_force", "the policy is in force already.", where=str(file), field="version"
        )
    if found.document.base.version < least:
        raise ConfigError(
            "version_not_above",
            f"version was {found.document.base.version}; expected {least} or more, since "
            f"{least - 1} is in force.",
            where=str(file), field="version", value=found.document.base.version,
            expected=f"{least} or more", fix=f"Write: version = {least}",
        )  # fmt: skip


@command.command("show")
@bootstrap_option
@command_options()
def show_policy(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Print the policy in force, as it was published.

    Example: pricemaker policy show > policy.toml
    """
    from streams.worker.engine_states import read_policies

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    texts = read_policies(settings)
    if not texts:
        raise InputError(
            "no_state", "no worker has written its state yet.", fix="Run: pricemaker worker"
        )
    newest = max(texts, key=lambda text: (parse_policy(text).base.version, text))
    base = parse_policy(newest).base
    document = {
        "name": base.name, "version": base.version, "sha256": policy_sha256(newest),
        "policy": newest, "partitions": len(texts),
        "partitions_in_force": sum(text == newest for text in texts),
    }  # fmt: skip
    if any(text != newest for text in texts):
        output.note("some partitions have not read it yet")
    output.document(document, newest.rstrip("\n") or "# the defaults: no policy was published")


def _engines(
    output: Output, config_file: Path | None, bootstrap: str | None, source: str
) -> list[Any]:
    from streams.progress import progress_bar
    from streams.worker.engine_states import load_engines
    from streams.worker.engines import warm_kernel

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    with progress_bar(output, "reading the catalogue") as advance:
        kernel = warm_kernel(settings.engine.compilation_cache_dir)
        return load_engines(source, settings, kernel, advance)


def _compared(engines: list[Any], found: PolicyFile) -> list[Any]:
    from models.pricing.policy_diff import compare

    return [one for engine in engines for one in compare(engine, found.text)]


def _subjects(engines: list[Any]) -> Any:
    from models.fold.holds import subject_of

    return tuple(
        subject_of(entry)
        for engine in engines
        for entry in engine.state.catalogue.values()
        if not entry.retired
    )
