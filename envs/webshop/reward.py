"""WebShop's reward: how far a purchase is what the instruction asked for (Yao et al. 2022, section 3.2).

    r = r_type * (matched attributes + matched options + [price <= limit]) / (attributes + options + 1)

The rules, thresholds and oddities are those of the published code (princeton-nlp/WebShop, MIT).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from prosegym.envs.webshop.catalogue import Goal, Product
from prosegym.envs.webshop.nouns import Tagger

MATCH = 85
"""Two phrases are the same when their token-set ratio is above this."""

# In the order in which they are looked for: the first one contained stands for the whole value.
COLOURS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown "
    "burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac "
    "copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite "
    "grape graphite grass gray green grey heather indigo ivory ivy khaki lavender lemon leopard light "
    "lilac lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard natural "
    "navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand sapphire "
    "seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet "
    "walnut wheat white wine yellow "
).split()


class Reward(NamedTuple):
    """The reward of a purchase, and its parts."""

    total: float
    type: float
    """r_type, the factor for the kind of product: 1, 0.5, 0.1 or 0."""
    attributes: int
    """Attributes of the goal that the product has."""
    options: int
    """Options of the goal that were chosen."""
    price: bool
    """Whether the price is within the limit."""


def reward(product: Product, goal: Goal, chosen: Iterable[str], tagger: Tagger) -> Reward:
    """The reward for buying a product with the chosen option values."""
    return with_options(product_reward(product, goal, tagger), goal, chosen)


def product_reward(product: Product, goal: Goal, tagger: Tagger) -> Reward:
    """What the product alone gives, without any option."""
    kind = type_factor(product, goal, tagger)
    attributes = sum(has_attribute(product, attribute) for attribute in goal.attributes)
    return _total(Reward(0.0, kind, attributes, 0, product.price <= goal.price_upper), goal)


def with_options(base: Reward, goal: Goal, chosen: Iterable[str]) -> Reward:
    """The reward of `product_reward`, with options chosen."""
    return _total(base._replace(options=matched_options(list(chosen), goal)), goal)


def _total(parts: Reward, goal: Goal) -> Reward:
    share = (parts.attributes + parts.options + parts.price) / (len(goal.attributes) + len(goal.options) + 1)
    return parts._replace(total=share * parts.type)


def type_factor(product: Product, goal: Goal, tagger: Tagger) -> float:
    """r_type: from the search query the product was found with, its categories, and its title's nouns."""
    shared = _categories(product.product_category) & _categories(goal.product_category)
    wanted = tagger.nouns(goal.name)
    common = set(tagger.nouns(product.name)) & set(wanted)
    title = len(common) / len(wanted) if wanted else 0.2  # `wanted` keeps repeats, `common` does not
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if product.query == goal.query or len(shared) >= 2 or title > 0.2 else 0.5


def _categories(path: str) -> set[str]:
    return {part.strip() for part in path.split("\u203a")}


def has_attribute(product: Product, attribute: str) -> bool:
    """Whether the product is labelled with the attribute, or its text contains it."""
    return (
        any(same_phrase(own, attribute) for own in product.attributes)
        or attribute in product.name.lower()
        or attribute in " ".join(product.bullets).lower()
        or attribute in product.description.lower()
    )


def matched_options(chosen: list[str], goal: Goal) -> int:
    """How many of the goal's options were chosen, colours compared by their first known name.

    A synthetic goal's option is a pair (name, value): a colour counts only when the pair contains it whole,
    and what is compared is the pair as Python writes it.
    """
    if isinstance(goal.options, dict):
        wanted = [next((c for c in COLOURS if c in pair), str(pair)) for pair in goal.options.items()]
    else:
        wanted = [_colour(value) for value in goal.options]
    chosen = [_colour(value) for value in chosen]
    return sum(any(same_phrase(value, want) for value in chosen) for want in wanted)


def same_option(value: str, wanted: str) -> bool:
    """Whether a value counts as the one that a human goal wants."""
    return same_phrase(_colour(value), _colour(wanted))


@functools.lru_cache(1 << 14)
def _colour(value: str) -> str:
    return next((colour for colour in COLOURS if colour in value), value)


@functools.lru_cache(1 << 16)
def same_phrase(a: str, b: str) -> bool:
    """Whether thefuzz 0.19's `token_set_ratio`, the likeness of two sets of words, is above `MATCH`."""
    words_a, words_b = _words(a), _words(b)
    if not words_a or not words_b:
        return False
    both = " ".join(sorted(words_a & words_b))
    one = f"{both} {' '.join(sorted(words_a - words_b))}".strip()
    other = f"{both} {' '.join(sorted(words_b - words_a))}".strip()
    return _alike(both, one) or _alike(both, other) or _alike(one, other)


@functools.lru_cache(1 << 14)
def _words(text: str) -> frozenset[str]:
    text = "".join(c for c in text if not "\x80" <= c < "\u0100")  # Latin-1's upper half is dropped
    return frozenset(re.sub(r"\W", " ", text).lower().split())


def _alike(a: str, b: str) -> bool:
    """Whether twice the matching characters over all characters is above `MATCH`, in whole per cent."""
    if not a or not b:
        return False
    if a == b:
        return True
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(None, a, b)
    bounds = (
        matcher.real_quick_ratio,
        matcher.quick_ratio,
        matcher.ratio,
    )  # each no more than the one before
    return all(round(100 * bound()) > MATCH for bound in bounds)
