"""The machine-readable contract: JSON Schemas of all messages and an AsyncAPI 3.0 document.

Everything here is made from the types and the topic table, so it can't say anything else than the
code does. Checks that need two fields at once (a time after another, a price that is listed) are
not expressible and stand in the descriptions.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from schemas.errors import EngineError
from schemas.events import SOURCE_TYPES, EngineChanged, Event
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from schemas.tape import TapeRecord
from schemas.topics import (
    ALERTS,
    CONTROLS,
    DEAD_LETTER,
    DISCOUNTS,
    PRICES,
    PRICES_LATEST,
    ROUTES,
    SOURCES,
    STATE,
    TAPE,
    TOPICS,
    Topic,
)

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "3.0.0"
KAFKA_BINDING = "0.5.0"

Document = dict[str, Any]

SOURCE_EVENTS: dict[str, type[Event]] = {
    str(kind.__struct_config__.tag): kind for kinds in SOURCE_TYPES.values() for kind in kinds
}
MESSAGE_TYPES: dict[str, type[msgspec.Struct]] = {
    **SOURCE_EVENTS,
    "engine_changed": EngineChanged,
    "price_decided": PriceDecided,
    "discount_offered": DiscountOffered,
    "alert": Alert,
    "tape_record": TapeRecord,
}

# The unit of a number whose type doesn't say it: by the longest ending of its name, or its name.
UNITS = {
    "_minor": "money, in minor units of the currency",
    "_per_day_minor": "money per day, in minor units of the currency",
    "_sd_minor": "standard deviation of money, in minor units of the currency",
    "_ms": "milliseconds",
    "_days": "days",
    "_units": "units of the product",
    "_per_day": "units of the product per day, at the reference price",
    "_rate": "share, 0 to 1",
    "_share": "share, 0 to 1",
    "_pct": "percent of the price",
    "gap_ratio": "share of the joint profit",
    "confidence": "0 to 1",
    "match_confidence": "0 to 1",
    "depth": "share of the price, 0 to 1",
    "version": "1, 2, 3 and so on for each SKU, without a gap",
    "partition": "partition number, from 0",
    "offset": "offset in the partition, from 0",
    "attribute_distance": "in typical distances of the products trained on, no unit",
    "exogenous_log": "natural logarithm of the price ratio",
    "probability_inelastic": "probability, 0 to 1",
    "elasticity": "d ln(units) / d ln(price), no unit",
    "own_elasticity": "d ln(units) / d ln(price), no unit",
    "elasticity_low": "d ln(units) / d ln(price), no unit",
    "elasticity_high": "d ln(units) / d ln(price), no unit",
    "coefficient": "of the effect on the log of demand, no unit",
    "coefficient_sd": "standard deviation of the coefficient, no unit",
    "log_demand": "natural logarithm of a factor on demand",
    "elasticity_sd": "standard deviation of the elasticity, no unit",
    "elasticity_beside_average": "the segment's elasticity less the average of all, no unit",
    "elasticity_beside_average_sd": "standard deviation of that difference, no unit",
    "return_rate_of_all": "share, 0 to 1",
    "rate": "share of units sold, 0 to 1",
    "rate_sd": "standard deviation of the return rate, 0 to 1",
    "logit_slope": "d logit(return rate) / d ln(price), no unit",
    "logit_slope_sd": "standard deviation of the slope, no unit",
    "slope_positive_probability": "probability, 0 to 1",
    "up_probability": "probability, 0 to 1",
    "slope_log_price": "d logit(return rate) / d ln(price), no unit",
    "shadow_price": "d profit / d price at the bound, units of the product",
    "delta": "d Pi / d price, units of the product",
    "gamma": "d2 Pi / d price2, units per minor unit",
    "vega": "d Pi / d demand volatility, minor units",
    "rho": "d Pi / d stock, minor units per unit",
    "vanna": "d2 Pi / d price d demand volatility, units",
    "theta": "-d Pi / d horizon, minor units per day that passes",
    "vega_elasticity": "d Pi / d sd(elasticity), minor units",
    "vega_return": "d Pi / d sd(return rate), minor units",
    "elasticity_slope": "d Pi / d elasticity, minor units",
    "level_slope": "d Pi / d log level of demand, minor units",
    "cost_slope": "d Pi / d unit cost, units",
    "handling_slope": "d Pi / d cost of handling a return, units",
    "return_slope": "d Pi / d logit of the return rate, minor units",
    "rival_slope": "d Pi / d log price of the rival, minor units",
    "price_stock": "d2 Pi / d price d stock, no unit",
    "units_per_order": "units of the product per order line",
    "visits_per_day": "visits per day",
    "dispersion": "relative variance beyond Poisson, no unit",
    "level_up": "evidence, nats",
    "level_down": "evidence, nats",
    "less_elastic": "evidence, nats",
    "more_elastic": "evidence, nats",
    "alarm_nats": "evidence, nats",
    "orders": "count",
    "toxicity": "share of the units sold, likely returns",
    "toxicity_orders": "count",
    "toxicity_before": "share of the units sold, likely returns",
    "toxicity_before_orders": "count",
    "epochs": "count",
    "rivals_used": "count",
    "rivals_seen": "count",
    "visits": "count",
    "impressions": "count",
    "searches": "count",
}
KEY = {"type": "string", "description": "SKU in UTF-8; null where a message has none"}
TIME_NAMES = ("_at", "effective_from", "valid_until")
TIME = {"format": "date-time", "description": "RFC 3339, UTC, milliseconds"}

CLOUDEVENTS_HEADERS = {
    "ce_id": "stands in for event_id",
    "ce_type": "stands in for type",
    "ce_time": "stands in for event_time",
    "ce_source": "accepted, not used",
}
DEAD_LETTER_HEADERS = {
    "dl_id": "topic-partition-offset of the original; a repeat is the same letter",
    "dl_topic": "source topic, without prefix",
    "dl_partition": "partition of the original",
    "dl_offset": "offset of the original",
    "dl_timestamp_ms": "timestamp of the original, milliseconds since 1970",
    "dl_stage": "intake or fold",
    "dl_error": "code of the error",
    "dl_message": "what was wrong",
    "dl_field": "which field",
    "dl_value": "its value, first 200 characters",
    "dl_expected": "what was expected",
    "dl_attempts": "how often it was tried",
    "dl_application": "who refused it",
    "dl_version": "which version of it",
    "dl_failed_at": "when, RFC 3339",
}


def documents() -> dict[str, Document]:
    """All generated documents by file name, such as ``order_placed.json``."""
    made = {f"{name}.json": json_schema(name) for name in MESSAGE_TYPES}
    return {**made, "asyncapi.json": asyncapi()}


def json_schema(name: str) -> Document:
    """The JSON Schema (2020-12) of one message, complete in itself."""
    kind = MESSAGE_TYPES[name]
    components = _components([kind], "#/$defs/{name}")
    top = components.pop(kind.__name__)
    head = {"$schema": JSON_SCHEMA, "$id": f"urn:pricemaker:{name}:1", **top, "title": name}
    return {**head, "$defs": components} if components else head


def asyncapi() -> Document:
    """The AsyncAPI document: a channel per topic, what is sent and received there, the types."""
    schemas = _components(MESSAGE_TYPES.values(), "#/components/schemas/{name}")
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Pricemaker",
            "version": "1",
            "description": "Prices an online shop the way a market maker quotes a market.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": dict(_operations()),
        "components": {"messages": _messages(), "schemas": schemas},
    }


def _components(kinds: Iterable[type], template: str) -> dict[str, Document]:
    _, found = msgspec.json.schema_components(list(kinds), ref_template=template)
    components: dict[str, Document] = msgspec.json.decode(msgspec.json.encode(found))
    for component in components.values():
        _describe(component)
    return components


def _describe(component: Document) -> None:
    """Tidy one struct's schema in place and see that each number has its unit."""
    if "description" in component:
        component["description"] = inspect.cleandoc(component["description"]).replace("``", "`")
    for name, schema in component.get("properties", {}).items():
        schema.pop("discriminator", None)  # OpenAPI's, not JSON Schema's
        branches = schema.get("anyOf", [schema])
        described = "description" in schema or any("description" in part for part in branches)
        kinds = [part.get("type") for part in branches]
        if "string" in kinds and name.endswith(TIME_NAMES) and not described:
            branches[kinds.index("string")].update(TIME)
        elif {"number", "integer"} & set(kinds) and not described:
            schema["description"] = _unit(name)


