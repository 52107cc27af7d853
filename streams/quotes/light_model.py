"""The light model on disk: an ONNX file that says what it was made for, run on one thread."""

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from models.kernel.objective import Row
from models.kernel.tile import KERNEL_VERSION
from models.quotes.light import FEATURES_VERSION, LAST_STEP_MAX, features, is_covered, polished
from schemas.codec import plan

DOCUMENT = "pricemaker"  # the key of the facts among the file's metadata
TARGET_SCALE = 10.0  # the network's unit: tenths of a log price, so that its errors weigh
RANGE_SLACK = 0.05  # of what was seen in training, beyond its ends


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """How far prices were from the full engine's, relative, in absolute value; and the share of
    rows that the light model answered at all.
    """

    products: int
    rows: int
    answered_share: float
    within_1_percent_share: float
    p50: float
    p99: float
    p999: float
    worst: float


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was made for and of; policies are not among it: a row has what they ask.

    ``kernel`` and ``features`` must be this program's. ``low`` and ``high`` bound each feature in
    training. ``held_out`` are products that it has not seen, as they were; ``held_out_design`` a
    wide design around them.
    """

    kernel: int
    features: int
    engine: str
    seed: int
    products: int
    rows: int
    tape_sha256: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    held_out: Errors
    held_out_design: Errors


plan(ModelFacts)


class LightModel:
    """A loaded model, or why there is none.

    Attributes
    ----------
    why_not : None where it can be asked
    facts : what it was made of, None where it can't be asked
    sha256 : of the file
    """

    def __init__(self, content: bytes | None, why_not: str | None = None) -> None:
        self.why_not = why_not
        self.facts: ModelFacts | None = None
        self.sha256 = None if content is None else hashlib.sha256(content).hexdigest()
        self._session: Any = None
        if content is not None:
            self._load(content)

    @classmethod
    def read(cls, path: Path | None) -> "LightModel":
        """The model in a file; of one that is missing or of another version, why it is no use."""
        if path is None:
            return cls(None, "there is no light model: quotes.model_file is not set")
        try:
            return cls(path.read_bytes())
        except OSError as error:
            return cls(None, f"the light model can't be read: {error.strerror}")

    def predict(self, row: Row) -> tuple[float, float] | None:
        """The best price of a row, normalised, and how far it may be off, relative.

        None where the row is out of what was trained on, or the steps do not come to rest.
        """
        if self.facts is None or not is_covered(row):
            return None
        seen = features(row)
        if not all(map(_is_inside, seen, self.facts.low, self.facts.high)):
            return None
        (found,) = self._session.run(None, {"features": np.array([seen], dtype=np.float32)})
        best = polished(row, seen[0] + float(found.item()) / TARGET_SCALE)
        if best is None or best.last_step > LAST_STEP_MAX:
            return None
        return best.price, self.facts.held_out_design.p999

    def _load(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            text = session.get_modelmeta().custom_metadata_map[DOCUMENT]
            facts = msgspec.json.decode(text, type=ModelFacts)
        except (KeyError, msgspec.MsgspecError):
            self.why_not = "the light model does not say what it was made for"
            return
        except Exception as error:  # onnxruntime's own have no common class
            self.why_not = f"the light model is no ONNX model: {type(error).__name__}"
            return
        if (facts.kernel, facts.features) != (KERNEL_VERSION, FEATURES_VERSION):
            self.why_not = (
                f"the light model is of kernel {facts.kernel} and features {facts.features}; "
                f"this is kernel {KERNEL_VERSION} and features {FEATURES_VERSION}"
            )
            return
        self.facts, self._session = facts, session


def _is_inside(value: float, low: float, high: float) -> bool:
    slack = RANGE_SLACK * (high - low) + 1e-6
    return math.isfinite(value) and low - slack <= value <= high + slack
