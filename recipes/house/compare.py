"""Methods on top of one house model, each with the same games and optimizer steps, and their controls.

    python recipes/house/compare.py OUT [--model house] [--reflector MODEL] [--scale cpu]

First try: SFT goes on with the experts' episodes (the control of all others: replay, nothing else), RFT, ETO,
StepAgent, IPR, RetroAct, some seeds each. Retries, four trials: Reflexion with notes by rule or by a model,
Retroformer's and RetroAct's reflectors, which begin as that model, and the controls: no memory (sampled), a
memory of another task. Every step is a `prosegym` command; the same call goes on where it was interrupted.
OUT/results.json has every number with its command.

A method's learning rate is chosen by success on the valid panel (Retroformer's: within four trials), among
the same rates for all, with the first seed; IPR has ETO's. The other settings are the ones below, the
checkpoint is the last. Nothing is chosen on a panel that is reported.
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
from prosegym.envs import data, trajectory
from prosegym.evaluation.compare import Outcomes, compare, outcomes, paired, together
from prosegym.evaluation.runs import Run
from prosegym.evaluation.statistics import clustered_bootstrap


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    games: int
    """Training games: the experts' episodes, and what is explored."""
    steps: int
    """Optimizer steps of every method, its phases together."""
    seeds: int
    tasks: int
    """Tasks of each panel at most."""
    methods: tuple[str, ...]
    rates: tuple[str, ...]
    """Learning rates to choose from."""
    env: str = "Household-v1"
    """What the methods train on."""
    panels: tuple[str, ...] = ("Household-v1/test", "ALFWorld-v1/valid_seen", "ALFWorld-v1/valid_unseen")
    """What is reported; without its data, a panel is left out."""
    reflectors: tuple[str, ...] = ()
    """Methods that train a reflector, where a model can write notes."""
    agent: str = ""
    """What every agent is given besides."""


STEPWISE = ("stepagent", "stepagent_inverse", "ipr")
SCALES = {
    "tiny": Scale(8, 2, 1, 4, ("sft", "eto"), ("1e-4", "1e-5"), reflectors=("retroact",)),
    "cpu": Scale(
        200, 25, 3, 200, ("sft", "rft", "eto", "stepagent", "stepagent_inverse"), ("3e-4", "1e-4", "3e-5")
    ),
    "novice": Scale(
        200, 25, 3, 200, ("sft", "rft", "eto", *STEPWISE), ("3e-4", "1e-4", "3e-5"),
        reflectors=("retroformer", "retroact"),
    ),
    "textworld": Scale(
        100, 25, 3, 200, ("sft", "rft", "eto", *STEPWISE), ("3e-4", "1e-4"),
        "TextWorld-Cooking-v1", ("TextWorld-Cooking-v1/test",), ("retroformer", "retroact"),
    ),
    "gpu": Scale(
        2000, 200, 3, 200, ("sft", "rft", "eto", *STEPWISE), ("3e-4", "1e-4", "3e-5", "1e-5"),
        reflectors=("retroformer", "retroact"),
        # As what is trained; the base would play in its bfloat16 on a GPU.
        agent=" --agent-arg dtype=float32",
    ),
}  # fmt: skip
OPTIM = "{0}epochs 50 {0}batch-size 8 {0}schedule cosine {0}warmup 0.05 {0}learning-rate RATE"
PAIRS = f"--cloned {OPTIM.format('--optim.')}"
METHODS = {
    "sft": OPTIM.format("--optim."),
    "rft": f"--cloned {OPTIM.format('--cloning.optim.')}",
    "eto": f"--iterations 1 --imitation 1 {PAIRS}",
    "stepagent": f"--cycles 1 --imitation 1 {PAIRS}",
    "stepagent_inverse": f"--cycles 1 {PAIRS}",
    "ipr": f"--iterations 1 {PAIRS}",
    "retroact": f"{OPTIM.format('--cloning.optim.')} {OPTIM.format('--optim.')}",
    "retroformer": "--cloning.learning-rate RATE --judging.learning-rate RATE --optim.learning-rate RATE",
}
"""Each method's settings; RATE stands for the learning rate."""
LIKE = {"ipr": "eto"}
"""Whose learning rate a method has, where finding its own would cost too much: the same loss, dearer play."""
PHASES = {"retroact": 2, "retroformer": 5}
"""How many phases of one model share the optimizer steps, where it is not one."""
REFLEXION = "--agent reflexion --agent-arg trials=4"
RETRIES = {
    "retry-no-memory": "--agent-arg reflector=rule --agent-arg strategy=base --agent-arg temperature=1.0",
    "retry-other-task": "--agent-arg reflector=rule --agent-arg control=other_task",
    "retry": "--agent-arg reflector=rule",
}