def _unit(name: str) -> str:
    endings = [ending for ending in UNITS if ending.startswith("_") and name.endswith(ending)]
    found = UNITS.get(name) or UNITS.get(max(endings, key=len, default=""))
    if found is None:
        raise EngineError(
            "unit_missing",
            f"the number {name} has no unit.",
            field=name,
            fix="Describe it in its type, or in schemas.documents.UNITS.",
        )
    return found


def _messages_of(topic: Topic) -> list[str]:
    """The names of the messages on a topic."""
    inner = {
        TAPE: ["tape_record"],
        ROUTES: ["route"],
        STATE: ["state_record"],
        PRICES: ["price_decided"],
        PRICES_LATEST: ["price_decided"],
        DISCOUNTS: ["discount_offered"],
        ALERTS: ["alert"],
        DEAD_LETTER: ["dead_letter"],
    }
    if topic in SOURCES:
        return [str(kind.__struct_config__.tag) for kind in SOURCE_TYPES[topic.name]]
    return inner[topic]


def _channel(topic: Topic) -> Document:
    configuration: Document = {
        "cleanup.policy": [topic.cleanup_policy],
        "retention.ms": topic.retention_ms,
        "max.message.bytes": topic.max_message_bytes,
    }
    kafka: Document = {"topicConfiguration": configuration, "bindingVersion": KAFKA_BINDING}
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    names = _messages_of(topic)
    return {
        "address": topic.name,
        "description": f"{topic.about}. Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": kafka},
    }


