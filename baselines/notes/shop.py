"""WebShop and MiniShop: what I searched, opened, chose and bought, and what the results held besides."""

from __future__ import annotations

import re
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, taken, told, written
from prosegym.envs.trajectory import Trajectory

_SEP = " [SEP] "
_ID = re.compile(r"[A-Z0-9]{10}")
_LIMIT = re.compile(r"price lower than (\d+(?:\.\d+)?)")


class Facts(NamedTuple):
    """What the episode shows."""

    limit: float | None
    """The instruction's price limit."""
    searched: list[str]
    prices: dict[str, float]
    """Of the products in the results, the lowest price each was shown with."""
    opened: list[str]
    wanted: list[str]
    """Options whose words the instruction holds, of those that pages offered."""
    chosen: list[str]
    """Options I clicked on the last product."""
    bought: str


def read(trajectory: Trajectory) -> Facts:
    """The episode, as pages of fields."""
    instruction = told(trajectory).partition("Instruction:")[2].partition(" [SEP] Search")[0]
    limit = _LIMIT.search(instruction)
    searched, opened, wanted, bought = [], [], [], ""
    chosen: list[str] = []
    prices: dict[str, float] = {}
    for action, answer in taken(trajectory):
        kind, _, argument = action.rstrip("]").partition("[")
        fields, clicked = answer.split(_SEP), argument.lower()  # the shop reads no capitals
        if kind == "search":
            searched.append(argument)
        elif argument.upper() in prices and "Buy Now" in fields:
            opened.append(argument.upper())
            chosen = []
        elif clicked == "buy now" and "Thank you" in answer and opened:
            bought = opened[-1]
        elif kind == "click" and "Buy Now" in fields and clicked in fields:
            chosen.append(clicked)
        for product, price in zip(fields, fields[2:], strict=False):
            if _ID.fullmatch(product) and price.startswith("$"):
                prices[product] = float(re.findall(r"\d+(?:\.\d+)?", price.replace(",", ""))[0])
        if "Buy Now" in fields:
            options = fields[fields.index("< Prev") + 1 : -6] if "< Prev" in fields else []
            wanted += [option for option in options if _asks(instruction, option)]
    return Facts(
        float(limit[1]) if limit else None,
        searched,
        prices,
        list(dict.fromkeys(opened)),
        list(dict.fromkeys(wanted)),
        chosen,
        bought,
    )


def _asks(instruction: str, option: str) -> bool:
    """Whether the instruction names an option: `size: small`, or `small for the size`."""
    return re.search(rf": {re.escape(option)}(?=,|$)|\b{re.escape(option)} for the ", instruction) is not None


def note(trajectory: Trajectory) -> str:
    """The facts in words, and what to buy instead."""
    f = read(trajectory)
    dear = f.limit is not None and f.prices.get(f.bought, 0) >= f.limit
    missed = [option for option in f.wanted if option not in f.chosen]
    fitting = [p for p in f.prices if p not in f.opened and (f.limit is None or f.prices[p] < f.limit)]
    others = [p for p in f.prices if p not in f.opened]
    choose = f", choose {listed(f.wanted)}" if f.wanted else ""
    if f.bought and missed and not dear:
        plan = f"open {f.bought} again, choose {listed(missed)} before buying, and buy it."
    elif fitting:
        plan = f"open {listed(fitting)}, compare them with the instruction{choose}, and buy what fits best."
    elif not f.searched:
        plan = "search for the words of the instruction first."
    else:
        plan = f"search with other words of the instruction, open what is new{choose}, and buy."
    return written(
        [
            f"I searched for: {listed(f.searched)}." if f.searched else "I searched for nothing.",
            f"I opened {listed(f.opened)}." if f.opened else "I opened no product.",
            f"The results showed these, too, and I did not open them: {listed(others)}." if others else "",
            f"I bought {f.bought}." if f.bought else "I bought nothing.",
            f"It was not below the price limit of {f.limit:g}."
            if f.bought and dear and f.limit is not None
            else "",
            f"I did not choose {listed(missed)}." if f.opened and missed else "",
        ],
        plan,
    )
