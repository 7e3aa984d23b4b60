"""A house model from random weights: lessons, tokenizer, training, validation on the way.

    python recipes/house/pretrain.py OUT [--scale cpu|cpu-6m|notes|textworld|gpu|tiny]

The same command goes on where it was interrupted. What is learnt is in `lessons.py`: first the expert's play,
then, round by round, more of it or what the expert says of the model's own play. Validation plays games of
the valid split and measures the loss on the expert's lessons that are not trained on; its curve is
OUT/validation.jsonl. The last checkpoint is the model, in bfloat16, in OUT/model. A folder keeps the scale
and the seed that it began with.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import kitchens
import numpy as np
import torch
from accelerate import Accelerator
from lessons import AGENT, ALFWORLD, EXPRESS, HOUSEHOLD, KITCHENS, TEXTWORLD, Source, make, play, write
from torch import Tensor, nn
from tqdm import tqdm

from prosegym.baselines import agents, house
from prosegym.baselines.local import LocalModel, best_device
from prosegym.baselines.objectives import Imitation, Sample
from prosegym.baselines.react import ReAct
from prosegym.baselines.training import Log, Metrics, Optim, fit
from prosegym.envs import panels
from prosegym.envs.errors import ProsegymError
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

OBSERVED = 0.1
"""Weight, in the loss, of a token that the agent only read."""


@dataclass(frozen=True)
class Round:
    """What is played, by the model itself or by the expert, before the model learns again."""

    sources: tuple[Source, ...]
    longest: int
    """Tokens of a game at most; the rest is cut."""
    optim: Optim
    student: bool = True
    """Whether the model plays, or else the expert."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    size: str
    sources: tuple[Source, ...]
    longest: int
    """Tokens of an expert's lesson at most; longer ones are left out."""
    optim: Optim
    practice: tuple[Round, ...] = ()
    valid: int = 0
    """Games of the valid split played at each validation,"""
    judged: tuple[str, ...] = (HOUSEHOLD,)
    """of each of these environments."""
    begins: str = ""
    """The model that goes on, and plays the lessons of the first phase; empty begins with random weights."""


FIT = {"warmup": 0.02, "floor": 0.02, "weight_decay": 0.01}
PRACTISED = {"warmup": 0.05, "floor": 0.02, "weight_decay": 0.01}
CPU = Optim(1e-3, batch_size=8, tokens=2048, save_every=600, **PRACTISED)
CPU_6M = Optim(5e-4, batch_size=8, tokens=4096, save_every=1100, **PRACTISED)
LESSONS = (Source(HOUSEHOLD, 50_000), Source(ALFWORLD, 3 * 3_553))
PRACTICE = (Source(HOUSEHOLD, 5_000, 50_000, 0.2), Source(ALFWORLD, 3_553, 3 * 3_553, 0.2))
MORE = (Source(HOUSEHOLD, 5_000, 55_000, 0.2), Source(ALFWORLD, 3_553, 4 * 3_553, 0.2))
"""What house models of both sizes read on a CPU, what they then play first, and what they play after that."""
ROOMS = tuple(
    {
        "params": f"numLocations=1,numIngredients={foods},numDistractorItems={others},"
        "includeDoors=0,limitInventorySize=0"
    }
    for others in range(10)
    for foods in (1, 2, 3)
)
"""TextWorld-Express's kitchens of one room: every number of foods, with every number of others."""
SCALES = {
    "tiny": Scale(
        "tiny",
        (Source(HOUSEHOLD, 500),),
        1024,
        Optim(3e-3, batch_size=8, tokens=2048, max_steps=20, save_every=10),
        (
            Round(
                (Source(HOUSEHOLD, 8, first=500),),
                1024,
                Optim(1e-3, batch_size=8, tokens=2048, max_steps=4, save_every=4),
            ),
        ),
        valid=8,
    ),
    "cpu": Scale(
        "1m",
        LESSONS,
        1024,
        Optim(3e-3, batch_size=8, tokens=2048, save_every=600, **FIT),
        (Round(PRACTICE, 1024, CPU), Round(MORE, 2048, CPU)),
        valid=100,
    ),
    "cpu-6m": Scale(
        "6m",
        LESSONS,
        1024,
        Optim(1.5e-3, batch_size=8, tokens=4096, save_every=1800, **FIT),
        (Round(PRACTICE, 1024, CPU_6M), Round(MORE, 2048, CPU_6M)),
        valid=100,
    ),
    "notes": Scale(
        "1m",
        (Source(HOUSEHOLD, 2_000, notes="only"), Source(ALFWORLD, 2_000, notes="only")),
        3072,
        Optim(1e-3, epochs=2, batch_size=8, tokens=4096, save_every=200, **FIT),
        begins="novice",
    ),
    "textworld": Scale(
        "1m",
        (
            Source(EXPRESS, 1_000 * len(ROOMS), variants=ROOMS),
            Source(KITCHENS, 5 * 1_700, second_tries=0.25, notes="too", cut=True),
        ),
        3072,
        Optim(3e-3, batch_size=8, tokens=4096, save_every=800, **FIT),
        (
            Round(
                (Source(KITCHENS, 8_000, 8_500, 0.1, variants=({"one_room": True},)),),
                3072,
                Optim(2e-3, batch_size=8, tokens=4096, save_every=500, **PRACTISED),
                student=False,
            ),
            Round(
                (Source(KITCHENS, 1_000, 8_500, 0.2),),
                3072,
                Optim(1e-3, batch_size=4, tokens=4096, save_every=800, **PRACTISED),
            ),
        ),
        valid=50,
        judged=TEXTWORLD[-1:],
    ),
    "gpu": Scale(
        "6m",
        (
            Source(HOUSEHOLD, 90_000, notes="too", file=125),
            Source(ALFWORLD, 20 * 3_553, notes="too", file=125),
            Source(EXPRESS, 1_000 * len(ROOMS), variants=ROOMS, file=125),
            *(
                Source(env_id, 20 * 200, notes="too", cut=True, file=125)
                for env_id in (*TEXTWORLD[:-1], KITCHENS)
            ),
        ),
        1536,
        Optim(2e-3, batch_size=64, tokens=65536, save_every=1000, **FIT),
        (
            Round(
                (
                    Source(HOUSEHOLD, 4_000, 90_000, 0.2, file=125),
                    Source(ALFWORLD, 2_000, 20 * 3_553, 0.2, file=125),
                ),
                2048,
                Optim(1e-3, batch_size=32, tokens=65536, save_every=1000, **PRACTISED),
            ),
        ),
        valid=200,
        judged=(HOUSEHOLD, *TEXTWORLD),
    ),
}


