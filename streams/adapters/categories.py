"""A category from a product's description: the first word of a table that it holds, in order.

The data has no categories; its descriptions are short capital phrases, most of which name the
thing. The table goes from the specific to the general, so that a Christmas card is for Christmas.
"""

import re

UNKNOWN = "online-retail"
WORDS = {
    "christmas": ("CHRISTMAS", "XMAS", "ADVENT", "SANTA", "REINDEER", "SNOWFLAKE"),
    "bags": ("BAG", "BAGS", "SHOPPER", "PURSE", "SUITCASE", "RUCKSACK", "BACKPACK"),
    "jewellery": ("NECKLACE", "BRACELET", "EARRINGS", "RING", "BROOCH", "BANGLE", "HAIRCLIP"),
    "candles": ("CANDLE", "CANDLES", "LIGHT", "LIGHTS", "T-LIGHT", "LANTERN", "CANDLESTICK"),
    "cards-and-wrap": ("CARD", "CARDS", "WRAP", "RIBBON", "RIBBONS", "GIFT", "TISSUE", "NAPKINS"),
    "stationery": ("PENCIL", "PENCILS", "PEN", "NOTEBOOK", "JOURNAL", "STICKERS", "CHALK", "TAPE"),
    "kitchen": ("CAKE", "CAKESTAND", "JAM", "BAKING", "APRON", "OVEN", "KITCHEN", "LUNCH", "SPOON"),
    "tableware": (
        "MUG",
        "CUP",
        "TEACUP",
        "TEA",
        "PLATE",
        "BOWL",
        "GLASS",
        "JUG",
        "TRAY",
        "CUTLERY",
    ),
    "storage": ("BOX", "BOXES", "TIN", "TINS", "DRAWER", "BASKET", "CABINET", "JAR", "HOLDER"),
    "signs-and-clocks": ("SIGN", "CLOCK", "FRAME", "MIRROR", "PLAQUE", "BLACKBOARD", "ART"),
    "textiles": ("CUSHION", "TOWEL", "THROW", "RUG", "CURTAIN", "DOORMAT", "BOTTLE", "WARMER"),
    "toys": ("TOY", "DOLL", "GAME", "PUZZLE", "CHILDRENS", "BALLOONS", "PLAYHOUSE", "SKITTLES"),
    "garden": ("GARDEN", "PLANT", "FLOWER", "BIRD", "HERB", "WATERING", "PARASOL"),
    "party": ("PARTY", "BUNTING", "GARLAND", "PAPER", "DECORATION", "HEART", "HEARTS"),
}
_CATEGORY = {word: category for category, words in WORDS.items() for word in words}
_ORDER = {category: place for place, category in enumerate(WORDS)}
_WORD = re.compile(r"[A-Z][A-Z-]*")


def category_of(description: str | None) -> str:
    """The category: ``category_of("JUMBO BAG RED RETROSPOT")`` is ``"bags"``."""
    words = _WORD.findall((description or "").upper())
    found = [_CATEGORY[word] for word in words if word in _CATEGORY]
    return min(found, key=_ORDER.__getitem__, default=UNKNOWN)
