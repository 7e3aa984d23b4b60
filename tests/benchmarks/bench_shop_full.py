"""MiniShop at WebShop's size: how long the catalogue takes to build, open and search, and what it costs.

    python tests/benchmarks/bench_shop_full.py [PRODUCTS] [SEARCHES]

Building and searching run in processes of their own, so that the figures are those of one of them. The
catalogue is kept under PROSEGYM_HOME and built only where it is not there yet.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time


def build(products: int) -> dict[str, float]:
    from prosegym.envs.minishop.env import catalogue

    start = time.perf_counter()
    catalogue(products)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"build_seconds": time.perf_counter() - start, "build_peak_mib": peak}


def search(products: int, searches: int) -> dict[str, float]:
    import psutil

    import prosegym.envs.bm25  # noqa: F401  (imports are not part of opening)
    from prosegym.envs.minishop import generate
    from prosegym.envs.minishop.env import catalogue

    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    shop = catalogue(products)
    shop.search("warm up")
    opened = time.perf_counter() - start
    seconds, cpu = [], []
    for i in range(searches):
        query = generate.goal("train", i, products).instruction.lower()
        start, busy = time.perf_counter(), time.process_time()
        shop.search(query)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    seconds.sort()
    return {
        "open_seconds": opened,
        "search_median_ms": statistics.median(seconds) * 1e3,
        "search_median_cpu_ms": statistics.median(cpu) * 1e3,
        "search_95th_ms": seconds[int(0.95 * len(seconds))] * 1e3,
        "search_longest_ms": seconds[-1] * 1e3,
        "added_mib": (process.memory_info().rss - before) / 2**20,
        "added_private_mib": process.memory_full_info().uss / 2**20,
    }


if __name__ == "__main__":
    products = int(sys.argv[1]) if len(sys.argv) > 1 else 1_181_436
    searches = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    if len(sys.argv) > 3:
        print(json.dumps(build(products) if sys.argv[3] == "build" else search(products, searches)))
    else:
        figures: dict[str, float] = {"products": products, "searches": searches}
        for part in ("build", "search"):
            command = [sys.executable, __file__, str(products), str(searches), part]
            figures |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, value in figures.items():
            print(f"{name:20} {value:12.2f}")
