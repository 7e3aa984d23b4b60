"""A house model from random weights: lessons, tokenizer, training, validation on the way.

    python recipes/house/pretrain.py OUT [--scale cpu|gpu|tiny]

The same command goes on where it was interrupted. What is learnt is in `lessons.py`. Validation plays games
of Household's valid split and measures the loss on lessons that are not trained on; its curve is
OUT/validation.jsonl. The last checkpoint is the model, in bfloat16, in OUT/model.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from lessons import AGENT, CHUNK, Source, play, write
from torch import Tensor, nn
from tqdm import tqdm

from prosegym.baselines import agents, house
from prosegym.baselines.local import LocalModel, best_device
from prosegym.baselines.objectives import Imitation, Sample
from prosegym.baselines.react import ReAct
from prosegym.baselines.training import Log, Optim, fit
from prosegym.envs import panels
from prosegym.envs.errors import ProsegymError
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

HOUSEHOLD, ALFWORLD = "prosegym/Household-v1", "prosegym/ALFWorld-v1"
OBSERVED = 0.1
"""Weight, in the loss, of a token that the agent only read."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    size: str
    sources: tuple[Source, ...]
    optim: Optim
    longest: int
    """Tokens of a lesson at most; longer ones are left out."""
    valid: int
    """Games of Household's valid split played at each validation."""


SCALES = {
    "tiny": Scale(
        "tiny",
        (Source(HOUSEHOLD, 500),),
        Optim(3e-3, batch_size=8, tokens=2048, max_steps=20, save_every=10),
        1024,
        8,
    ),
    "cpu": Scale(
        "1m",
        (Source(HOUSEHOLD, 50_000), Source(ALFWORLD, 3 * 3_553)),
        Optim(3e-3, batch_size=8, tokens=2048, warmup=0.02, floor=0.02, weight_decay=0.01, save_every=600),
        1024,
        100,
    ),
    "gpu": Scale(
        "6m",
        (Source(HOUSEHOLD, 600_000), Source(ALFWORLD, 30 * 3_553)),
        Optim(2e-3, batch_size=64, tokens=65536, warmup=0.02, floor=0.02, weight_decay=0.01, save_every=1000),
        1536,
        200,
    ),
}


class Shelf:
    """All lessons of a folder, read from the files as they are needed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """The lessons of these files, in order."""
        files = [np.load(path) for path in paths]
        self._tokens = np.concatenate([f["tokens"] for f in files])
        self._own = np.concatenate([f["own"] for f in files])
        offsets = np.cumsum([0, *(len(f["tokens"]) for f in files)])[:-1]
        self.ends = np.concatenate([f["ends"] + at for f, at in zip(files, offsets, strict=True)])
        self._starts = np.concatenate([[0], self.ends[:-1]])
        self._owned = np.concatenate([[0], np.cumsum(self._own)])

    def __len__(self) -> int:
        return len(self.ends)

    def length(self, item: int) -> int:
        """Tokens of a lesson."""
        return int(self.ends[item] - self._starts[item])

    def weight(self, item: int) -> float:
        """Sum of its weights."""
        own = int(self._owned[self.ends[item]] - self._owned[self._starts[item]])
        return own + OBSERVED * (self.length(item) - own)

    def sample(self, item: int) -> Sample:
        """The lesson."""
        at = slice(self._starts[item], self.ends[item])
        weights = np.where(self._own[at], 1.0, OBSERVED)
        return Sample(tuple(self._tokens[at].tolist()), tuple(weights.tolist()))


class Lessons:
    """`objectives.Imitation` over a shelf; an item is a lesson's number."""

    def __init__(self, shelf: Shelf) -> None:
        """Over these lessons."""
        self._shelf = shelf
        self._imitation = Imitation()
        self.length, self.weight = shelf.length, shelf.weight

    def rows(self, item: int) -> int:
        """One."""
        return 1

    def loss(self, model: nn.Module, items: Sequence[int]) -> tuple[Tensor, Mapping[str, float]]:
        """Nats per weighted token."""
        return self._imitation.loss(model, [self._shelf.sample(item) for item in items])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    run(args.out, SCALES[args.scale], args.seed, args.workers)


