"""The board's own submissions: what `compare.py` played, verified by replay.

    python recipes/house/board.py OUT submissions [--model NAME]

OUT is the folder of `compare.py`, which began from that model. Every agent has a folder for each benchmark
that it was played on, so that one can be replayed where another's data is not at hand; panels and a method's
seeds are its runs. The floors and the ceiling are played here. A folder that is there is left as it is, and
verified where the ledger lacks it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
import sys
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors import safe_open

from prosegym.baselines.agents import SHIPPED
from prosegym.cli import main as prosegym
from prosegym.leaderboard import ledger
from prosegym.leaderboard.submission import read
from prosegym.leaderboard.verify import verify

RESULTS = Path(__file__).parents[1] / "results"
FLOORS = ("null", "random", "expert")
BENCHMARKS = {"Household-v1": "", "ALFWorld-v1": "-alfworld", "TextWorld-Cooking-v1": "-cooking"}
"""What ends the names of its folders."""
CHOSEN = "The curve's first twelve points chose actions token by token, the others whole."


@dataclass(frozen=True)
class Model:
    """What the board says of a model, and of what was trained from it."""

    prefix: str
    """Of its folders."""
    method: str
    about: str
    tokens: int
    """Of its training."""
    curve: str
    phases: tuple[str, ...]
    """Of the curve."""
    games: str = "Household's train split and ALFWorld's train games"
    valid: str = "Household-v1/valid"
    """What learning rates were chosen on."""
    practised: bool = False
    """Whether it played itself what it learnt from."""


MODELS = {
    "house-1m": Model(
        "house",
        "DAgger",
        f"From random weights: the searching expert's lessons, then two rounds of practice. {CHOSEN}",
        49_000_000,
        "house-cpu-validation.jsonl",
        ("pretrain", "practice-1", "practice-2"),
        practised=True,
    ),
    "house-novice": Model(
        "house-novice",
        "Imitation",
        "house-1m before it practised: from random weights, the searching expert's lessons. The curve chose "
        "actions token by token.",
        27_300_000,
        "house-cpu-validation.jsonl",
        ("pretrain",),
    ),
    "house-novice-seed1": Model(
        "house-novice-seed1",
        "Imitation",
        "house-novice's lessons, from other random weights.",
        27_300_000,
        "house-seed1-validation.jsonl",
        ("pretrain",),
    ),
    "house-textworld": Model(
        "house-textworld",
        "Imitation",
        "From random weights: TextWorld's kitchens and TextWorld-Express's, played by their experts; most "
        "foods have other names there.",
        38_400_000,
        "house-textworld-validation.jsonl",
        ("pretrain", "practice-1"),
        "Cooking's train split, other games built as it is, and TextWorld-Express's kitchens",
        "TextWorld-Cooking-v1/valid",
    ),
}
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
IMITATORS = ("base", "sft", "retry", "retry-other-task", "retry-no-memory")
"""Those whose weights saw no play but the expert's, where the model that they began from had not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--model", choices=MODELS, default="house-1m")
    args = parser.parse_args()
    results = json.loads((args.out / "results.json").read_text())
    scale, model = results["scale"], MODELS[args.model]
    for benchmark, ending in BENCHMARKS.items():
        panels = [panel for panel in scale["panels"] if panel.startswith(f"{benchmark}/")]
        for name in (*FLOORS, "base", *AGENTS):
            own = "" if benchmark == scale["env"] else ending
            made = args.submissions / (f"{name}{ending}" if name in FLOORS else f"{model.prefix}-{name}{own}")
            runs = [run for panel in panels for run in played(args.out / "runs" / panel, name)]
            if not (made.exists() or runs or (panels and name in FLOORS)):
                continue
            if not made.exists():
                if name in FLOORS:
                    runs = [args.out / "runs" / panel / name for panel in panels]
                    for panel, folder in zip(panels, runs, strict=True):
                        kept = shlex.quote(str(folder))
                        run(f"evaluate --panel {panel} --tasks {scale['tasks']} --agent {name} --out {kept}")
                    about = ""
                else:
                    told = args.out / "card.json"
                    told.write_text(json.dumps(card(name, args.model, results["model"])))
                    about = shlex.join(["--card", str(told), "--trained-on", str(args.out / "expert.jsonl")])
                run(f"submit {shlex.join(map(str, runs))} {about} --xz --out {shlex.quote(str(made))}")
            enter(made, args.submissions / "ledger.jsonl")


def enter(made: Path, book: Path) -> None:
    """Verify a submission and write it in the ledger, unless the ledger knows it."""
    if read(made)[1] in {entry.submission for entry in ledger.check(book)}:  # what was removed stays out
        return
    report = verify(made)
    if not report.ok or report.card is None:
        sys.exit(f"{made} is refused: {'; '.join(report.problems)}")
    reason = "The project's own: recipes/house/board.py"
    ledger.append(book, "added", report.digest, agent=report.card.agent, reason=reason)


def played(folder: Path, name: str) -> list[Path]:
    """The runs of an agent or, of a method, of its seeds."""
    return [run for run in sorted(folder.glob(f"{name}*")) if re.fullmatch(name + r"(-\d+)?", run.name)]


def run(command: str) -> None:
    """One command of the package; an error ends it all."""
    print(f"\n$ prosegym {command}", flush=True)
    if status := prosegym(shlex.split(command)):
        sys.exit(status)


def card(name: str, model: str, weights: str) -> dict[str, Any]:
    """What is said of an agent beside its numbers; `weights` is the name or folder of what it began from."""
    began = MODELS[model]
    method, about = AGENTS.get(name, (began.method, began.about))
    with safe_open(SHIPPED.get(weights, Path(weights)) / "model.safetensors", "pt") as file:
        parameters = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118 (no dictionary)
    points, before = [], 0
    written = map(json.loads, (RESULTS / began.curve).read_text().splitlines())
    lines = [line for line in written if line["phase"] in began.phases]
    for _, phase in itertools.groupby(lines, itemgetter("phase")):
        rows = list(phase)
        points += [(before + row["step"], row["success"]) for row in rows]
        before += rows[-1]["step"]
    curve = {"curve": points, "curve_unit": "optimizer steps"} if name == "base" else {}
    imitated = name in IMITATORS and not began.practised
    return {
        "agent": model if name == "base" else f"{model}, {name.replace('_', ' ')}",
        "track": "retry" if name.startswith("retry") else "trained",
        "method": method,
        "about": about,
        "authors": "prosegym",
        "base_model": "none: random weights" if name == "base" else model,
        "parameters": parameters,
        "training_data": f"{began.games}, played by the expert{'' if imitated else ' and the model itself'}; "
        f"learning rates chosen on {began.valid}",
        "training_panels": [began.valid],
        "hardware": "two CPU cores",
        "tokens": began.tokens,
        "license": "Apache-2.0",
        **curve,
    }


if __name__ == "__main__":
    main()
