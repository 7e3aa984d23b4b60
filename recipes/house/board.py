"""The board's own submissions: what `compare.py` played on Household's test panel, verified by replay.

    python recipes/house/board.py OUT submissions [--model NAME]

OUT is the folder of `compare.py`, which began from that model. Every agent is a folder, a method's seeds are
its runs; the floors and the ceiling are played here. A folder that is there already is left as it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors import safe_open

from prosegym.baselines.agents import SHIPPED
from prosegym.cli import main as prosegym
from prosegym.leaderboard import ledger
from prosegym.leaderboard.verify import verify

PANEL = "Household-v1/test"
RESULTS = Path(__file__).parents[1] / "results"
FLOORS = ("null", "random", "expert")
CHOSEN = "The curve's first twelve points chose actions token by token, the others whole."
MODELS = {
    "house-1m": (
        "DAgger",
        f"From random weights: the searching expert's lessons, then two rounds of practice. {CHOSEN}",
        49_000_000,
        "house-cpu-validation.jsonl",
        ("pretrain", "practice-1", "practice-2"),
    ),
    "house-novice": (
        "Imitation",
        "house-1m before it practised: from random weights, the searching expert's lessons. The curve chose "
        "actions token by token.",
        27_300_000,
        "house-cpu-validation.jsonl",
        ("pretrain",),
    ),
    "house-novice-seed1": (
        "Imitation",
        "house-novice's lessons, from other random weights.",
        27_300_000,
        "house-seed1-validation.jsonl",
        ("pretrain",),
    ),
}
"""Method, what to say of it, tokens, its curve and the phases of that."""
AGENTS = {
    "sft": ("SFT", "25 more steps of imitation: the control of the methods below it."),
    "rft": ("RFT", "Cloned from the expert's episodes and the model's own successes."),
    "eto": ("ETO", "One iteration."),
    "stepagent": ("StepAgent-Implicit", "One cycle."),
    "stepagent_inverse": ("StepAgent-Inverse", "One cycle."),
    "ipr": ("IPR", "One iteration."),
    "retroact": ("RetroAct", "One iteration; its planner alone, at its first try."),
    "retry": ("Reflexion", "Up to four tries, with notes by rule on the failed ones."),
    "retry-other-task": ("Reflexion", "A control: up to four tries, with another task's notes."),
    "retry-no-memory": ("Reflexion", "A control: up to four tries, drawn at temperature 1, without notes."),
    "retry-model": (
        "Reflexion",
        "Up to four tries, with notes by a model that learnt to write them as the rule does.",
    ),
    "retry-retroformer": ("Retroformer", "Up to four tries; its reflector began as that of retry-model."),
    "retry-retroact": ("RetroAct", "Up to four tries; its reflector began as that of retry-model."),
}
"""Method, and what to say of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--model", choices=MODELS, default="house-1m")
    args = parser.parse_args()
    results = json.loads((args.out / "results.json").read_text())
    folder, tasks = args.out / "runs" / PANEL, results["scale"]["tasks"]
    prefix = "house" if args.model == "house-1m" else args.model
    for name in (*FLOORS, "base", *AGENTS):
        made = args.submissions / (name if name in FLOORS else f"{prefix}-{name}")
        runs = [r for r in sorted(folder.glob(f"{name}*")) if re.fullmatch(name + r"(-\d+)?", r.name)]
        if made.exists() or not (runs or name in FLOORS):
            continue
        if name in FLOORS:
            run(f"evaluate --panel {PANEL} --tasks {tasks} --agent {name} --out {folder / name}")
            run(f"submit {folder / name} --xz --out {made}")
        else:
            told = args.out / "card.json"
            told.write_text(json.dumps(card(name, args.model)))
            about = f"--card {told} --trained-on {args.out / 'expert.jsonl'}"
            run(f"submit {shlex.join(map(str, runs))} {about} --xz --out {made}")
        report = verify(made)
        if not report.ok or report.card is None:
            sys.exit(f"{made} is refused: {'; '.join(report.problems)}")
        ledger.append(
            args.submissions / "ledger.jsonl", "added", report.digest,
            agent=report.card.agent, reason="The project's own: recipes/house/board.py",
        )  # fmt: skip


def run(command: str) -> None:
    """One command of the package; an error ends it all."""
    print(f"\n$ prosegym {command}", flush=True)
    if status := prosegym(shlex.split(command)):
        sys.exit(status)


def card(name: str, model: str) -> dict[str, Any]:
    """What is said of an agent beside its numbers."""
    method, about, tokens, curve_file, phases = MODELS[model]
    if name in AGENTS:
        method, about = AGENTS[name]
    with safe_open(SHIPPED["house"] / "model.safetensors", "pt") as file:
        parameters = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118 (no dictionary)
    points, before = [], 0
    written = map(json.loads, (RESULTS / curve_file).read_text().splitlines())
    lines = [line for line in written if line["phase"] in phases]
    for _, phase in itertools.groupby(lines, itemgetter("phase")):
        rows = list(phase)
        points += [(before + row["step"], row["success"]) for row in rows]
        before += rows[-1]["step"]
    curve = {"curve": points, "curve_unit": "optimizer steps"} if name == "base" else {}
    return {
        "agent": model if name == "base" else f"{model}, {name.replace('_', ' ')}",
        "track": "retry" if name.startswith("retry") else "trained",
        "method": method,
        "about": about,
        "authors": "prosegym",
        "base_model": "none: random weights" if name == "base" else model,
        "parameters": parameters,
        "training_data": "Household's train split and ALFWorld's train games, played by the searching expert "
        "and the model itself; learning rates chosen on Household's valid panel",
        "training_panels": ["Household-v1/valid"],
        "hardware": "two CPU cores",
        "tokens": tokens,
        "license": "Apache-2.0",
        **curve,
    }


if __name__ == "__main__":
    main()
