"""A policy from random weights, on two CPU cores: games, expert episodes, SFT, one ETO iteration, a board.

    python recipes/cooking.py [OUT] [--quick]

TextWorld's Cooking in one room: read the cookbook, take what the recipe names, cut and cook it as it says,
prepare the meal, eat it. The test games' foods are in no training game. Every step but one is a `prosegym`
command, printed before it runs; what is done is not done again, so after an interruption the same call goes
on. The settings were chosen on training and validation games alone.
"""

from __future__ import annotations

import random
import re
import shlex
import sys
from pathlib import Path

import msgspec
from plan import Step, follow

from prosegym.envs import trajectory as records
from prosegym.envs.trajectory import Trajectory

ENV = "prosegym/TextWorld-Cooking-v1"
PANEL = "TextWorld-Cooking-v1/one-room"
LEVELS = ("recipe1", "recipe1+take1", "recipe1+cook", "recipe1+cut")
MAX_STEPS = 20
"""Three times what the expert needs: who has not eaten by then has lost the thread."""
LEARNT = 14
"""Games of each level that SFT learns from; ETO explores the others, too: there it has something to learn."""
COPIES = 6
"""How often each game is written down again with another name for its food."""
FORM = "--agent.format bare --agent.decoding trie --agent.max-tokens 24"
SFT = (
    "--observations 0.05 --optim.learning-rate 2e-3 --optim.epochs 4 --optim.batch-size 4 "
    "--optim.warmup 0.05 --optim.floor 0.1 --optim.weight-decay 0.01"
)
ETO = (
    "--cloned --iterations 1 --imitation 1 --beta 0.1 --optim.learning-rate 3e-5 --optim.epochs 1 "
    "--optim.batch-size 4 --optim.tokens 8192 --extra-turns 5"
)
AGENTS = ("null", "random", "expert", "sft", "eto")

_FOOD = re.compile(r"Ingredients:\n(.*)\n")
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


def renamed(trajectory: Trajectory, rng: random.Random) -> Trajectory:
    """The same episode with an invented name for its food: the model must read the name, not know it."""
    food = _FOOD.search("\n".join(step.observation for step in trajectory.steps))
    assert food is not None, trajectory.task_id
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) + rng.choice("nrst") for _ in range(2)]
    name = " ".join(words[: rng.randint(1, 2)])
    steps = [
        msgspec.structs.replace(
            s,
            observation=s.observation.replace(food[1], name),
            response=s.response.replace(food[1], name),
            action=s.action.replace(food[1], name),
        )
        for s in trajectory.steps
    ]
    end = trajectory.final_observation.replace(food[1], name)
    return msgspec.structs.replace(trajectory, steps=steps, final_observation=end)


def write_lessons(source: Path, target: Path) -> None:
    """Write the episodes of each level's first games, and `COPIES` renamed ones of each, to learn from.

    The renamed ones are no record of any game.
    """
    rng = random.Random(0)
    known: dict[str, list[Trajectory]] = {}
    for episode in sorted(records.read(source), key=lambda t: t.task_id):
        known.setdefault(episode.task_type, []).append(episode)
    experts = [episode for level in known.values() for episode in level[:LEARNT]]
    lessons = [*experts, *(renamed(e, rng) for e in experts for _ in range(COPIES))]
    rng.shuffle(lessons)
    print(f"{records.write(target, lessons)} episodes in {target}")


def steps(out: Path, quick: bool) -> list[Step]:
    """All that is done, in order."""
    games, tasks, more = (2, 4, "--max-steps 4") if quick else (20, 40, "")
    at = shlex.quote(str(out))
    expert, lessons = f"{at}/expert.jsonl", f"{at}/lessons.jsonl"
    limit = f"--env-kwargs '{{\"max_steps\": {MAX_STEPS}}}'"
    plan: list[Step] = [
        (
            f"{games} games of {level}, each played by an expert that knows only what it has seen",
            f"collect --agent expert --env {ENV} --env-arg level={level} --episodes {games} --out {expert}",
            None,
        )
        for level in LEVELS
    ]
    plan += [
        (
            "lessons: the same games, and again with other names",
            lambda: write_lessons(out / "expert.jsonl", out / "lessons.jsonl"),
            out / "lessons.jsonl",
        ),
        (
            "a small model from random weights, trained on those lessons",
            f"train sft --env {ENV} --model scratch:350k --vocabulary 700 --context 4096 --data {lessons} "
            f"{limit} {FORM} {SFT} {more} --no-evaluate --out {at}/sft",
            None,
        ),
        (
            "one ETO iteration: explore the training games, contrast with the expert, optimise",
            f"train eto --env {ENV} --model {at}/sft --data {expert} "
            f"{limit} {FORM} {ETO} {more} --no-evaluate --out {at}/eto",
            None,
        ),
    ]
    for name in AGENTS:
        agent = f"{at}/{name}" if name in ("sft", "eto") else name
        command = f"evaluate --agent {agent} --panel {PANEL} --tasks {tasks} "
        command += f"--env-arg max_steps={MAX_STEPS} --out {at}/runs/{name}"
        plan.append((f"{name} on {tasks} test games", command, None))
    plan += [
        ("is SFT better than chance?", f"compare {at}/runs/random {at}/runs/sft", None),
        ("is ETO better than SFT?", f"compare {at}/runs/sft {at}/runs/eto", None),
    ]
    for name in AGENTS:
        folder = f"{at}/submissions/{name}"
        trained = f"--trained-on {expert}" if name in ("sft", "eto") else ""
        submit = f"submit {at}/runs/{name} {trained} --out {folder}"
        plan.append((f"submit {name}", submit, out / "submissions" / name))
        plan.append((f"verify {name} by replay", f"verify {folder}", None))
    plan.append(("the board", f"board build --submissions {at}/submissions --out {at}/site", None))
    return plan


if __name__ == "__main__":
    sys.exit(follow(__doc__, steps))
