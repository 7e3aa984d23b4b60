"""How often spaCy and the substitute tagger give a purchase another reward, where both can run.

    python tests/benchmarks/compare_taggers.py [GOALS]

Needs spaCy, its model en_core_web_sm and WebShop's data (`prosegym data get webshop`). For each goal it takes
the ten products that a search for the instruction shows first, and compares the factor for the kind of product.
"""

from __future__ import annotations

import sys
from collections import Counter

from prosegym.envs.webshop.env import WebShop
from prosegym.envs.webshop.nouns import tagger
from prosegym.envs.webshop.reward import type_factor


def main(count: int) -> None:
    spacy, substitute = tagger("spacy"), tagger("substitute")
    shop, goals = WebShop(tagger="substitute")._open()
    pairs: Counter[tuple[float, float]] = Counter()
    for goal in goals[:count]:
        for number in shop.search(goal.instruction.lower())[:10]:
            product = shop.product(number)
            pairs[type_factor(product, goal, spacy), type_factor(product, goal, substitute)] += 1
    for (a, b), times in sorted(pairs.items()):
        print(f"{spacy.name} {a:4}  {substitute.name} {b:4}  {times:6}")
    agreed = sum(times for (a, b), times in pairs.items() if a == b)
    print(f"the same in {agreed} of {sum(pairs.values())}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