def _operations() -> Iterator[tuple[str, Document]]:
    """What Pricemaker does with each topic.

    It receives sources, sends results, does both with what it keeps for itself and with dead
    letters (an operator redrives them), and sends proposed clock ticks to ``controls``.
    """
    both = (CONTROLS, TAPE, ROUTES, STATE, DEAD_LETTER)
    for topic in TOPICS:
        actions = ["receive"] if topic in SOURCES or topic in both else []
        actions += ["send"] if topic not in SOURCES or topic in both else []
        for action in actions:
            operation: Document = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
            }
            if (action, topic) == ("send", CONTROLS):
                tick = f"#/channels/{topic.name}/messages/clock_ticked"
                operation["messages"] = [{"$ref": tick}]
            yield f"{action}_{topic.name.replace('-', '_')}", operation


def _messages() -> dict[str, Document]:
    made = {}
    for name, kind in MESSAGE_TYPES.items():
        summary = (inspect.getdoc(kind) or name).splitlines()[0].replace("``", "`")
        payload = {"$ref": f"#/components/schemas/{kind.__name__}"}
        made[name] = _message(name, summary, payload)
        if name in SOURCE_EVENTS:
            made[name]["headers"] = _string_headers(CLOUDEVENTS_HEADERS)
    route = {
        "type": "object",
        "properties": {
            "sku": {"type": "string"},
            "family": {"type": "string"},
            "partition": {"type": "integer", "minimum": 0, "description": "of the tape"},
        },
        "required": ["sku", "family", "partition"],
    }
    made["route"] = _message("route", "A SKU's family and tape partition.", route)
    about = "A record of the pricer's state. Internal: it may change with any version."
    made["state_record"] = _message("state_record", about, {"type": "object"})
    about = "An event that could not be accepted: key, value and timestamp as they were."
    made["dead_letter"] = _message("dead_letter", about, {})
    made["dead_letter"]["headers"] = _string_headers(DEAD_LETTER_HEADERS)
    return made


def _message(name: str, summary: str, payload: Document) -> Document:
    return {
        "name": name,
        "summary": summary,
        "payload": payload,
        "bindings": {"kafka": {"key": KEY, "bindingVersion": KAFKA_BINDING}},
    }


def _string_headers(names: dict[str, str]) -> Document:
    properties = {name: {"type": "string", "description": text} for name, text in names.items()}
    return {"type": "object", "properties": properties}
