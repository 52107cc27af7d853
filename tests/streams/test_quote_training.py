"""``pricemaker train quotes``: the file says what it was made for, and is refused elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from click.testing import CliRunner

from models.kernel.tile import Kernel
from schemas.errors import InputError
from streams.cli import cli
from streams.config import load_settings
from streams.quotes import training
from streams.quotes.light_model import DOCUMENT, LightModel
from streams.worker.engines import warm_kernel
from tests.models.test_quote_light import BASE


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ROWS", 4_000)
        patch.setattr(training, "HELD_OUT_ROWS", 400)
        patch.setattr(training, "BATCH_ROWS", 64)
        yield


@pytest.fixture(scope="module")
def trained(kernel: Kernel) -> training.Trained:
    return training.train(kernel, training.around(BASE, 40, seed=9), 1, "tape")


def test_training_is_repeatable_and_close_to_the_full_engine(
    kernel: Kernel, trained: training.Trained
) -> None:
    again = training.train(kernel, training.around(BASE, 40, seed=9), 1, "tape")
    assert again.sha256 == trained.sha256
    wide = trained.facts.held_out_design
    assert (wide.products, wide.rows, wide.within_1_percent_share) == (8, 400, 1.0)
    assert wide.answered_share > 0.5
    assert 0.0 < wide.p50 <= wide.p99 <= wide.p999 <= wide.worst < 0.005
    model = LightModel(trained.content)
    assert (model.why_not, model.sha256, model.facts) == (None, trained.sha256, trained.facts)
    (row,) = BASE[:1]
    (best,) = kernel.solve([row])
    found = model.predict(row)
    assert found is not None
    assert found[0] == pytest.approx(best.price, rel=0.001)
    assert found[1] == wide.p999


def test_what_the_model_was_not_made_for_is_not_answered(trained: training.Trained) -> None:
    model = LightModel(trained.content)
    for strange in (
        {"unit_cost": 400.0}, {"elasticity": -30.0}, {"cost_weight": 0.0},
        {"demand_per_day": float("nan")},
    ):  # fmt: skip
        assert model.predict(BASE[0]._replace(**strange)) is None


def changed(content: bytes, **facts: Any) -> bytes:
    model = onnx.load_from_string(content)
    found = json.loads(model.metadata_props[0].value) | facts
    model.metadata_props[0].value = json.dumps(found)
    return bytes(model.SerializeToString())


def test_a_model_of_another_version_says_so(trained: training.Trained, tmp_path: Path) -> None:
    of = f"kernel {trained.facts.kernel} and features {trained.facts.features}"
    for name in ("kernel", "features"):
        model = LightModel(changed(trained.content, **{name: 99}))
        assert f"this is {of}" in (model.why_not or "")
        assert model.predict(BASE[0]) is None
    assert "does not say" in (LightModel(changed(trained.content, low=None)).why_not or "")
    without = onnx.load_from_string(trained.content)
    assert without.metadata_props.pop().key == DOCUMENT
    assert "does not say" in (LightModel(without.SerializeToString()).why_not or "")
    assert "no ONNX model" in (LightModel(b"{}").why_not or "")
    assert "No such file" in (LightModel.read(tmp_path / "none.onnx").why_not or "")
    assert "not set" in (LightModel.read(None).why_not or "")


def test_a_shop_of_few_products_is_too_small(kernel: Kernel) -> None:
    with pytest.raises(InputError, match="at least 20"):
        training.train(kernel, BASE, 1, "tape")


def test_the_command_writes_the_model_and_prints_its_errors(tmp_path: Path) -> None:
    tape, out = tmp_path / "shop.jsonl", tmp_path / "quotes.onnx"
    runner = CliRunner()
    made = ["simulate", "--products", "30", "--days", "3", "--seed", "7", "--out", str(tape)]
    assert runner.invoke(cli, made).exit_code == 0
    found = runner.invoke(cli, ["train", "quotes", str(tape), "--out", str(out), "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    model = LightModel.read(out)
    assert model.facts is not None
    facts = json.loads(msgspec.json.encode(model.facts))
    assert document == {"model_sha256": model.sha256, **facts}
    assert document["held_out"]["within_1_percent_share"] == 1.0
    table = runner.invoke(cli, ["train", "quotes", str(tape), "--out", str(out)])
    assert "within 1 %" in table.stdout
    assert LightModel.read(out).sha256 == model.sha256
