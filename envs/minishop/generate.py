"""A generated catalogue: product n and goal i are pure functions of their numbers.

Products come in families of four that share kind, maker and name: the model itself, one that lacks an
attribute, one that lacks some of the options, and one that costs more. A shopper who buys the first of them
that a search shows is wrong as often as not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import capwords
from typing import Any, NamedTuple, TypeVar

from prosegym.envs.webshop.catalogue import Goal, Product, frozen_limit, goal_of

GENERATOR = 1
"""Version of everything that this module makes; whatever changes a product or a goal raises it."""

FAMILY = 4
"""Products in a family."""

SPLITS = {"train": range(2, 10), "valid": range(1, 2), "test": range(0, 1)}
"""Families of each split, by their number modulo 10: no product is asked for in two splits."""

T = TypeVar("T")


class Kind(NamedTuple):
    """A kind of product."""

    category: str
    query: str
    path: str
    nouns: tuple[str, ...]
    options: tuple[str, ...]
    """Which of `VALUES` it has."""
    attributes: tuple[str, ...]
    cheapest: float
    """In dollars; the dearest is about four times that."""


VALUES = {
    "color": (
        "black", "white", "navy blue", "dark green", "charcoal", "wine red", "beige", "olive", "silver",
        "light pink", "teal", "mustard yellow", "lavender", "coral", "espresso", "turquoise", "ivory", "rust",
    ),
    "size": ("x-small", "small", "medium", "large", "x-large", "xx-large", "3x-large"),
    "shoe size": ("5", "5.5", "6", "6.5", "7", "7.5", "8", "8.5", "9", "9.5", "10", "10.5", "11", "12"),
    "pack": ("pack of 1", "pack of 2", "pack of 4", "pack of 6", "pack of 12"),
    "flavor": (
        "sea salt", "honey mustard", "dark chocolate", "vanilla bean", "smoked paprika", "maple pecan",
        "lemon zest", "coconut curry", "ginger lime", "roasted garlic", "salted caramel", "wild berry",
    ),
    "scent": ("rose water", "cedarwood", "citrus peel", "unscented", "green tea", "vanilla", "eucalyptus"),
    "volume": ("30 ml", "50 ml", "120 ml", "250 ml", "500 ml"),
    "dimensions": ("12 x 12 inch", "16 x 16 inch", "18 x 18 inch", "20 x 30 inch", "24 x 36 inch"),
    "bed size": ("twin", "full", "queen", "king", "california king"),
    "cable length": ("3 ft", "6 ft", "10 ft", "15 ft", "25 ft"),
    "capacity": ("32 gb", "64 gb", "128 gb", "256 gb", "512 gb"),
    "material": ("oak", "walnut", "bamboo", "stainless steel", "linen", "velvet", "cotton canvas"),
}  # fmt: skip
"""Values of each option."""

_CLOTHING = (
    "machine washable", "long sleeve", "elastic waist", "quick drying", "regular fit", "slim fit",
    "moisture wicking", "button closure", "drawstring closure", "soft material", "everyday wear", "hand wash",
)  # fmt: skip
_SHOES = (
    "rubber sole", "non slip", "arch support", "memory foam", "ankle strap", "leather sole", "open toe",
    "water resistant", "ethylene vinyl", "lace up",
)  # fmt: skip
_BEAUTY = (
    "cruelty free", "paraben free", "sulfate free", "sensitive skin", "long lasting", "tea tree", "dry skin",
    "alcohol free", "fine lines", "dead skin", "hyaluronic acid", "damaged hair",
)  # fmt: skip
_FOOD = (
    "gluten free", "non gmo", "low sodium", "dairy free", "high protein", "keto friendly", "sugar free",
    "plant based", "individually wrapped", "artificial colors", "ready eat", "nut free",
)  # fmt: skip
_HOME = (
    "easy assemble", "machine washable", "easy clean", "living room", "space saving", "solid wood",
    "eco friendly", "fade resistant", "heavy duty", "super soft", "wall mounted", "double sided",
)  # fmt: skip
_TECH = (
    "fast charging", "noise cancelling", "high speed", "gold plated", "plug play", "wireless bluetooth",
    "hands free", "dust proof", "easy install", "high definition", "carrying case", "long battery",
)  # fmt: skip


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


KINDS = tuple(
    Kind(category, query, " \u203a ".join(path.split("/")), _parts(nouns), _parts(options), attributes, price)
    for category, attributes, rows in (
        ("fashion", _CLOTHING, (
        ("men's shirts", "Clothing/Men/Shirts", "shirt, henley, button shirt", "color, size", 14.0),
        ("women's dresses", "Clothing/Women/Dresses", "dress, sundress, wrap dress", "color, size", 18.0),
        ("women's sweaters", "Clothing/Women/Sweaters", "sweater, cardigan, pullover", "color, size", 19.0),
        ("men's shorts", "Clothing/Men/Shorts", "shorts, cargo shorts, gym shorts", "color, size", 11.0),
        ("men's jackets", "Clothing/Men/Jackets", "jacket, parka, windbreaker", "color, size", 28.0),
        )),
        ("shoes", _SHOES, (
        ("women's sandals", "Shoes/Women/Sandals", "sandal, slide, wedge sandal", "color, shoe size", 15.0),
        ("men's loafers", "Shoes/Men/Loafers", "loafer, moccasin, slip-on", "color, shoe size", 24.0),
        ("running shoes", "Shoes/Unisex/Running", "running shoe, trainer, sneaker", "color, shoe size", 27.0),
        )),
        ("beauty", _BEAUTY, (
        ("face moisturizers", "Beauty/Skin Care/Moisturizers", "face cream, lotion", "scent, volume", 7.0),
        ("shampoos", "Beauty/Hair Care/Shampoos", "shampoo, hair wash, cleanser", "scent, volume", 6.0),
        ("hair masks", "Beauty/Hair Care/Masks", "hair mask, conditioner", "scent, volume", 8.0),
        ("nail polish", "Beauty/Nails/Polish", "nail polish, lacquer, top coat", "color, pack", 4.0),
        )),
        ("grocery", _FOOD, (
        ("protein bars", "Grocery/Snacks/Bars", "protein bar, snack bar, oat bar", "flavor, pack", 9.0),
        ("crackers", "Grocery/Snacks/Crackers", "cracker, crispbread, rice thin", "flavor, pack", 5.0),
        ("nut butters", "Grocery/Spreads/Nut Butters", "almond butter, nut spread", "flavor, pack", 8.0),
        ("popcorn", "Grocery/Snacks/Popcorn", "popcorn, kettle corn, popped corn", "flavor, pack", 6.0),
        )),
        ("garden", _HOME, (
        ("throw pillows", "Home/Bedding/Pillows", "cushion, throw pillow", "color, dimensions", 8.0),
        ("duvet covers", "Home/Bedding/Duvets", "duvet cover, bedspread", "color, bed size", 29.0),
        ("wall art", "Home/Decor/Wall Art", "canvas print, framed poster", "dimensions, material", 16.0),
        ("side tables", "Home/Furniture/Tables", "end table, nightstand", "color, material", 42.0),
        ("storage ottomans", "Home/Furniture/Ottomans", "ottoman, bench, footstool", "color, material", 38.0),
        )),
        ("electronics", _TECH, (
        ("headphones", "Electronics/Audio/Headphones", "headphone, earbud", "color, cable length", 17.0),
        ("charging cables", "Electronics/Parts/Cables", "charger cord", "color, cable length", 5.0),
        ("memory cards", "Electronics/Storage/Cards", "memory card, flash drive", "capacity, pack", 12.0),
        ("phone cases", "Electronics/Parts/Cases", "phone case, wallet case", "color, material", 8.0),
        )),
    )
    for query, path, nouns, options, price in rows
)  # fmt: skip
"""Every kind of product."""

_STARTS = "bal cor del fen gal hol jor kel lum mar nor oro pel quil ros sel tor ula ver wil yar zen".split()
_ENDS = "a ano by da dex ella era ford ica ix la lo mont na nova on ria so tek ton ura vo wood".split()
_LINES = (
    "Classic Meadow Harbor Summit Aurora Juniper Metro Coastal Willow Ember Prairie Nimbus Alder Canyon "
    "Heritage Horizon Lagoon Maple Orchard Pebble Quarry Ridge Sierra Tundra Vista"
).split()
_PRAISE = (
    "made for people who use it every day",
    "a thoughtful present for family and friends",
    "designed by a small team that answers every letter",
    "tested for a year before it went on sale",
    "packed without any plastic",
    "backed by a two year promise",
    "simple to look after and hard to wear out",
    "at home in town and in the country",
)


def product(number: int) -> Product:
    """Product `number`, from 0; it does not depend on how many there are."""
    family, place = divmod(number, FAMILY)
    shared = _draws("family", family)
    kind = KINDS[kind_number(number)]
    maker = (_pick(shared, _STARTS) + _pick(shared, _STARTS) + _pick(shared, _ENDS)).capitalize()
    line, noun = _pick(shared, _LINES), _pick(shared, kind.nouns)
    attributes = _some(shared, kind.attributes, 5)
    told, spare = attributes[:4], attributes[4]
    offered = {name: _in_order(shared, VALUES[name], 4, 9) for name in kind.options}
    price = round(kind.cheapest * (1 + 3 * shared.random()), 2)

    own = _draws("product", number)
    if place == 1:  # lacks one attribute and has another
        told = [spare if i == 1 else attribute for i, attribute in enumerate(told)]
    if place == 2:  # lacks every other value of the first option
        offered[kind.options[0]] = offered[kind.options[0]][::2]
    if place == 3:
        price = round(price * 2.5 + 20, 2)
    told = _some(own, told, len(told))
    material = _pick(own, ("sturdy", "tidy", "clever", "plain", "handy", "honest"))
    name = capwords(f"{maker} {line} {noun}, {told[0]} {kind.query} with {told[1]}")
    first = kind.options[0]
    bullets = [
        f"{noun.capitalize()} that is {told[2]}: {_pick(own, _PRAISE)}.",
        f"Also {told[3]}, and {_pick(own, _PRAISE)}.",
        f"The {line} line by {maker}: {material} {kind.query}.",
    ]
    description = (
        f"The {maker} {line} {noun} is {_pick(own, _PRAISE)}. It is {told[0]} and {told[1]}. "
        f"Choose from {len(offered[first])} kinds of {first}. It is {_pick(own, _PRAISE)}."
    )
    prices = [price]
    if own.random() < 0.2:  # a range, of which the true price is somewhere inside
        prices = [round(price * 0.9, 2), round(price * 1.1, 2)]
    return Product(
        asin(number),
        name,
        description,
        bullets,
        kind.category,
        kind.query,
        kind.path,
        " to ".join(f"${value}" for value in prices),
        price,
        offered,
        [*told, kind.nouns[0]],
    )


def kind_number(number: T) -> T:
    """Which of `KINDS` a product is, or an array of products: every kind is in every split equally often."""
    family: Any = number // FAMILY  # type: ignore[operator]
    return (family + family // 10) % len(KINDS)  # type: ignore[no-any-return]


def asin(number: int) -> str:
    """The id of a product: its number, scrambled one to one, in letters and digits."""
    scrambled = (number * 62_773_913_467_813 + 1_618_033) % 36**9  # the factor shares no divisor with 36
    digits = ""
    for _ in range(9):
        scrambled, digit = divmod(scrambled, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return f"M{digits}"


def goal(split: str, i: int, products: int) -> Goal:
    """Goal i of a split, in a catalogue of so many products."""
    draws = _draws(f"goal {split}", i)
    family = 10 * int(products // (10 * FAMILY) * draws.random()) + _pick(draws, SPLITS[split])
    number = FAMILY * family + int(FAMILY * draws.random())
    wanted = product(number)
    attributes = _some(draws, wanted.attributes[:4], 1 + int(3 * draws.random()))
    names = _some(draws, list(wanted.options), 1 + int(2 * draws.random()))
    options = {name: _pick(draws, wanted.options[name]) for name in wanted.options if name in names}
    limit = frozen_limit(wanted.price, wanted.asin, split, str(i))
    text = _pick(draws, (_formal, _asking, _short))(wanted, attributes, options)
    return goal_of(wanted, text, attributes, list(options.values()), limit)


def _formal(wanted: Product, attributes: list[str], options: dict[str, str]) -> str:
    told = ", and ".join(f"{name}: {value}" for name, value in options.items())
    return f"Find me {', '.join(attributes)} {wanted.query} with {told}"


def _asking(wanted: Product, attributes: list[str], options: dict[str, str]) -> str:
    told = " and ".join(f"{value} for the {name}" for name, value in options.items())
    return f"i am looking for {wanted.query} that should be {' and '.join(attributes)}. i want {told}"


def _short(wanted: Product, attributes: list[str], options: dict[str, str]) -> str:
    return f"{' '.join(attributes)} {wanted.attributes[-1]} {' '.join(options.values())}"


def _draws(what: str, number: int) -> random.Random:
    """A generator for one thing; only its `random()`, which is the same in every Python, is to be used."""
    return random.Random(f"minishop {GENERATOR} {what} {number}")


def _pick(draws: random.Random, items: Sequence[T]) -> T:
    return items[int(len(items) * draws.random())]


def _some(draws: random.Random, items: Sequence[T], count: int) -> list[T]:
    """So many different items, in random order."""
    order = sorted((draws.random(), place) for place in range(len(items)))
    return [items[place] for _, place in order[:count]]


def _in_order(draws: random.Random, items: Sequence[T], least: int, most: int) -> list[T]:
    """Between `least` and `most` of the items, in their order."""
    count = min(least + int((most - least + 1) * draws.random()), len(items))
    kept = set(_some(draws, range(len(items)), count))
    return [item for i, item in enumerate(items) if i in kept]
