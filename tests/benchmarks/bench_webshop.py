"""WebShop's step and search, in the original's recorded episodes and queries.

    pytest tests/benchmarks/bench_webshop.py --benchmark-only

The original's figures, with which these are to be compared, are 11 to 17 ms a step (Flask, BeautifulSoup, Lucene)
and 11 ms a search (Lucene through pyserini), on 1,000 products.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import gymnasium
import pytest

ORIGINAL_MS = 11.0


def lines(test_data: Path, name: str) -> list[Any]:
    with lzma.open(test_data / "webshop" / name, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("mode", ["text", "text_rich"])
def test_step(benchmark: Any, installed: Any, test_data: Path, mode: str) -> None:
    installed("webshop")
    env = gymnasium.make("prosegym/WebShop-v1", observation=mode, tagger="substitute").unwrapped
    recorded = lines(test_data, "transcripts_1k.jsonl.xz")
    played = [(f"small/synthetic/{e['goal_index']}", [s["a"] for s in e["steps"]][:14]) for e in recorded]
    steps = sum(len(actions) for _, actions in played)

    def run() -> None:
        for task_id, actions in played:
            env.reset(options={"task_id": task_id})
            for action in actions:
                env.step(action)

    run()
    benchmark(run)
    if benchmark.stats:
        each = benchmark.stats["median"] * 1e3 / steps
        benchmark.extra_info |= {"ms_per_step_resets_included": each, "times_original": ORIGINAL_MS / each}


def test_search(benchmark: Any, installed: Any, test_data: Path) -> None:
    installed("webshop")
    env: Any = gymnasium.make("prosegym/WebShop-v1", tagger="substitute").unwrapped
    env.reset(seed=0)
    shop = env.session.catalogue
    queries = [case["query"] for case in lines(test_data, "bm25_oracle_1k.jsonl.xz")]

    benchmark(lambda: [shop.search(query) for query in queries])
    if benchmark.stats:
        each = benchmark.stats["median"] * 1e3 / len(queries)
        benchmark.extra_info |= {"ms_per_search": each, "times_lucene": ORIGINAL_MS / each}
