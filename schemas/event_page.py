"""docs/events.md: every event type with its fields, their meaning and limits, and an example.

Made from the JSON Schemas, so it can't say anything else than the types do; only what a field
means, and the examples, stand here.
"""

import hashlib
import json
from typing import Any

from schemas.documents import json_schema
from schemas.events import SOURCE_TYPES
from schemas.topics import EVENT_BYTES_MAX, SOURCES

HEAD = f"""# Events

What other systems write, topic by topic. Made from the types by `schemas/event_page.py`; a test
keeps it current. The same as JSON Schema and AsyncAPI: `schemas/generated/`.

- A record's value is one JSON object in UTF-8, at most {EVENT_BYTES_MAX // 1024} KiB and nested at
  most 64 deep. Its key is the SKU (none on `controls`). Unknown fields are ignored; a wrong one
  makes the whole event a dead letter, with the field, its value and what was expected.
- Money is an integer number of minor units of `currency` (1999 is 19.99 EUR, 1,999 JPY or 1.999
  KWD). A missing value is unknown, never zero.
- Times are RFC 3339 with a UTC offset, read to the millisecond. An `event_time` more than 5 minutes
  ahead of intake's clock is refused.
- CloudEvents binary headers `ce_id`, `ce_type` and `ce_time` may stand in for `event_id`, `type`
  and `event_time`; where both are there they must agree.
- An event type never changes its meaning; what is incompatible becomes a new type. Past versions
  stay readable for ever (`tests/schemas/golden`).
"""
COMMON = ("type", "event_id", "event_time", "sku", "currency")
COMMON_TEXT = """
Every event has `type`, `event_id` (1 to 128 characters, unique per source: a repeat is found by
it) and `event_time`; every event about a product also `sku` (1 to 128 characters), and with money
`currency` (ISO 4217). They are left out of the tables below. Of a field that is not required the
table names what holds without it.
"""

MEANINGS = {  # by type and field where a field's name has two meanings, else by field
    "handed_over": "what was learned of the product under its old SKU (`pricemaker family apply`)",
    "order_id": "the order; with `line_id` unique per source",
    "line_id": "the line of the order",
    "quantity": "units of this line; of a part taken or sent back, the units of that part",
    "unit_price_minor": "price of one unit as shown to the buyer, VAT included",
    "segment": "group of customers, never a person",
    "channel": "where it was sold",
    "refund_minor": "money paid back for all units of this event",
    "return_cost_minor": "what handling this return cost the shop",
    "return_handling_cost_minor": "what handling one returned unit costs; null: unknown",
    "order_returned.reason": "why it came back",
    "inventory_changed.reason": "what changed the stock",
    "product_retired.reason": "why it goes",
    "operator_command.reason": "why, in words, for the record",
    "breaker_tripped.reason": "what was found, with its numbers",
    "evidence": "the counts behind it",
    "competitor": "which rival",
    "competitor_price_observed.price_minor": "the rival's shown price; null with `listed: false`",
    "price_applied.price_minor": "the price shown from `event_time` on",
    "listed": "whether the rival offers the product",
    "in_stock": "whether the rival can deliver it",
    "promotion": "whether the rival calls it a reduction",
    "match_confidence": "how sure it is that this is the same product, 0 to 1",
    "on_hand": "units that can be sold now, after the change",
    "inbound": "units on their way",
    "inbound_eta": "when they should arrive",
    "from_time": "begin, included",
    "to_time": "end, excluded; after `from_time`",
    "visits": "views of the product's page",
    "impressions": "times it was shown in a list",
    "searches": "searches that found it",
    "category": "the shelf it stands on; products of a category share what is learned",
    "attributes": "properties; numeric ones help to price a product without history",
    "family": "products that sell or eat each other and are priced together; fixed by the first "
    "listing; null: its own",
    "predecessor": "SKU in the same family that it follows",
    "succession": "`replaces`: it hands on what was learned; `demotes`: it stays, in a cheaper "
    "segment",
    "anchors": "SKUs in the same family that it is sold with",
    "unit_cost_minor": "cost of one unit; null: unknown, and the product is not priced",
    "list_price_minor": "the price without any reduction; null: none",
    "minimum_resale_price_minor": "lowest advertised price by market, where it is lawful",
    "vat_rate": "VAT inside the shown price, as a share of the price before it (0.19)",
    "fee_rate": "what marketplace and payment keep, share of the price before VAT",
    "role": "what the product does for the basket",
    "season": "when it sells",
    "exit_date": "until when it must be sold",
    "assumptions": "what its source assumed for want of a measurement, for the record",
    "price_id": "the decision it follows; null: none of ours",
    "policy": "the policy's TOML text",
    "policy_sha256": "SHA-256 of that text, hexadecimal",
    "prior": "the demand prior",
    "prior_sha256": "its content hash",
    "calendar": "named days and their kinds",
    "calendar_sha256": "its content hash",
    "skus": "the products it is about",
    "kind": "what sort of promotion",
    "announced": "whether it is advertised as a reduction",
    "depth": "reduction, share of the price",
    "command": "what to do",
    "actor": "who commands",
    "scope": "what it is about: `kind` is `sku` or `family` with a `name`, or `catalogue`",
    "expires_at": "when it ends by itself; null: never",
}

