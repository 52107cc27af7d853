"""Where settings come from: ``pricemaker.toml``, environment ``PRICEMAKER_*``, flags, rising.

``PRICEMAKER_KAFKA__BOOTSTRAP`` is ``bootstrap`` in ``[kafka]``. What can be set is
``streams.settings``.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from schemas.errors import ConfigError
from streams.settings import ENV_PREFIX, MASK, Settings

__all__ = ["Settings", "load_settings"]

FILE_DEFAULT = Path("pricemaker.toml")
ENV_FILE = "PRICEMAKER_CONFIG"
ENV_OTHER_PREFIXES = ("PRICEMAKER_TEST_",)  # the test suite's servers; no settings

Layer = Mapping[str, Any]  # section -> key -> value


def load_settings(
    config_file: Path | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    """Read the settings.

    Parameters
    ----------
    config_file : the file named by ``--config``; without it ``PRICEMAKER_CONFIG``, and without
        that ``pricemaker.toml`` in the working directory, if it is there
    flags : "section.key" -> value from the command line; None means not given

    Raises
    ------
    ConfigError : names the source, the key, the value (never a secret) and what was expected
    """
    path, file_layer = _read_file(config_file)
    flag_layer: dict[str, dict[str, object]] = {}
    for name, value in (flags or {}).items():
        section, key = name.split(".")
        if value is not None:
            flag_layer.setdefault(section, {})[key] = value
    layers = {str(path): file_layer, "environment": _read_environment(), "flags": flag_layer}
    merged: dict[str, Any] = {}
    for where, layer in layers.items():
        for section, values in layer.items():
            if not isinstance(values, Mapping):
                raise _not_a_section(where, section)
            merged[section] = {**merged.get(section, {}), **values}
    try:
        return Settings(**merged)
    except ValidationError as error:
        wrong = [_config_error(details, layers) for details in error.errors()]
    first, others = wrong[0], [str(other.field) for other in wrong[1:]]
    if others:
        first.fix = f"{first.fix or ''} Wrong too: {', '.join(others)}.".strip()
    raise first


def _read_file(config_file: Path | None) -> tuple[Path, Layer]:
    named = config_file or os.environ.get(ENV_FILE)
    path = Path(named or FILE_DEFAULT)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not named:
            return path, {}
        fix = "Name a file that exists, or leave the option out to use the defaults."
        raise ConfigError("settings_file", "no such file", where=str(path), fix=fix) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        fix = "It must be a TOML file (UTF-8) that can be read."
        raise ConfigError("settings_file", f"{error}.", where=str(path), fix=fix) from None


def _read_environment() -> Layer:
    for name in os.environ:
        known = name == ENV_FILE or name.startswith(ENV_OTHER_PREFIXES)
        if known or not name.upper().startswith(ENV_PREFIX):
            continue
        section = name[len(ENV_PREFIX) :].lower().split("__")[0]
        if section not in Settings.model_fields:
            raise ConfigError(
                "unknown_setting",
                f"{name} is no setting.",
                where="environment",
                field=name,
                expected=f"{ENV_PREFIX}<section>__<key>, section one of "
                + ", ".join(Settings.model_fields),
                fix="Correct the name or unset it.",
            )
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        fix = f"Set single keys, such as {ENV_PREFIX}KAFKA__BOOTSTRAP."
        raise ConfigError("wrong_setting", f"{error}.", where="environment", fix=fix) from None


def _not_a_section(where: str, name: str) -> ConfigError:
    known = ", ".join(f"[{section}]" for section in Settings.model_fields)
    return ConfigError(
        "wrong_setting",
        f"{name} is no section.",
        where=where,
        field=name,
        expected=f"sections {known}",
        fix=f"Put {name} under its section.",
    )


def _config_error(details: ErrorDetails, layers: Mapping[str, Layer]) -> ConfigError:
    """One wrong setting, with the source it came from; no secret is ever shown."""
    path = [str(part) for part in details["loc"]]
    context = details.get("ctx", {})
    if details["type"] == "relation":
        path.append(context["field"])
    section, key = path[0], (path[1] if len(path) > 1 else "")
    name = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(path))
    given = [
        where
        for where, layer in layers.items()
        if section in layer and (not key or key in layer[section])
    ]
    where = given[-1] if given else "defaults"
    if details["type"] == "extra_forbidden":
        known = _known_beside(path)
        close = difflib.get_close_matches(path[-1], known, n=1)
        fix = f"Did you mean {close[0]}?" if close else "Remove it or correct its name."
        expected = "one of " + ", ".join(known)
        # Its value is not shown: a secret under a misspelt name is still a secret.
        return ConfigError(
            "unknown_setting", f"{name} is no setting.",
            where=where, field=name, expected=expected, fix=fix,
        )  # fmt: skip
    value = context.get("value", details["input"])
    shown = MASK if _is_secret(path, details["input"]) else value
    expected = context.get("expected") or details["msg"].removeprefix("Input should be ")
    fix = context.get("fix") or f"Correct {name}."
    message = f"{name} is {shown}; expected {expected}."
    return ConfigError(
        "wrong_setting", message, where=where, field=name, value=shown, expected=expected, fix=fix
    )


def _known_beside(path: list[str]) -> list[str]:
    """The keys that there are where the last of a path is none."""
    model: type[BaseModel] = Settings
    for part in path[:-1]:
        model = _model_in(model, part) or model
    return list(model.model_fields)


def _model_in(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section behind a key: itself, or what its list is made of."""
    if key not in model.model_fields:
        return None
    annotation = model.model_fields[key].annotation
    for found in (annotation, *get_args(annotation)):
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def _is_secret(path: list[str], value: object) -> bool:
    """Whether a value must not be shown: it is secret, or may hold something that is."""
    model: type[BaseModel] = Settings
    for part in path:
        if part in model.model_fields and "SecretStr" in str(model.model_fields[part]):
            return True
        model = _model_in(model, part) or model
    return isinstance(value, dict | list)