def installed(panel: str) -> bool:
    """Whether a panel's data is there."""
    return not panel.startswith("ALFWorld") or data.here("alfworld")


def commands(out: Path, model: str, scale: Scale, reflector: str = "") -> Iterator[str]:
    """All that is done, in order; `reflector` writes notes, where it is not the model itself."""
    at, model = shlex.quote(str(out)), shlex.quote(model)
    reflector = reflector and shlex.quote(reflector)
    expert = f"{at}/expert.jsonl"
    env = f"prosegym/{scale.env}"
    panels = [panel for panel in scale.panels if installed(panel)]

    def evaluated(panel: str, name: str, agent: str) -> str:
        kept = f"{at}/runs/{panel}/{name}"
        return f"evaluate --panel {panel} --tasks {scale.tasks} --out {kept} {agent}{scale.agent}"

    def trained(method: str, rate: str, seed: int) -> str:
        begins = f"--reflector {reflector} " if reflector and method in scale.reflectors else ""
        return (
            f"train {method} --env {env} --model {model} --data {expert} "
            f"{METHODS[method].replace('RATE', rate)} --max-steps {scale.steps // PHASES.get(method, 1)} "
            f"--seed {seed} {begins}--no-evaluate --out {folder(method, rate, seed)}"
        )

    def folder(method: str, rate: str, seed: int) -> str:
        return f"{at}/{method}-{rate}-{seed}"

    def retrying(actor: str) -> str:
        return f"{REFLEXION} --model {actor} --agent-arg reflector={actor}/reflector"

    yield f"collect --agent expert --env {env} --episodes {scale.games} --out {expert}"
    retries = dict(RETRIES)
    if scale.reflectors:
        retries["retry-model"] = f"--agent-arg reflector={reflector or model}"
    for panel in panels:
        yield evaluated(panel, "base", f"--agent {model}")
        for name, settings in retries.items():
            yield evaluated(panel, name, f"{REFLEXION} --model {model} {settings}")
    best = {}
    tried = tuple(dict.fromkeys((*scale.methods, *scale.reflectors)))
    for method in [m for m in tried if LIKE.get(m) not in tried]:
        for rate in scale.rates:
            yield trained(method, rate, 0)
            actor = folder(method, rate, 0)
            agent = retrying(actor) if method == "retroformer" else f"--agent {actor}"
            kept = shlex.quote(str(tuning(out, method, rate)))
            panel = f"{scale.env}/valid"
            yield f"evaluate --panel {panel} --tasks {scale.tasks} --out {kept} {agent}{scale.agent}"
        best[method] = max(
            scale.rates, key=lambda rate: Run.read(tuning(out, method, rate)).summary().success.value
        )
    best |= {method: best[other] for method, other in LIKE.items() if other in best}
    for method in tried:
        for seed in range(scale.seeds):
            yield trained(method, best[method], seed)
            actor = folder(method, best[method], seed)
            for panel in panels:
                if method != "retroformer":  # its actor is the base
                    yield evaluated(panel, f"{method}-{seed}", f"--agent {actor}")
                if method in scale.reflectors:
                    yield evaluated(panel, f"retry-{method}-{seed}", retrying(actor))


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
        control = folder.parent / control_of(folder.name)
        if control != folder and control.exists():
            row["minus_control"] = asdict_of(compare(run, Run.read(control)).success)
        rows.append(row)
    return rows