_AT = "2026-03-01T09:30:00.250Z"
_SHIRT = {"sku": "SHIRT-M", "currency": "EUR"}
_LINE = {"order_id": "O-1042", "line_id": "1"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "order_placed": {**_SHIRT, **_LINE, "quantity": 2, "unit_price_minor": 1999, "channel": "app"},
    "order_cancelled": {"sku": "SHIRT-M", **_LINE, "quantity": 2},
    "order_returned": {**_SHIRT, **_LINE, "quantity": 1, "refund_minor": 1999, "reason": "size"},
    "competitor_price_observed": {**_SHIRT, "competitor": "rival-a", "price_minor": 1899},
    "inventory_changed": {"sku": "SHIRT-M", "on_hand": 12, "inbound": 40, "reason": "counted"},
    "traffic_counted": {
        "sku": "SHIRT-M",
        "from_time": "2026-03-01T08:30:00.000Z",
        "to_time": "2026-03-01T09:30:00.000Z",
        "visits": 310,
    },
    "product_listed": {
        **_SHIRT,
        "category": "shirts",
        "attributes": {"weight_kg": 0.3, "colour": "blue"},
        "unit_cost_minor": 800,
        "return_handling_cost_minor": 420,
        "list_price_minor": 1999,
        "vat_rate": 0.19,
        "fee_rate": 0.02,
    },
    "cost_changed": {**_SHIRT, "unit_cost_minor": 845},
    "product_retired": {"sku": "SHIRT-M", "reason": "replaced"},
    "price_applied": {**_SHIRT, "price_minor": 1949, "price_id": "0-1042-SHIRT-M"},
    "policy_published": {
        "policy": "[margin]\nfloor_ratio = 0.1\n",
        "policy_sha256": hashlib.sha256(b"[margin]\nfloor_ratio = 0.1\n").hexdigest(),
    },
    "prior_published": {"prior": {"mean": [0.0, -2.6]}, "prior_sha256": "5e" * 32},
    "calendar_published": {
        "calendar": {"2026-11-27": "black_friday"},
        "calendar_sha256": "2d" * 32,
    },
    "promotion_scheduled": {
        "skus": ["SHIRT-M", "SHIRT-L"],
        "from_time": "2026-03-07T00:00:00.000Z",
        "to_time": "2026-03-09T00:00:00.000Z",
        "kind": "weekend",
        "announced": True,
        "depth": 0.15,
    },
    "operator_command": {
        "command": "breaker_trip",
        "actor": "kim",
        "reason": "wrong cost from the supplier",
        "scope": {"kind": "sku", "name": "SHIRT-M"},
    },
    "breaker_tripped": {
        "scope": {"kind": "catalogue"},
        "reason": "31 unrelated products moved to one price, 999 minor units of EUR, beyond 25",
        "evidence": {"moved": 31, "products": 800},
    },
    "clock_ticked": {},
}


def example(kind: str) -> dict[str, Any]:
    """A whole event of a type."""
    return {"type": kind, "event_id": f"{kind}-7", "event_time": _AT, **EXAMPLES[kind]}


def event_page() -> str:
    """The text of ``docs/events.md``."""
    parts = [HEAD.strip(), COMMON_TEXT.strip()]
    for topic in SOURCES:
        parts.append(f"## {topic.name}\n\nKey: {topic.key}. {topic.about.capitalize()}.")
        parts += [_section(str(kind.__struct_config__.tag)) for kind in SOURCE_TYPES[topic.name]]
    return "\n\n".join(parts) + "\n"


def _section(kind: str) -> str:
    schema = json_schema(kind)
    fields = {name: field for name, field in schema["properties"].items() if name not in COMMON}
    parts = [f"### {kind}", str(schema["description"])]
    if fields:
        rows = ["| field | type and limits | meaning | without it |", "|---|---|---|---|"]
        for name, field in fields.items():
            required = name in schema["required"]
            default = f"`{json.dumps(field['default'])}`" if "default" in field else "left out"
            absent = "required" if required else default
            meaning = MEANINGS.get(f"{kind}.{name}") or MEANINGS[name]
            rows.append(f"| `{name}` | {_limits(field)} | {meaning} | {absent} |")
        parts.append("\n".join(rows))
    parts.append(f"```json\n{json.dumps(example(kind), indent=2)}\n```")
    return "\n\n".join(parts)


def _limits(field: dict[str, Any]) -> str:
    """A field's type and limits in words, from its JSON Schema."""
    if "anyOf" in field:
        return " or ".join(_limits(branch) for branch in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "object"
    kind = field["type"]
    if kind == "string":
        return _text_limits(field)
    if kind in ("integer", "number"):
        return f"{kind}{_range(field)}"
    if kind == "array":
        return f"array of {_limits(field['items'])}"
    if kind == "object":
        values = field.get("additionalProperties", True)
        return f"object of {_limits(values)}" if isinstance(values, dict) and values else "object"
    return str(kind)


def _text_limits(field: dict[str, Any]) -> str:
    if field.get("format") == "date-time":
        return "time"
    if "pattern" in field:
        return f"text, `{field['pattern']}`"
    if "maxLength" in field:
        return f"text, {field.get('minLength', 0)} to {field['maxLength']} characters"
    return "text"


def _range(field: dict[str, Any]) -> str:
    low = f"{field['minimum']:,g}" if "minimum" in field else None
    high = f"{field['maximum']:,}" if "maximum" in field else None
    if "exclusiveMaximum" in field:
        high = f"below {field['exclusiveMaximum']:,g}"
    if low is None and high is None:
        return ""
    return f", {low} to {high}"