class Shelf:
    """All lessons of a folder, read from the files as they are needed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """The lessons of these files, in order."""
        files = [_read(path) for path in paths]
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


def _read(path: Path) -> dict[str, Any]:
    with np.load(path) as file:  # not left open: there may be more files than a process can have
        return dict(file)


class Lessons:
    """`objectives.Imitation` over a shelf; an item is a lesson's number."""

    compares = False

    def __init__(self, shelf: Shelf) -> None:
        """Over these lessons."""
        self._shelf = shelf
        self._imitation = Imitation()
        self.length, self.weight = shelf.length, shelf.weight

    def rows(self, item: int) -> int:
        """One."""
        return 1

    def loss(self, model: nn.Module, items: Sequence[int]) -> tuple[Tensor, Metrics]:
        """Nats per weighted token."""
        return self._imitation.loss(model, [self._shelf.sample(item) for item in items])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    settle(args.out, args.scale, args.seed)
    run(args.out, SCALES[args.scale], args.seed, args.workers)


def settle(out: Path, scale: str, seed: int) -> None:
    """Keep scale and seed in OUT/settings.json; a folder that has others ends it all."""
    path, now = out / "settings.json", {"scale": scale, "seed": seed}
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now) + "\n")
    elif (was := json.loads(path.read_text())) != now:
        sys.exit(f"{out} holds another training ({was} then, {now} now); use another OUT")


