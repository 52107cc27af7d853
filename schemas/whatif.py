"""What ``pricemaker whatif`` reads: one pricing problem, stated by hand.

Amounts named ``_minor`` are in minor units of ``currency`` and need not be whole. A field left
out takes the default written here; the answer lists which were.
"""

import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.errors import VALUE_CHARACTERS_MAX, FieldError
from schemas.money import minor_digits

TARGET_LEFTOVER_DAYS = 14.0  # of demand at the reference price, when no target is given
VALUE_VOLATILITY_PER_SQRT_DAY = 0.02

Positive = Annotated[float, Meta(gt=0.0)]
NotNegative = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Rate = Annotated[float, Meta(ge=0.0, le=1.0)]

_PLACE = re.compile(r"(?P<expected>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(?P<name>[^`]+)`")


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="shape"):
    pass


class ConstantReturns(_Shape, frozen=True, tag="constant"):
    """The same return rate at every price."""

    rate: Share  # 1 would sell nothing for good


class LogisticPrice(_Shape, frozen=True, tag="logistic_price"):
    """min + (max - min) / (1 + exp(-steepness (P - midpoint)))."""

    min: Rate
    max: Rate
    steepness: float  # per major unit of the currency
    midpoint_minor: float


class LogisticLogPrice(_Shape, frozen=True, tag="logistic_log_price"):
    """min + (max - min) / (1 + exp(-(intercept + slope ln(P / reference price))))."""

    min: Rate
    max: Rate
    intercept: float
    slope: float


_SALES_MODELS = ("lognormal", "exact_small_stock")
_SHAPES = ("constant", "logistic_price", "logistic_log_price")
ReturnRate = ConstantReturns | LogisticPrice | LogisticLogPrice


class WhatIfRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One pricing problem."""

    currency: str
    cost_minor: Positive
    reference_price_minor: Positive
    horizon_days: Positive
    demand_per_day: Positive  # units at the reference price
    elasticity: Annotated[float, Meta(lt=0.0, ge=-100.0)]
    return_rate: ReturnRate = ConstantReturns(rate=0.0)
    return_cost_minor: NotNegative = 0.0
    demand_volatility: NotNegative = 0.0
    stock: NotNegative | None = None  # units; null is unlimited
    holding_cost_minor_per_day: NotNegative = 0.0
    continuation_value_minor: NotNegative | None = None  # null is the unit cost
    risk_aversion: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.0
    vat_rate: NotNegative = 0.0
    fee_rate: Share = 0.0
    elasticity_sd: NotNegative = 0.0
    level_sd: NotNegative = 0.0
    return_rate_sd: NotNegative = 0.0
    target_leftover: Positive | None = None  # units; null is 14 days of demand, at least 1
    value_volatility_per_sqrt_day: NotNegative = VALUE_VOLATILITY_PER_SQRT_DAY
    sales_model: Literal["lognormal", "exact_small_stock"] = "lognormal"
    price_minor: Positive | None = None  # evaluate here; null is the best price
    lower_minor: Positive | None = None  # bounds of the search; null is far away
    upper_minor: Positive | None = None


def read_request(document: object) -> WhatIfRequest:
    """Check one problem and return it typed.

    Raises
    ------
    FieldError : which field, its value, and what was expected
    """
    try:
        request = msgspec.convert(document, WhatIfRequest)
    except msgspec.ValidationError as error:
        raise _invalid(document, str(error)) from None
    _require_finite("", msgspec.to_builtins(request))
    minor_digits(request.currency)
    returns = request.return_rate
    if not isinstance(returns, ConstantReturns) and returns.max < returns.min:
        raise _refuse("return_rate.max", returns.max, f"at least min, {returns.min}")
    lower, upper = request.lower_minor, request.upper_minor
    if lower is not None and upper is not None and lower >= upper:
        raise _refuse("upper_minor", upper, f"above lower_minor, {lower}")
    return request


def defaulted(document: dict[str, Any], request: WhatIfRequest) -> list[str]:
    """Return the fields that ``document`` left out, in the order of the request."""
    return [name for name in request.__struct_fields__ if name not in document]


def _require_finite(path: str, node: object) -> None:
    if isinstance(node, dict):
        for name, child in node.items():
            _require_finite(f"{path}.{name}" if path else str(name), child)
    elif isinstance(node, float) and not math.isfinite(node):
        raise _refuse(path, node, "a finite number")


def _invalid(document: object, text: str) -> FieldError:
    place = _PLACE.match(text)
    expected = place["expected"] if place else text
    path = (place["path"] if place else None) or ""
    named = _NAMED.match(expected)
    if named is None:
        return _refuse(path or "request", _value_at(document, path), _plain(expected))
    field = f"{path}.{named['name']}" if path else named["name"]
    if "missing" in named[1]:
        expected = "a value: the field has no default"
        return FieldError(
            "missing_field", f"{field} is missing.", field=field, expected=expected, fix="Add it."
        )
    known = "the fields of its shape" if path else ", ".join(WhatIfRequest.__struct_fields__)
    return _refuse(field, _value_at(document, field), f"no such field, only {known}")


def _plain(expected: str) -> str:
    if expected.startswith("Invalid enum value"):
        return f"one of {', '.join(_SALES_MODELS)}"
    if expected.startswith("Invalid value"):
        return f"one of {', '.join(_SHAPES)}"
    if expected == "Number out of range":
        return "a number below 1e308"
    words = expected.removeprefix("Expected ").replace("`", "").replace("float", "a number")
    return words.replace("-0.0", "0.0")


def _value_at(document: object, path: str) -> object:
    node = document
    for step in path.split(".") if path else []:
        if not isinstance(node, dict) or step not in node:
            return None
        node = node[step]
    return node


def _refuse(field: str, value: object, expected: str) -> FieldError:
    return FieldError(
        "invalid_field",
        f"{field} was {repr(value)[:VALUE_CHARACTERS_MAX]}; expected {expected}.",
        field=field,
        value=value,
        expected=expected,
    )