def run(out: Path, scale: Scale, seed: int, workers: int) -> None:
    """All of it."""
    sources = [source for source in scale.sources if installed(source)]
    base = out / "scratch"
    if not (base / "tokenizer.json").exists():
        corpus = [m.content for source in sources for talk in play(source, 0) for m in talk]
        house.scratch(base, scale.size, corpus, vocabulary=1024, context=4096, seed=seed)
    # Of each source the last file is kept for validation.
    found = [shelves(source, out / "lessons", base, scale, workers) for source in sources]
    train = Shelf([path for paths in found for path in (paths[:-1] or paths)])
    held_out = Shelf([paths[-1] for paths in found])
    print(f"{len(train):,} lessons of {int(train.ends[-1]):,} tokens; {len(held_out)} held out", flush=True)

    policy = LocalModel.load(str(base), device=best_device())
    judge = LocalModel.load(str(base), device=best_device())  # training wraps its model: this one plays
    gpu = policy.model.device.type == "cuda"
    began = time.monotonic()

    def validate(step: int) -> None:
        judge.model.load_state_dict(policy.model.state_dict())
        said = {"step": step, **measure(judge, held_out, scale.valid)}
        said["minutes"] = round((time.monotonic() - began) / 60, 2)
        print(json.dumps(said), flush=True)
        with open(out / "validation.jsonl", "a") as file:
            file.write(json.dumps(said) + "\n")

    accelerator = Accelerator(cpu=not gpu, mixed_precision="bf16")
    fit(
        policy.model, Lessons(train), range(len(train)), scale.optim, out / "fit", Log(out),
        phase="pretrain", accelerator=accelerator, each=validate,
    )  # fmt: skip
    agents.save(
        out / "model", policy.model.to(torch.bfloat16), policy.tokenizer, AGENT,
        method="house", env_ids=[source.env_id for source in sources],
    )  # fmt: skip


def installed(source: Source) -> bool:
    """Whether the environment's data is there; says so where it is not."""
    try:
        make_env(source.env_id, split="train").close()
    except ProsegymError as error:
        print(f"without {source.env_id}: {error}", flush=True)
        return False
    return True


def shelves(source: Source, folder: Path, base: Path, scale: Scale, workers: int) -> list[Path]:
    """Write what is missing of a source's lessons; returns its files."""
    folder.mkdir(parents=True, exist_ok=True)
    name = source.env_id.rpartition("/")[2]
    chunks = range(-(-source.tasks // CHUNK))
    paths = [folder / f"{name}-{chunk:05}.npz" for chunk in chunks]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(write, source, c, str(base), paths[c], scale.longest) for c in chunks]
        for job in tqdm(jobs, desc=f"lessons of {name}", unit="file"):
            job.result()
    return paths


@torch.no_grad()
def measure(policy: LocalModel, held_out: Shelf, games: int) -> dict[str, Any]:
    """Loss on held-out lessons, and success on the first games of Household's valid panel."""
    objective = Lessons(held_out)
    items = list(range(0, len(held_out), max(1, len(held_out) // 200)))
    losses, weights = [], []
    for at in range(0, len(items), 8):
        part = items[at : at + 8]
        losses.append(float(objective.loss(policy.model, part)[0]))
        weights.append(sum(objective.weight(i) for i in part))
    agent = ReAct(policy, AGENT)
    panel = panels.of_split(HOUSEHOLD, "valid")
    jobs = [Job(task_id) for task_id, _ in panel.tasks[:games]]
    played = list(rollout(lambda: make_env(HOUSEHOLD), agent, jobs, batch_size=64))
    return {
        "loss": float(np.average(losses, weights=weights)),
        "success": sum(t.success for t in played) / len(played),
        "games": len(played),
    }


if __name__ == "__main__":
    main()
