"""``pricemaker whatif``: files, stdin, one case and many, text and JSON, exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streams.cli import cli

CASE = {
    "currency": "EUR",
    "cost_minor": 5_000,
    "reference_price_minor": 10_000,
    "horizon_days": 7,
    "demand_per_day": 10,
    "elasticity": -2.0,
    "return_rate": {"shape": "constant", "rate": 0.1},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file that keeps compiled kernels in a folder of this module's own."""
    folder = tmp_path_factory.mktemp("whatif")
    path = folder / "pricemaker.toml"
    path.write_text(f'[engine]\ncompilation_cache_dir = "{folder}/kernels"\n', encoding="utf-8")
    return path


def run(settings: Path, document: object, *options: str) -> Result:
    arguments = ["whatif", "-", "--config", str(settings), *options]
    text = document if isinstance(document, str) else json.dumps(document)
    return CliRunner().invoke(cli, arguments, input=text)


def test_one_case_gives_one_document(settings: Path):
    result = run(settings, CASE, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["price_minor"] == pytest.approx(10_000.0, rel=1e-9)
    assert answer["expected_profit_minor"] == pytest.approx(315_000.0, rel=1e-9)
    assert answer["greeks"]["rho"] is None


def test_a_list_gives_a_list_also_from_a_file(settings: Path, tmp_path: Path):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([CASE, CASE | {"elasticity": -3.0}]), encoding="utf-8")
    result = CliRunner().invoke(cli, ["whatif", str(path), "--json", "--config", str(settings)])
    prices = [answer["price_minor"] for answer in json.loads(result.stdout)]
    assert prices == pytest.approx([10_000.0, 7_500.0], rel=1e-9)


def test_people_get_a_table(settings: Path):
    result = run(settings, [CASE, CASE | {"stock": 30, "risk_aversion": 0.1}])
    assert result.exit_code == 0
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["case", "1", "of", "2"] in words
    assert ["price", "100.00", "EUR"] in words
    assert ["rho", "none", "stock", "is", "unlimited"] in words
    rhos = [line for line in words if line and line[0] == "rho"]
    assert rhos[1][2] == "EUR"


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ("{", "not_json", None),
        ([], "wrong_number_of_cases", None),
        (CASE | {"cost_minor": -1}, "invalid_field", "cost_minor"),
        ({"currency": "EUR"}, "missing_field", "cost_minor"),
        ([CASE, "x"], "invalid_field", "request"),
        (CASE | {"currency": "QQQ"}, "unknown_currency", "currency"),
    ],
)
def test_bad_input_exits_3_and_says_why(
    settings: Path, document: object, code: str, field: str | None
):
    result = run(settings, document, "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    error = json.loads(result.stderr)
    assert (error["code"], error["field"]) == (code, field)
    assert error["message"]


def test_a_missing_file_is_wrong_usage(settings: Path):
    result = CliRunner().invoke(cli, ["whatif", "no-such-file.json", "--config", str(settings)])
    assert result.exit_code == 2
