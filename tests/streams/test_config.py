"""Settings: which source wins, what is refused and how it is said, and that no secret shows."""

import os
from pathlib import Path

import pydantic
import pytest

from schemas.errors import ConfigError
from streams.config import load_settings
from streams.settings import MASK, KafkaSettings, Settings

SECRET = "hunter2-is-a-secret"


@pytest.fixture(autouse=True)
def empty_place(monkeypatch, tmp_path: Path) -> Path:
    """No variable of ours is set, and the working directory is empty."""
    for name in list(os.environ):
        if name.startswith("PRICEMAKER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(*arguments)
    return caught.value


def test_without_sources_the_defaults_hold() -> None:
    assert load_settings() == Settings()


def test_file_then_environment_then_flags(empty_place: Path, monkeypatch) -> None:
    (empty_place / "pricemaker.toml").write_text(
        '[kafka]\nbootstrap = "file:1"\nsession_timeout_s = 6\nrequest_timeout_s = 30\n'
        '[worker]\nid = "file"\n'
    )
    monkeypatch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", "environment:2")
    monkeypatch.setenv("PRICEMAKER_KAFKA__SESSION_TIMEOUT_S", "7")
    settings = load_settings(None, {"kafka.bootstrap": "flag:3", "worker.id": None})
    assert settings.kafka == KafkaSettings(
        bootstrap="flag:3", session_timeout_s=7.0, request_timeout_s=30.0
    )
    assert settings.worker.id == "file"


def test_a_file_can_be_named_by_option_or_environment(empty_place: Path, monkeypatch) -> None:
    (empty_place / "pricemaker.toml").write_text('[worker]\nid = "default"\n')
    (empty_place / "a.toml").write_text('[worker]\nid = "a"\n')
    (empty_place / "b.toml").write_text('[worker]\nid = "b"\n')
    monkeypatch.setenv("PRICEMAKER_CONFIG", "a.toml")
    assert load_settings().worker.id == "a"
    assert load_settings(Path("b.toml")).worker.id == "b"


def test_an_empty_variable_is_not_set(monkeypatch) -> None:
    monkeypatch.setenv("PRICEMAKER_REDIS__URL", "")
    assert load_settings().redis.url is None


# why, file, environment, field, where, in the message or the fix
REFUSALS = [
    ("unknown key", "[kafka]\nbootstrp = 'a:1'", {}, "kafka.bootstrp", "file", "mean bootstrap?"),
    ("unknown section", "[kafak]\nx = 1", {}, "kafak", "file", "mean kafka?"),
    ("no section", "bootstrap = 'a:1'", {}, "bootstrap", "file", "under its section"),
    (
        "unknown variable",
        "",
        {"PRICEMAKER_KAFAK__X": "1"},
        "PRICEMAKER_KAFAK__X",
        "environment",
        "unset it",
    ),
    (
        "unknown key in the environment",
        "",
        {"PRICEMAKER_WORKER__IDD": "1"},
        "worker.idd",
        "environment",
        "mean id?",
    ),
    ("type", "[worker]\npartitions = 'x'", {}, "worker.partitions", "file", "a valid integer"),
    ("below", "[worker]\npartitions = 0", {}, "worker.partitions", "file", "or equal to 1"),
    ("choice", "[worker]\nrole = 'both'", {}, "worker.role", "file", "'intake'"),
    ("no port", "[kafka]\nbootstrap = 'host'", {}, "kafka.bootstrap", "file", "host:port"),
    (
        "session as long as requests",
        "[kafka]\nsession_timeout_s = 90",
        {},
        "kafka.session_timeout_s",
        "file",
        "less than request_timeout_s (90)",
    ),
    (
        "a chunk that fits no batch",
        "[worker]\nchunk_records = 500",
        {"PRICEMAKER_WORKER__BATCH_RECORDS": "499"},
        "worker.batch_records",
        "environment",
        "at least chunk_records (500)",
    ),
    (
        "login without a name",
        "[kafka]\nsecurity_protocol = 'SASL_SSL'\nsasl_mechanism = 'PLAIN'",
        {"PRICEMAKER_KAFKA__SASL_PASSWORD": SECRET},
        "kafka.sasl_username",
        "defaults",
        "given when security_protocol is SASL_SSL",
    ),
    (
        "password without SASL",
        "",
        {"PRICEMAKER_KAFKA__SASL_PASSWORD": SECRET},
        "kafka.sasl_password",
        "environment",
        "absent when security_protocol is PLAINTEXT",
    ),
    (
        "certificates without TLS",
        "[kafka]\nssl_ca_location = 'ca.pem'",
        {},
        "kafka.ssl_ca_location",
        "file",
        "absent when security_protocol is PLAINTEXT",
    ),
    ("wrong scheme", f"[redis]\nurl = 'http://:{SECRET}@h'", {}, "redis.url", "file", "redis://"),
    (
        "secret misspelt",
        f"[kafka]\nsasl_pasword = '{SECRET}'",
        {},
        "kafka.sasl_pasword",
        "file",
        "",
    ),
    ("no TOML", "[kafka\nx = 1", {}, None, "file", "at line 1"),
    (
        "no JSON for a section",
        "",
        {"PRICEMAKER_KAFKA": SECRET},
        None,
        "environment",
        "PRICEMAKER_KAFKA__BOOTSTRAP",
    ),
]


@pytest.mark.parametrize(("why", "file", "environment", "field", "where", "says"), REFUSALS)
def test_wrong_settings_are_refused_by_name(
    empty_place: Path, monkeypatch, why, file, environment, field, where, says
) -> None:
    path = empty_place / "settings.toml"
    path.write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = refused(path)
    assert (error.exit_code, error.field) == (2, field), why
    assert error.where == (str(path) if where == "file" else where), why
    assert says in str(error), why
    shown = f"{error}{error.as_dict()}"
    assert SECRET not in shown, why
    assert not error.fix or error.fix.endswith((".", "?")), why


def test_every_wrong_setting_is_named(empty_place: Path) -> None:
    (empty_place / "x.toml").write_text("[worker]\npartitions = 0\nrole = 'x'\n[topics]\nq = 1\n")
    error = refused(Path("x.toml"))
    assert error.field == "worker.role"
    assert error.fix == "Correct worker.role. Wrong too: worker.partitions, topics.q."


def test_a_file_that_was_named_must_exist() -> None:
    error = refused(Path("absent.toml"))
    assert (error.exit_code, error.code, error.where) == (2, "settings_file", "absent.toml")


def test_settings_cannot_change_and_show_no_secret(monkeypatch) -> None:
    monkeypatch.setenv("PRICEMAKER_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("PRICEMAKER_KAFKA__SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("PRICEMAKER_KAFKA__SASL_USERNAME", "shop")
    monkeypatch.setenv("PRICEMAKER_KAFKA__SASL_PASSWORD", SECRET)
    monkeypatch.setenv("PRICEMAKER_REDIS__URL", f"redis://:{SECRET}@cache:6379/0")
    settings = load_settings()
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert SECRET not in shown
    assert shown.count(MASK) == 8  # two secrets, four ways to print them
    assert settings.kafka.sasl_password.get_secret_value() == SECRET
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.kafka.bootstrap = "other:1"
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.kafka = KafkaSettings()
