"""Shops by name, and the effects that can be switched on in them, each by its name.

``shop`` is a small mixed catalogue with rivals, families and successors; ``reference`` has the
products of the reference world, one rival each, and none of the effects below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from models.simulator.simulator_truth import WORLD, ShopSettings
from models.simulator.world_truth import WorldSettings
from schemas.errors import ConfigError

Preset = Literal["shop", "reference"]

NEWSLETTER = ("web", "app", "marketplace", "newsletter")
NEWSLETTER_SHARES = (0.5, 0.3, 0.1, 0.1)
# Each effect: what it changes in the shop's settings, and in its world's.
EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "break": ({}, {"break_day": 120, "break_elasticity": -0.6, "break_level": 0.2}),
    "channels": (
        {"channels": NEWSLETTER, "channel_shares": NEWSLETTER_SHARES},
        {"channel_shares": NEWSLETTER_SHARES, "channel_elasticity": (0.0, 0.0, 0.0, 2.0)},
    ),
    "dearer": ({}, {"dearer_penalty": 1.5}),
    "drift": ({}, {"drift_sd_per_day": 0.02}),
    "families": (
        {"family_share": 0.6},
        {
            "family_size": 6,
            "anchor_effect": 0.4,
            "substitute_effect": 0.3,
            "complement_effect": 0.2,
        },
    ),
    "holidays": ({}, {"calendar_sd": 0.3}),
    "late-category": ({}, {"late_category_day": 60}),
    "memory": ({}, {"memory_effect": 0.5}),
    "promotions": ({"promotion_rate": 0.01}, {}),
    "returns": (
        {},
        {"return_season_sd": 0.3, "new_customer_share": 0.4, "new_customer_logit": 0.5},
    ),
    "searches": ({}, {"searches_per_order": 5.0, "search_effect": 0.25}),
    "season": ({}, {"season_sd": 0.25}),
    "successors": ({"late_share": 0.2}, {"successor_share": 0.1}),
}


def shop_settings(
    preset: Preset,
    effects: Sequence[str] = (),
    *,
    calendar: Mapping[str, Sequence[str]] | None = None,
    **more: Any,
) -> ShopSettings:
    """Settings of a named shop with the named effects.

    Parameters
    ----------
    effects : of :data:`EFFECTS`
    calendar : kinds of the days by date, for the effect ``holidays``
    more : further settings of the shop

    Raises
    ------
    ConfigError : an unknown effect, or holidays without a calendar
    """
    world = WorldSettings() if preset == "reference" else WORLD
    chosen: dict[str, Any] = {"preset": preset}
    if preset == "reference":
        chosen |= {"rival_move_rate": 1.0, "rival_noise_sd": world.rival_noise_sd}
        chosen |= {"cost_change_rate": 0.0}
    for name in effects:
        if name not in EFFECTS:
            raise ConfigError(
                "unknown_effect",
                f"there is no effect {name}.",
                field="effects",
                value=name,
                expected=", ".join(EFFECTS),
            )
        of_shop, of_world = EFFECTS[name]
        chosen |= of_shop
        world = replace(world, **of_world)
    if "holidays" in effects:
        if calendar is None:
            raise ConfigError(
                "no_calendar", "holidays need a calendar.", field="calendar", value="none",
                expected="kinds of days by date",
            )  # fmt: skip
        world = replace(world, calendar=calendar)
    return ShopSettings(**{**chosen, **more, "world": world})
