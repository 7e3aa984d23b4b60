"""Methods on top of one house model, each with the same games and optimizer steps, and their controls.

    python recipes/house/compare.py OUT [--model house] [--scale cpu|gpu|tiny]

First try: SFT goes on with the experts' episodes (the control of all others: replay, nothing else), RFT, ETO,
StepAgent, IPR, some seeds each. Retries, four trials: Reflexion with notes by rule, and its controls: no
memory (sampled), a memory of another task. Every step is a `prosegym` command; the same call goes on where it
was interrupted. OUT/results.json has every number with its command.

A method's learning rate is chosen by success on Household's valid panel, among the same rates for all, with
the first seed. The other settings are the ones below, the checkpoint is the last. Nothing is chosen on a
panel that is reported.
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
    rates: tuple[str, ...]
    """Learning rates to choose from."""


SCALES = {
    "tiny": Scale(8, 2, 1, 4, ("sft", "eto"), ("1e-4", "1e-5")),
    "cpu": Scale(
        200, 25, 3, 200, ("sft", "rft", "eto", "stepagent", "stepagent_inverse"), ("3e-4", "1e-4", "3e-5")
    ),
    "gpu": Scale(
        2000,
        200,
        3,
        200,
        ("sft", "rft", "eto", "stepagent", "stepagent_inverse", "ipr"),
        ("3e-4", "1e-4", "3e-5", "1e-5"),
    ),
}
OPTIM = "{0}epochs 50 {0}batch-size 8 {0}schedule cosine {0}warmup 0.05 {0}learning-rate"
PAIRS = f"--cloned {OPTIM.format('--optim.')}"
METHODS = {
    "sft": OPTIM.format("--optim."),
    "rft": f"--cloned {OPTIM.format('--cloning.optim.')}",
    "eto": f"--iterations 1 --imitation 1 {PAIRS}",
    "stepagent": f"--cycles 1 --imitation 1 {PAIRS}",
    "stepagent_inverse": f"--cycles 1 {PAIRS}",
    "ipr": f"--iterations 1 {PAIRS}",
}
"""Each method's settings, the learning rate left out at the end."""
VALID = "Household-v1/valid"
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

    def trained(method: str, rate: str, seed: int) -> str:
        return (
            f"train {method} --env {ENV} --model {model} --data {expert} {METHODS[method]} {rate} "
            f"--max-steps {scale.steps} --seed {seed} --out {out}/{method}-{rate}-{seed}"
        )

    best = {}
    for method in scale.methods:
        for rate in scale.rates:
            yield trained(method, rate, 0)
            agent = f"--agent {out}/{method}-{rate}-0"
            yield f"evaluate --panel {VALID} --tasks {scale.tasks} {agent} --out {tuning(out, method, rate)}"
        best[method] = max(
            scale.rates, key=lambda rate: Run.read(tuning(out, method, rate)).summary().success.value
        )
    for seed in range(scale.seeds):
        for method in scale.methods:
            yield trained(method, best[method], seed)
            for panel in panels():
                agent, run = f"{out}/{method}-{best[method]}-{seed}", f"{out}/runs/{panel}/{method}-{seed}"
                yield f"evaluate --panel {panel} --tasks {scale.tasks} --agent {agent} --out {run}"


def tuning(out: Path, method: str, rate: str) -> Path:
    """The run that says how good a learning rate is."""
    return out / "tuning" / f"{method}-{rate}"


def results(out: Path, done: list[str]) -> list[dict[str, Any]]:
    """What each evaluation measured, its command, and how it differs from the base model and the control."""
    rows = []
    for command in done:
        words = shlex.split(command)
        if words[0] != "evaluate":
            continue
        folder = Path(words[words.index("--out") + 1])
        if folder.parent.name == "tuning":
            continue
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


def tuned(out: Path) -> dict[str, float]:
    """Success on the valid panel with each learning rate that was tried."""
    return {
        run.name: round(Run.read(run).summary().success.value, 4)
        for run in sorted((out / "tuning").glob("*"))
    }


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
    done: list[str] = []
    for command in commands(args.out, args.model, scale):
        print(f"\n[{len(done) + 1}] $ prosegym {command}", flush=True)
        if status := prosegym(shlex.split(command)):
            print(f"stopped: that command's exit status is {status}", file=sys.stderr)
            return status
        done.append(command)
        written = {
            "scale": asdict(scale), "model": args.model,
            "tuning": tuned(args.out), "rows": results(args.out, done),
        }  # fmt: skip
        part = args.out / "results.part"
        part.write_text(json.dumps(written, indent=1) + "\n")
        part.replace(args.out / "results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
