"""Builds a corpus of generated paragraphs, then measures how fast it opens and how fast questions step over it.

    python tests/benchmarks/corpus_scale.py FOLDER [--paragraphs 5000000] [--steps 20000]

Not a test: five million paragraphs take six minutes of CPU time, 4 GB of memory and 3 GB of disk. Opening is
measured in a process of its own, so that nothing is warm but the operating system's file cache.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prosegym.envs.core import digest
from prosegym.envs.questions.corpus import FileCorpus, build
from prosegym.envs.questions.records import Paragraph
from prosegym.envs.questions.variants import ReAct

WORDS = 40
VOCABULARY = 300_000
FLATTENED = 50
"""Word r has a probability proportional to 1 / (r + FLATTENED): English without its stop words, about."""


def vocabulary() -> list[str]:
    """Invented words, of two to four syllables."""
    draw = random.Random(0)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(VOCABULARY)]


def ranks(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Words by their rank in frequency."""
    spread = np.log((VOCABULARY + FLATTENED) / FLATTENED)
    return (FLATTENED * (np.exp(draw.random(shape) * spread) - 1)).astype(np.int64)


def generate(count: int) -> Iterator[Paragraph]:
    """Paragraphs of words with a natural distribution, each under a title of its own."""
    words = np.array(vocabulary())
    draw = np.random.default_rng(1)
    for start in range(0, count, 10_000):
        for i, row in enumerate(words[ranks(draw, (10_000, WORDS))][: count - start]):
            title = f"{row[-1]} {row[-2]} {start + i}"
            yield Paragraph(title, " ".join(row[: WORDS // 2]) + ". " + " ".join(row[WORDS // 2 :]) + ".")


def opening(folder: Path, sha256: str) -> str:
    """Seconds to open the corpus and to answer a first search, in a new process."""
    code = (
        "import sys,time\nfrom pathlib import Path\nfrom prosegym.envs.questions.corpus import FileCorpus\n"
        "t=time.perf_counter();c=FileCorpus(Path(sys.argv[1]),sys.argv[2]);c._index\na=time.perf_counter()-t\n"
        "c.similar('bada kolu',5);b=time.perf_counter()-t\nprint(f'open {a:.3f} s, first search after {b:.3f} s')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(folder), sha256], capture_output=True, text=True, check=True
    ).stdout.strip()


def stepping(corpus: FileCorpus, steps: int) -> str:
    """Steps a CPU second of a ReAct episode: a hit, two look-ups, and every fourth step a miss of three words."""
    draw = random.Random(2)
    words = vocabulary()
    titles = [corpus._paragraph(draw.randrange(len(corpus)))[0] for _ in range(500)]
    queries = [" ".join(words[rank] for rank in row) for row in ranks(np.random.default_rng(3), (500, 3))]
    session, began = ReAct(), time.process_time()
    for step in range(0, steps, 4):
        title = titles[step % 500]
        session.play(f"search[{title}]", corpus)
        session.play("lookup[a]", corpus)
        session.play("lookup[a]", corpus)
        session.play(f"search[{queries[step // 4 % 500]}]", corpus)
    rate = steps / (time.process_time() - began)
    began = time.process_time()
    for query in queries:
        corpus.similar(query, 5)
    misses = len(queries) / (time.process_time() - began)
    return f"{rate:,.0f} steps a CPU second with a quarter misses; {misses:,.0f} misses a CPU second"


def main() -> None:
    """Build, open, step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--paragraphs", type=int, default=5_000_000)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    sha256 = digest("generated", str(arguments.paragraphs))
    began = time.perf_counter()
    corpus = build(generate(arguments.paragraphs), arguments.folder, sha256=sha256)
    built, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{len(corpus):,} paragraphs: built in {built:.0f} s, peak memory {peak} MiB")
    print(opening(arguments.folder, sha256))
    print(stepping(corpus, arguments.steps))


if __name__ == "__main__":
    main()
