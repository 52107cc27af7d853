"""``pricemaker train quotes``: distil the light model from the full engine, as one ONNX file."""

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.fold.engine import PartitionEngine
from models.kernel.objective import Row
from models.kernel.tile import KERNEL_VERSION, Kernel
from models.quotes.design import around, split
from models.quotes.full import posed_with
from models.quotes.light import FEATURES_VERSION, features, is_covered
from schemas.errors import InputError
from schemas.quotes import QuoteRequest
from streams.quotes.light_model import DOCUMENT, TARGET_SCALE, Errors, LightModel, ModelFacts
from streams.replay.replay import open_to_write

PRODUCTS_MIN = 20
ROWS = 60_000
HELD_OUT_ROWS = 10_000
HIDDEN, PASSES, BATCH_ROWS = (64, 64), 25, 1_024
OPSET, IR_VERSION = 17, 8  # old enough for any runtime that is still in use
WITHIN = 0.01


class Trained(NamedTuple):
    """A model, as the bytes of its file, and what it was made of."""

    content: bytes
    facts: ModelFacts

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.content).hexdigest()


def rows_of(engines: Iterable[PartitionEngine]) -> list[Row]:
    """The rows of all products that the light model is made for, as they would be posed now."""
    found = []
    for engine in engines:
        for sku in engine.state.skus:
            try:
                posed = posed_with(engine.state, QuoteRequest(sku=sku))
            except InputError:
                continue
            if is_covered(posed.full):
                found.append(posed.full)
    return found


def train(kernel: Kernel, rows: Sequence[Row], seed: int, tape_sha256: str) -> Trained:
    """Fit the network on a design around four fifths of the products, and test it on the rest.

    Raises
    ------
    InputError : too few products
    """
    if len(rows) < PRODUCTS_MIN:
        raise InputError(
            "too_few_products",
            f"{len(rows)} products can be learned from; at least {PRODUCTS_MIN} are needed.",
            value=len(rows), expected=f"at least {PRODUCTS_MIN}",
            fix="Train on the tape of a larger shop.",
        )  # fmt: skip
    parts = split(len(rows), seed)
    learned = [rows[place] for place in parts.training]
    held_out = [rows[place] for place in parts.held_out]
    design = [*learned, *around(learned, ROWS, seed)]
    seen, best = _labelled(kernel, design)
    fitted = _fit(seen, (np.log(best) - seen[:, 0]) * TARGET_SCALE, seed)
    nothing = Errors(
        products=0, rows=0, answered_share=0.0, within_1_percent_share=0.0, p50=0.0, p99=0.0,
        p999=0.0, worst=0.0,
    )  # fmt: skip
    facts = ModelFacts(
        kernel=KERNEL_VERSION,
        features=FEATURES_VERSION,
        engine=kernel.fingerprint,
        seed=seed,
        products=len(rows),
        rows=len(design),
        tape_sha256=tape_sha256,
        low=tuple(seen.min(axis=0).tolist()),
        high=tuple(seen.max(axis=0).tolist()),
        held_out=nothing,
        held_out_design=nothing,
    )
    model = LightModel(_file(fitted, facts))
    wide = around(held_out, HELD_OUT_ROWS, seed)
    facts = msgspec.structs.replace(
        facts,
        held_out=errors(kernel, model, held_out, len(held_out)),
        held_out_design=errors(kernel, model, wide, len(held_out)),
    )
    return Trained(_file(fitted, facts), facts)


def _labelled(kernel: Kernel, design: Sequence[Row]) -> tuple[Any, Any]:
    """Features [n, features] and best prices [n], normalised, of the rows whose best is finite."""
    solved = kernel.solve_arrays(np.array(design, dtype=np.float64).T)
    usable = solved[4] > 0.5
    seen = np.array([features(row) for row in design])
    return seen[usable], solved[0][usable]


def _fit(seen: Any, target: Any, seed: int) -> Pipeline:
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN, activation="tanh", learning_rate_init=3e-3,
        batch_size=min(BATCH_ROWS, len(seen)), max_iter=PASSES, tol=0.0, n_iter_no_change=PASSES,
        random_state=seed,
    )  # fmt: skip
    fitted = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of passes is meant
        fitted.fit(seen, target)
    return fitted


def _file(fitted: Pipeline, facts: ModelFacts) -> bytes:
    """The ONNX file: the network in float32, and its facts."""
    scaler, network = fitted.steps[0][1], fitted.steps[1][1]
    names, nodes = ["shift", "scale"], []
    arrays = [scaler.mean_[None, :], scaler.scale_[None, :]]
    nodes.append(helper.make_node("Sub", ["features", "shift"], ["shifted"]))
    nodes.append(helper.make_node("Div", ["shifted", "scale"], ["seen"]))
    last, layers = "seen", list(zip(network.coefs_, network.intercepts_, strict=True))
    for number, (weights, bias) in enumerate(layers):
        names += [f"weights_{number}", f"bias_{number}"]
        arrays += [weights, bias]
        before, is_last = last, number == len(layers) - 1
        last = "best" if is_last else f"sum_{number}"
        nodes.append(
            helper.make_node("Gemm", [before, f"weights_{number}", f"bias_{number}"], [last])
        )
        if not is_last:
            nodes.append(helper.make_node("Tanh", [last], [f"layer_{number}"]))
            last = f"layer_{number}"
    numbers = [
        numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in zip(names, arrays, strict=True)
    ]
    seen = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(facts.low)])
    best = helper.make_tensor_value_info("best", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "pricemaker-quotes", [seen], [best], numbers)
    model = helper.make_model(
        graph, producer_name="pricemaker", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )  # fmt: skip
    helper.set_model_props(model, {DOCUMENT: msgspec.json.encode(facts).decode()})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def errors(kernel: Kernel, model: LightModel, rows: Sequence[Row], products: int) -> Errors:
    """How far the light model's prices are from the full engine's on these rows."""
    off = []
    for row, best in zip(rows, kernel.solve(rows), strict=True):
        found = model.predict(row)
        if found is not None and best.finite:
            off.append(abs(found[0] / best.price - 1.0))
    if not off:
        raise InputError(
            "no_answers", "the light model answers none of the held-out rows.",
            fix="Train on the tape of a larger shop.",
        )  # fmt: skip
    p50, p99, p999 = np.quantile(off, [0.5, 0.99, 0.999]).tolist()
    return Errors(
        products=products,
        rows=len(rows),
        answered_share=len(off) / len(rows),
        within_1_percent_share=float(np.mean(np.array(off) <= WITHIN)),
        p50=p50,
        p99=p99,
        p999=p999,
        worst=max(off),
    )


def write_model(path: Path, trained: Trained) -> None:
    """Write the file.

    Raises
    ------
    ServiceError : it can't be written
    """
    with open_to_write(path) as file:
        file.write(trained.content)