def pooled(out: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each method's seeds together, on each panel: a task is drawn with what all seeds made of it."""
    seeds: dict[tuple[str, str], list[Path]] = {}
    for row in rows:
        method, _, seed = row["name"].rpartition("-")
        if seed.isdigit():
            seeds.setdefault((row["panel"], method), []).append(out / "runs" / row["panel"] / row["name"])
    found = []
    for (panel, method), runs in seeds.items():
        if len(runs) > 1:
            all_seeds, others = played(runs), out / "runs" / panel
            sft = seeds.get((panel, "sft"), []) if method != "sft" else []
            control = [others / "retry-model"] if method.startswith("retry-") else sft
            row: dict[str, Any] = {
                "name": method,
                "panel": panel,
                "seeds": len(runs),
                "success": asdict_of(
                    clustered_bootstrap([[e[0] for e in task] for task in all_seeds.values()])
                ),
                "minus_base": asdict_of(paired(all_seeds, played([others / "base"])).success),
            }
            if control:
                row["minus_control"] = asdict_of(paired(all_seeds, played(control)).success)
            row["trials"] = mean_by_trial([success_by_trial(Run.read(run)) for run in runs])
            found.append(row)
    return found


def played(runs: list[Path]) -> Outcomes:
    """What came of each task in all of these runs."""
    return together([outcomes(Run.read(run).finished) for run in runs])


def control_of(name: str) -> str:
    """The run beside which another stands: SFT of its seed, another task's notes, the untrained reflector."""
    if name == "retry":
        return "retry-other-task"
    method, _, seed = name.rpartition("-")
    if not seed.isdigit():
        return name
    return "retry-model" if method.startswith("retry-") else f"sft-{seed}"


def tuned(out: Path) -> dict[str, float]:
    """Success on the valid panel with each learning rate that was tried."""
    return {
        run.name: round(Run.read(run).summary().success.value, 4)
        for run in sorted((out / "tuning").glob("*"))
    }


def explored(out: Path, done: list[str]) -> dict[str, dict[str, int]]:
    """Episodes and environment steps that each training played itself."""
    found = {}
    for words in map(shlex.split, done):
        if words[0] == "train":
            folder = Path(words[words.index("--out") + 1])
            files = [p for p in folder.glob("*.jsonl") if "metrics" not in p.name and "notes" not in p.name]
            played = [len(t.steps) for path in files for t in trajectory.read(path)]
            found[str(folder.relative_to(out))] = {"episodes": len(played), "steps": sum(played)}
    return found


def curves(out: Path, rows: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """The loss at each optimizer step of each method's last phase, a list for each seed."""
    found: dict[str, list[list[float]]] = {}
    for command in dict.fromkeys(row["command"] for row in rows if row["name"][-1].isdigit()):
        words = shlex.split(command)
        method = Path(words[words.index("--out") + 1]).name.rpartition("-")[0]
        if words[words.index("--agent") + 1] == "reflexion" or rows[0]["panel"] not in words:
            continue
        log = Path(words[words.index("--agent") + 1]) / "metrics.jsonl"
        steps = [line for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]
        losses = [round(line["loss"], 4) for line in steps if line["phase"] == steps[-1]["phase"]]
        found.setdefault(method, []).append(losses)
    return found


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


def mean_by_trial(seeds: list[list[float]]) -> list[float]:
    """The mean over seeds; one that has solved all needs no more trials, and keeps what it has."""
    most = max(map(len, seeds))
    return [round(sum(s[min(k, len(s) - 1)] for s in seeds) / len(seeds), 4) for k in range(most)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="house")
    parser.add_argument("--reflector", default="", help="writes notes and becomes the methods' reflectors")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    args = parser.parse_args()
    scale = SCALES[args.scale]
    done: list[str] = []
    try:
        for command in commands(args.out, args.model, scale, args.reflector):
            print(f"\n[{len(done) + 1}] $ prosegym {command}", flush=True)
            if status := prosegym(shlex.split(command)):
                print(f"stopped: that command's exit status is {status}", file=sys.stderr)
                return status
            done.append(command)
    finally:  # what was done before an interruption is told, too
        rows = results(args.out, done)
        written = {
            "scale": asdict(scale), "model": args.model, "reflector": args.reflector,
            "tuning": tuned(args.out), "explored": explored(args.out, done),
            "curves": curves(args.out, rows), "pooled": pooled(args.out, rows), "rows": rows,
        }  # fmt: skip
        part = args.out / "results.part"
        part.write_text(json.dumps(written, indent=1) + "\n")
        part.replace(args.out / "results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