def run(out: Path, scale: Scale, seed: int, workers: int) -> None:
    """All of it."""
    sources = [source for source in scale.sources if installed(source)]
    env_ids = [TEXTWORLD[-1] if source.env_id == KITCHENS else source.env_id for source in sources]
    judged = [env_id for env_id in scale.judged if env_id in env_ids]
    if TEXTWORLD[-1] in env_ids:
        kitchens.build()
    base = Path(agents.shipped(scale.begins)) if scale.begins else out / "scratch"
    if not (base / "tokenizer.json").exists():
        corpus = [m.content for source in sources for talk in play(source, 0) for m in talk]
        house.scratch(base, scale.size, corpus, vocabulary=1024, context=4096, seed=seed)
    # Of each source the last file is kept for validation.
    player = str(base) if scale.begins else ""
    found = shelves(sources, out / "lessons", base, scale.longest, workers, player)
    lessons = [path for paths in found for path in (paths[:-1] or paths)]
    held_out = Shelf([paths[-1] for paths in found])

    # Training wraps its model: the judge, which plays, is another.
    policy, judge = (LocalModel.load(str(base), device=best_device(), dtype="float32") for _ in range(2))
    gpu = policy.model.device.type == "cuda"
    began, log = time.monotonic(), Log(out)

    def train(phase: str, paths: Sequence[Path], optim: Optim, folder: Path) -> None:
        shelf = Shelf(paths)
        print(f"{phase}: {len(shelf):,} lessons of {int(shelf.ends[-1]):,} tokens", flush=True)

        def validate(step: int) -> None:
            if measured(out / "validation.jsonl", phase, step):
                return
            judge.model.load_state_dict(policy.model.state_dict())
            said = {"phase": phase, "step": step, **measure(judge, held_out, judged, scale.valid)}
            said["minutes"] = round((time.monotonic() - began) / 60, 2)
            print(json.dumps(said), flush=True)
            with open(out / "validation.jsonl", "a") as file:
                file.write(json.dumps(said) + "\n")

        accelerator = Accelerator(cpu=not gpu, mixed_precision="bf16")
        fit(
            policy.model, Lessons(shelf), range(len(shelf)), optim, folder, log,
            phase=phase, accelerator=accelerator, each=validate,
        )  # fmt: skip

    def save(folder: Path, dtype: torch.dtype) -> None:
        agents.save(
            folder, policy.model.to(dtype), policy.tokenizer, AGENT,
            method="house", env_ids=env_ids,
        )  # fmt: skip

    train("pretrain", lessons, scale.optim, out / "fit")
    practised: list[Path] = []
    for number, round_ in enumerate(scale.practice, start=1):
        sources = [source for source in round_.sources if installed(source)]
        if not sources:
            continue
        folder = out / f"practice-{number}"
        student = folder / "student"
        player = str(student) if round_.student else ""
        if not student.exists():
            save(folder / "student.part", torch.float32)
            (folder / "student.part").rename(student)
        new = sum(shelves(sources, folder, base, round_.longest, workers, player), [])
        practised += new
        # As many files of the expert's own play, other ones each round, keep that in mind.
        reread = lessons[number - 1 :: max(1, len(lessons) // len(new))][: len(new)]
        train(f"practice-{number}", [*practised, *reread], round_.optim, folder / "fit")
    save(out / "model", torch.bfloat16)


def installed(source: Source) -> bool:
    """Whether the environment's data and engine are there; says so where they are not."""
    try:
        env = make(source.env_id, split="train")
        env.reset(seed=0)
        env.close()
    except ProsegymError as error:
        print(f"without {source.env_id}: {error}", flush=True)
        return False
    return True


def shelves(
    sources: Sequence[Source], folder: Path, base: Path, longest: int, workers: int, student: str = ""
) -> list[list[Path]]:
    """Write what is missing of these sources' lessons; returns the files of each."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    # Not by fork: this process has threads of its own by now.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = []
        for source in sources:
            name, chunks = source.env_id.rpartition("/")[2], range(-(-source.tasks // source.file))
            found.append([folder / f"{name}-{chunk:05}.npz" for chunk in chunks])
            jobs += [
                pool.submit(write, source, chunk, str(base), path, longest, student)
                for chunk, path in zip(chunks, found[-1], strict=True)
            ]
        for job in tqdm(jobs, desc=str(folder.name), unit="file"):
            job.result()
    return found


def measured(curve: Path, phase: str, step: int) -> bool:
    """Whether that point is on the curve already."""
    point = json.dumps({"phase": phase, "step": step})[:-1] + ","
    return curve.exists() and any(line.startswith(point) for line in curve.read_text().splitlines())


@torch.no_grad()
def measure(policy: LocalModel, held_out: Shelf, judged: Sequence[str], games: int) -> dict[str, Any]:
    """Loss on held-out lessons, and success on the first games of these environments' valid panels."""
    objective = Lessons(held_out)
    items = list(range(0, len(held_out), max(1, len(held_out) // 200)))
    losses, weights = [], []
    for at in range(0, len(items), 8):
        part = items[at : at + 8]
        losses.append(float(objective.loss(policy.model, part)[0]))
        weights.append(sum(objective.weight(i) for i in part))
    said = {"loss": float(np.average(losses, weights=weights))}
    agent, played = ReAct(policy, AGENT), []
    for env_id in judged:
        jobs = [Job(task_id) for task_id, _ in panels.of_split(env_id, "valid").tasks[:games]]
        played += list(rollout(lambda env_id=env_id: make_env(env_id), agent, jobs, batch_size=64))  # type: ignore[misc]
    policy.rest()  # training goes on beside it
    if played:
        said |= {"success": sum(t.success for t in played) / len(played), "games": len(played)}
    return said


if __name__ == "__main__":
    main()
