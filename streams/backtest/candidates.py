"""Candidates of a backtest from the command line: ``NAME=FILE`` and ``NAME:KEY=VALUE``."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.backtest.edits import Candidate, Rule, with_rules
from schemas.counterfactual import parse_edits
from schemas.errors import ConfigError, FieldError, ServiceError
from schemas.learned import DemandPrior
from schemas.policy import DEFAULT_POLICY_TEXT
from streams.backtest.backtest_against import Against
from streams.controls.policy_files import read_policy

CANDIDATES_MAX = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[\d+\])*)")


def candidates_of(
    policies: Sequence[str],
    rules: Sequence[str],
    priors: Sequence[str],
    edits: Sequence[str],
    switch_ms: int | None,
    baseline: str,
) -> tuple[Candidate, ...]:
    """Put together what belongs to one name, in the order in which names first come.

    Raises
    ------
    ConfigError : wrong usage, with the option
    FieldError : a file or a key is wrong
    ServiceError : a file can't be read
    """
    found: dict[str, Candidate] = {}

    def at(name: str, option: str, text: str) -> Candidate:
        if not _NAME.fullmatch(name) or name == baseline:
            raise _usage(option, text, "a name, other than the baseline's, of up to 64 letters")
        return found.setdefault(name, Candidate(name, switch_ms=switch_ms))

    for text in policies:
        name, path = _named_file(text)
        found[name] = at(name, "--policy", text)._replace(policy=read_policy(path).text)
    for text in priors:
        name, path = _named_file(text)
        found[name] = at(name, "--prior", text)._replace(prior=_prior(path))
    for text in edits:
        name, path = _named_file(text)
        before = at(name, "--edit", text)
        more = parse_edits(_text(path), str(path))
        found[name] = before._replace(edits=(*before.edits, *more))
    for text in rules:
        name, rule = parse_rule(text)
        before = at(name, "--set", text)
        found[name] = before._replace(rules=(*before.rules, rule))
    if len(found) > CANDIDATES_MAX:
        raise _usage("--policy", str(len(found)), f"at most {CANDIDATES_MAX} candidates")
    for candidate in found.values():
        _check(candidate)
    return tuple(found.values())


def others_of(
    decisions: Sequence[str], pythons: Sequence[str], taken: set[str]
) -> tuple[Against, ...]:
    """Other builds: ``NAME=DECISIONS_FILE`` and ``NAME=PYTHON``.

    Raises
    ------
    ConfigError : a name is taken or wrong
    """
    found = []
    for option, texts in (("--against", decisions), ("--engine", pythons)):
        for text in texts:
            name, path = _named_file(text)
            if not _NAME.fullmatch(name) or name in taken:
                raise _usage(option, text, "a name of its own of up to 64 letters")
            taken.add(name)
            is_file = option == "--against"
            found.append(Against(name, path if is_file else None, None if is_file else path))
    return tuple(found)


def _check(candidate: Candidate) -> None:
    """Refuse rules that no policy can take before anything is folded."""
    if candidate.policy is not None:
        candidate.policy_text("")
    else:
        plain = tuple(rule for rule in candidate.rules if rule.is_plain)
        with_rules(DEFAULT_POLICY_TEXT, plain)


def parse_rule(text: str) -> tuple[str, Rule]:
    """``NAME:objective.risk_aversion=0.2`` to the name and the rule; the value is TOML, or text.

    Raises
    ------
    ConfigError : another form

    >>> parse_rule("calm:guards.endings_minor=[99]")
    ('calm', Rule(path=('guards', 'endings_minor'), value=[99]))
    """
    name, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not (colon and equals and name and key.strip() and value.strip()):
        raise _usage("--set", text, "NAME:KEY=VALUE, such as calm:objective.risk_aversion=0.2")
    return name, Rule(parse_path(key.strip()), _toml_value(value.strip()))


def parse_path(key: str) -> tuple[str | int, ...]:
    """``parse_path("scopes[0].guards.step_ratio_max")`` names each part.

    Raises
    ------
    ConfigError : another form
    """
    path: list[str | int] = []
    for part in key.split("."):
        found = _PART.fullmatch(part)
        if found is None:
            raise _usage("--set", key, "a key such as objective.risk_aversion")
        path.append(found[1])
        path += [int(number) for number in re.findall(r"\d+", found[2])]
    return tuple(path)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _named_file(text: str) -> tuple[str, Path]:
    """``NAME=FILE``; without a name the file's own, less its ending."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).stem, Path(text))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise FieldError("not_text", f"no UTF-8 text: {error}.", where=str(path)) from None


def _prior(path: Path) -> DemandPrior:
    try:
        return msgspec.json.decode(_text(path), type=DemandPrior)
    except msgspec.MsgspecError as error:
        raise FieldError(
            "invalid_prior", f"no demand prior: {error}.", where=str(path), field="prior",
            expected="a document that `pricemaker train prior --out FILE` wrote",
        ) from None  # fmt: skip


def _usage(option: str, value: str, expected: str) -> ConfigError:
    return ConfigError(
        "wrong_candidate", f"{option} was {value!r}; expected {expected}.", field=option,
        value=value, expected=expected,
    )  # fmt: skip
