"""The main job, on two CPU cores: a small model plays, learns, fails, reflects and wins; then a board.

    python recipes/demo.py [OUT] [--quick]

Household: chores in generated rooms. The model comes with the package (`--model novice`; `recipes/house` made
it; `house` is what became of it with practice), the test rooms are in no lesson of it. Every step but one is
a `prosegym` command, printed before it runs; what is done is not done again, so after an interruption the
same call goes on.
"""

from __future__ import annotations

import shlex
import sys
from itertools import zip_longest
from pathlib import Path

from plan import Step, follow

from prosegym.envs import trajectory as records

ENV = "prosegym/Household-v1"
PANEL = "Household-v1/test"
TUNE = (
    "--cloned --iterations 1 --imitation 1 --optim.epochs 50 --optim.batch-size 8 --optim.schedule cosine "
    "--optim.warmup 0.05 --optim.learning-rate 3e-4"
)
"""Those of `recipes/house/compare.py`, which chose the learning rate on games of the valid split."""
RETRY = "--agent reflexion --model novice --agent-arg trials=2 --agent-arg reflector=rule"


def steps(out: Path, quick: bool) -> list[Step]:
    """All that is done, in order."""
    games, tasks, updates = (8, 4, 2) if quick else (200, 100, 25)
    at = shlex.quote(str(out))
    runs, expert = f"{at}/runs", f"{at}/expert.jsonl"
    evaluate = f"evaluate --panel {PANEL} --tasks {tasks} --out {runs}"
    plan: list[Step] = [
        (f"{name} on {tasks} rooms of the test split", f"{evaluate}/{name} --agent {name}", None)
        for name in ("null", "random", "expert", "novice", "house")
    ]
    plan += [
        (
            f"{games} training rooms, played by an expert that knows only what it has seen",
            f"collect --agent expert --env {ENV} --episodes {games} --out {expert}",
            None,
        ),
        (
            "one ETO iteration: explore those rooms, contrast with the expert, optimise",
            f"train eto --env {ENV} --model novice --data {expert} {TUNE} --max-steps {updates} "
            f"--no-evaluate --out {at}/eto",
            None,
        ),
        ("what it learnt", f"{evaluate}/eto --agent {at}/eto", None),
        ("is it better?", f"compare {runs}/novice {runs}/eto", None),
        (
            "a second try where the first failed, with a note on what was seen in it",
            f"{evaluate}/retry {RETRY}",
            None,
        ),
        (
            "the control: a second try with the note on another room",
            f"{evaluate}/control {RETRY} --agent-arg control=other_task",
            None,
        ),
        ("does the note help?", f"compare {runs}/control {runs}/retry", None),
        ("a failed try, the note on it, and the next try", lambda: show_retry(out / "runs" / "retry"), None),
    ]
    for name in ("null", "random", "expert", "novice", "house", "eto", "retry", "control"):
        folder = f"{at}/submissions/{name}"
        trained = f"--trained-on {expert}" if name == "eto" else ""
        submit = f"submit {runs}/{name} {trained} --out {folder}"
        plan.append((f"submit {name}", submit, out / "submissions" / name))
        plan.append((f"verify {name} by replay", f"verify {folder}", None))
    plan.append(("the board", f"board build --submissions {at}/submissions --out {at}/site", None))
    return plan


def show_retry(run: Path) -> None:
    """Print the shortest task that was solved at the second try: both tries side by side, and the note."""
    tries = {t.key: t for t in records.read(run / "episodes.jsonl")}
    won = [t for t in tries.values() if t.trial == 1 and t.success]
    if not won:
        print("no room was solved at the second try")
        return
    second = min(won, key=lambda t: (len(t.steps), t.task_id))
    first = tries[second.task_id, second.attempt, 0]
    print(first.steps[0].observation.rpartition("\n\n")[2])
    print(f"The note: {second.memory[-1]}\n")
    columns = zip_longest(first.actions, second.actions, fillvalue="")
    print(f"{'first try':45}second try")
    for line, (a, b) in enumerate(columns):
        if line == 25:
            print(f"... ({len(first.steps)} steps in all)")
            break
        print(f"{a:45}{b}".rstrip())
    print(f"{'failed':45}solved")


if __name__ == "__main__":
    sys.exit(follow(__doc__, steps))
