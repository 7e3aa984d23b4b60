"""prosegym/MiniShop-v1: WebShop's pages and reward over a generated catalogue."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from prosegym.envs import bm25
from prosegym.envs.core import Task, Tasks, digest
from prosegym.envs.errors import BadOption, UnknownName, unknown_task
from prosegym.envs.home import alone, writable
from prosegym.envs.minishop import generate
from prosegym.envs.rewards import Maker
from prosegym.envs.webshop.catalogue import COLUMNS, Catalogue, Column, Goal, document
from prosegym.envs.webshop.shop import Shop

COUNTS = {"train": 100_000, "valid": 200, "test": 200}
"""Tasks of each split."""

LEAST, MOST = 40, 1_181_436
IN_MEMORY = 10_000
"""Products up to which the catalogue is indexed anew in each process (a thousand take 0.2 s)."""


class MiniShop(Shop):
    """A web shop like WebShop, of generated products: another benchmark, with the same pages and reward.

    Observation: the page, in the modes of WebShop: `text`, `text_rich` or `structured`.
    Actions: search[KEYWORDS] or click[TEXT]; anything else shows the same page again and counts as invalid.
    Reward: at the purchase, WebShop's reward in [0, 1]: kind of product, attributes, options, price. Success
        is a reward of 1.
    Progress: what buying the product looked at, with the options chosen, would earn.
    Termination: click[buy now]; truncation after 15 steps.
    Splits: train (100,000 tasks), valid (200), test (200); task i is a function of the split, i and the
        number of products; no product is asked for in two splits.
    Source: this project, Apache-2.0; needs no data. `products` makes the catalogue larger, up to WebShop's
        1,181,436; above 10,000 it is built once, and kept under PROSEGYM_HOME.
    Differences: the products are not real and come in families of near-duplicates; nouns
        of titles are found by the substitute tagger unless `tagger` says otherwise.
    """

    env_id = "prosegym/MiniShop-v1"

    def __init__(self, *, products: int = 1000, tagger: str = "substitute", **base: Any) -> None:
        """Make the environment; nothing is generated before the first reset.

        Args:
            products: size of the catalogue, at least 40; another size makes other tasks.
            tagger: finds the nouns of titles for the reward.
            base: the arguments of every shop and of every text environment.
        """
        super().__init__(tagger=tagger, **base)
        if not LEAST <= products <= MOST:
            raise BadOption(f"products must be from {LEAST} to {MOST}, not {products}")
        self.products = products

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Build the catalogue, if it is not there yet."""
        catalogue(self.products)

    def tasks(self, split: str) -> Sequence[Task]:
        """Every task of a split."""
        if split not in COUNTS:
            raise UnknownName("split", split, self.splits)
        return Tasks(COUNTS[split], lambda i: self._task_of(split, i))

    def task(self, task_id: str) -> Task:
        """The task of that id, SPLIT/NUMBER, or SPLIT/NUMBER/PRODUCTS in a catalogue of another size."""
        split, number = (*task_id.split("/"), "")[:2]
        if split in COUNTS and number.isascii() and number.isdigit() and int(number[:9]) < COUNTS[split]:
            task = self._task_of(split, int(number[:9]))
            if task.id == task_id:
                return task
        raise unknown_task(task_id, [(self._id(s, 0), self._id(s, count - 1)) for s, count in COUNTS.items()])

    def _id(self, split: str, i: int) -> str:
        return f"{split}/{i}" + ("" if self.products == 1000 else f"/{self.products}")

    def _task_of(self, split: str, i: int) -> Task:
        goal = generate.goal(split, i, self.products)
        sha = digest("minishop", str(generate.GENERATOR), str(self.products), msgspec.json.encode(goal))
        return Task(self._id(split, i), split, self.env_id, goal.category, sha)

    def _goal(self, task: Task) -> tuple[Catalogue, Goal, str]:
        i = int(task.id.split("/")[1])
        return catalogue(self.products), generate.goal(task.split, i, self.products), str(i)


@functools.lru_cache(2)
def catalogue(products: int) -> Catalogue:
    """The catalogue of that size; one of over 10,000 products is built once and kept on disk."""
    sha = digest("minishop", str(generate.GENERATOR), str(products))
    documents = (document(generate.product(number)) for number in range(products))
    if products <= IN_MEMORY:
        index = bm25.Index(documents)
    else:
        folder = writable("minishop")
        with alone(folder / f"{products}.lock"):
            index = bm25.build(documents, folder / str(products), source=sha, total=products)
    kinds = generate.kind_number(np.arange(products, dtype=np.uint32))
    columns = {name: Column([getattr(kind, name) for kind in generate.KINDS], kinds) for name in COLUMNS}
    return Catalogue(generate.product, index, columns, sha)


make = Maker(MiniShop)
