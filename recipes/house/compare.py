"""Methods on top of one house model, each with the same games and optimizer steps, and their controls.

    python recipes/house/compare.py OUT [--model house] [--scale cpu|gpu|tiny]

First try: SFT goes on with the experts' episodes (the control of all others: replay, nothing else), RFT, ETO,
StepAgent, IPR, some seeds each. Retries, four trials: Reflexion with notes by rule, and its controls: no
memory (sampled), a memory of another task. Every step is a `prosegym` command; the same call goes on where it
was interrupted. OUT/results.json has every number with its command. Nothing is chosen here on what is
reported: settings are the ones below, the checkpoint is the last.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prosegym.cli import main as prosegym
from prosegym.envs import data
from prosegym.evaluation.compare import compare
from prosegym.evaluation.runs import Run

ENV = "prosegym/Household-v1"


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    games: int
    """Training games: the experts' episodes, and what is explored."""
    steps: int
    """Optimizer steps of every method's phase."""
    seeds: int
    tasks: int
    """Tasks of each panel at most."""
    methods: tuple[str, ...]


SCALES = {
    "tiny": Scale(8, 2, 1, 4, ("sft", "eto")),
    "cpu": Scale(200, 25, 3, 200, ("sft", "eto", "rft", "stepagent")),
    "gpu": Scale(2000, 200, 3, 200, ("sft", "rft", "eto", "stepagent", "stepagent_inverse", "ipr")),
}
OPTIM = "{0}learning-rate {1} {0}epochs 50 {0}batch-size 8 {0}schedule cosine {0}warmup 0.05"
PAIRS = f"--cloned {OPTIM.format('--optim.', '3e-5')}"
METHODS = {
    "sft": OPTIM.format("--optim.", "1e-4"),
    "rft": f"--cloned {OPTIM.format('--cloning.optim.', '1e-4')}",
    "eto": f"{PAIRS} --iterations 1 --imitation 1",
    "stepagent": f"{PAIRS} --cycles 1 --imitation 1",
    "stepagent_inverse": f"{PAIRS} --cycles 1",
    "ipr": f"{PAIRS} --iterations 1",
}
RETRIES = {
    "retry-no-memory": "--agent-arg strategy=base --agent-arg temperature=1.0",
    "retry-other-task": "--agent-arg control=other_task",
    "retry": "",
}


def panels() -> list[str]:
    """Household's test panel and, where the official games are installed, both of ALFWorld's."""
    official = data.folder("alfworld").is_dir()
    return ["Household-v1/test", *(f"ALFWorld-v1/{s}" for s in ("valid_seen", "valid_unseen") if official)]


def commands(out: Path, model: str, scale: Scale) -> Iterator[str]:
    """All that is done, in order."""
    expert = out / "expert.jsonl"
    yield f"collect --agent expert --env {ENV} --episodes {scale.games} --out {expert}"
    for panel in panels():
        evaluate = f"evaluate --panel {panel} --tasks {scale.tasks} --out {out}/runs/{panel}"
        yield f"{evaluate}/base --agent {model}"
        for name, settings in RETRIES.items():
            agent = "--agent reflexion --agent-arg trials=4 --agent-arg reflector=rule"
            yield f"{evaluate}/{name} {agent} --model {model} {settings}"
    for seed in range(scale.seeds):
        for method in scale.methods:
            folder = out / f"{method}-{seed}"
            yield (
                f"train {method} --env {ENV} --model {model} --data {expert} {METHODS[method]} "
                f"--max-steps {scale.steps} --seed {seed} --out {folder}"
            )
            for panel in panels():
                run = f"{out}/runs/{panel}/{method}-{seed}"
                yield f"evaluate --panel {panel} --tasks {scale.tasks} --agent {folder} --out {run}"


def results(out: Path, done: list[str]) -> list[dict[str, Any]]:
    """What each evaluation measured, its command, and how it differs from the base model and the control."""
    rows = []
    for command in done:
        words = shlex.split(command)
        if words[0] != "evaluate":
            continue
        folder = Path(words[words.index("--out") + 1])
        run = Run.read(folder)
        summary = run.summary()
        row: dict[str, Any] = {
            "name": folder.name,
            "panel": words[words.index("--panel") + 1],
            "tasks": summary.tasks,
            "success": asdict_of(summary.success),
            "trials": success_by_trial(run),
            "command": f"prosegym {command}",
        }
        if folder.name != "base":
            row["minus_base"] = asdict_of(compare(run, Run.read(folder.parent / "base")).success)
        method, _, seed = folder.name.rpartition("-")
        if seed.isdigit() and method != "sft" and (folder.parent / f"sft-{seed}").exists():
            row["minus_control"] = asdict_of(compare(run, Run.read(folder.parent / f"sft-{seed}")).success)
        if folder.name == "retry":
            other = Run.read(folder.parent / "retry-other-task")
            row["minus_control"] = asdict_of(compare(run, other).success)
        rows.append(row)
    return rows


def asdict_of(estimate: Any) -> dict[str, float]:
    """An estimate as numbers: value, low, high of the 95 % interval."""
    return {key: round(getattr(estimate, key), 4) for key in ("value", "low", "high")}


def success_by_trial(run: Run) -> list[float]:
    """Share of tasks solved within 1, 2, ... trials."""
    first: dict[str, int] = {}
    for t in run.finished:
        if t.success:
            first[t.task_id] = min(t.trial, first.get(t.task_id, t.trial))
    tasks = len({t.task_id for t in run.finished})
    trials = max(t.trial for t in run.finished) + 1
    return [round(sum(won <= k for won in first.values()) / tasks, 4) for k in range(trials)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="house")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    plan, done = list(commands(args.out, args.model, scale)), []
    for number, command in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] $ prosegym {command}", flush=True)
        if status := prosegym(shlex.split(command)):
            print(f"stopped: that command's exit status is {status}", file=sys.stderr)
            return status
        done.append(command)
        written = {"scale": asdict(scale), "model": args.model, "rows": results(args.out, done)}
        part = args.out / "results.part"
        part.write_text(json.dumps(written, indent=1) + "\n")
        part.replace(args.out / "results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
