"""The main job, on two CPU cores: games, expert episodes, SFT from scratch, one ETO iteration, a board.

    python recipes/demo.py [OUT] [--quick]

Coin Collector's chains of rooms: a coin lies at the end of 5, 10 or 20 rooms, and one must not turn back.
Every step but one is a `prosegym` command, printed before it runs; what is done is not done again, so after
an interruption the same call goes on. The settings were chosen on training and validation games alone.
"""

from __future__ import annotations

import argparse
import random
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from prosegym.cli import main as prosegym
from prosegym.envs import trajectory as records
from prosegym.envs.trajectory import Trajectory

ENV = "prosegym/TextWorld-CoinCollector-v1"
PANEL = "TextWorld-CoinCollector-v1/chains"
LEVELS = ("level-5", "level-10", "level-20")
LEARNT = 14
"""Games of each level that SFT learns from; ETO explores the others, too: there it has something to learn."""
TURNS = 4
"""How often each game is turned to make another one to learn from."""
FORM = "--agent.format bare --agent.decoding trie --agent.max-tokens 24 --agent.temperature 0.5"
SFT = (
    "--observations 0.05 --optim.learning-rate 2e-3 --optim.epochs 6 --optim.batch-size 2 "
    "--optim.warmup 0.05 --optim.floor 0.1 --optim.weight-decay 0.01"
)
ETO = (
    "--cloned --iterations 1 --imitation 1 --beta 0.1 --optim.learning-rate 3e-5 --optim.epochs 1 "
    "--optim.batch-size 4 --optim.tokens 8192 --extra-turns 5"
)
AGENTS = ("null", "random", "expert", "sft", "eto")

POINTS = ("north", "east", "south", "west")
_POINT = re.compile(r"\b(north|east|south|west)\b")


def turned(trajectory: Trajectory, rng: random.Random) -> Trajectory:
    """The same episode on a map that is turned, and mirrored half the time: as good a game, and a new one."""
    quarter, mirror = rng.randrange(4), rng.random() < 0.5
    new = {p: POINTS[((-i if mirror else i) + quarter) % 4] for i, p in enumerate(POINTS)}

    def turn(text: str) -> str:
        return _POINT.sub(lambda found: new[found[1]], text)

    steps = [
        msgspec.structs.replace(
            s, observation=turn(s.observation), response=turn(s.response), action=turn(s.action)
        )
        for s in trajectory.steps
    ]
    end = turn(trajectory.final_observation)
    return msgspec.structs.replace(trajectory, steps=steps, final_observation=end)


def turn_all(source: Path, target: Path) -> None:
    """Write the episodes of each level's first games, and `TURNS` turned ones of each, to learn from.

    The turned ones are no record of any game.
    """
    rng = random.Random(0)
    known: dict[str, list[Trajectory]] = {}
    for episode in sorted(records.read(source), key=lambda t: t.task_id):
        known.setdefault(episode.task_id.split("/")[1], []).append(episode)
    experts = [episode for level in known.values() for episode in level[:LEARNT]]
    copies = [turned(e, rng) for e in experts for _ in range(TURNS)]
    count = records.write(target, [*experts, *copies])
    print(f"{count} episodes in {target}")


Step = tuple[str, str | Callable[[], None], Path | None]
"""A line for the reader, the command (or what is called), and what says that it is done already."""


def steps(out: Path, games: int, tasks: int, more: str) -> list[Step]:
    """All that is done, in order."""
    expert, lessons = out / "expert.jsonl", out / "lessons.jsonl"
    plan: list[Step] = [
        (
            f"{games} games of {level}, each played by an expert that knows only what it has seen",
            f"collect --agent expert --env {ENV} --env-arg level={level} --episodes {games} --out {expert}",
            None,
        )
        for level in LEVELS
    ]
    plan += [
        ("the same games turned, as further lessons", lambda: turn_all(expert, lessons), lessons),
        (
            "a small model from random weights, trained on those lessons",
            f"train sft --env {ENV} --model scratch:350k --vocabulary 700 --context 8192 --data {lessons} "
            f"{FORM} {SFT} {more} --out {out}/sft",
            None,
        ),
        (
            "one ETO iteration: explore the training games, contrast with the expert, optimise",
            f"train eto --env {ENV} --model {out}/sft --data {expert} {FORM} {ETO} {more} --out {out}/eto",
            None,
        ),
    ]
    for name in AGENTS:
        agent = out / name if name in ("sft", "eto") else name
        command = f"evaluate --agent {agent} --panel {PANEL} --tasks {tasks} --out {out}/runs/{name}"
        plan.append((f"{name} on {tasks} test games", command, None))
    plan += [
        ("is SFT better than chance?", f"compare {out}/runs/random {out}/runs/sft", None),
        ("is ETO better than SFT?", f"compare {out}/runs/sft {out}/runs/eto", None),
    ]
    for name in AGENTS:
        folder = out / "submissions" / name
        plan.append((f"submit {name}", f"submit {out}/runs/{name} --out {folder}", folder))
        plan.append((f"verify {name} by replay", f"verify {folder}", None))
    plan.append(("the board", f"board build --submissions {out}/submissions --out {out}/site", None))
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo-out"))
    parser.add_argument("--quick", action="store_true", help="a few games and steps: to see that it runs")
    args = parser.parse_args()
    games, tasks, more = (2, 3, "--max-steps 4") if args.quick else (20, 30, "")
    plan = steps(args.out, games, tasks, more)
    began = time.monotonic()
    for number, (about, command, done) in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] {about}", flush=True)
        if done is not None and done.exists():
            print("done before")
            continue
        clock = time.monotonic()
        if not isinstance(command, str):
            command()
        else:
            print(f"$ prosegym {command}", flush=True)
            if status := prosegym(shlex.split(command)):
                print(f"stopped: that command's exit status is {status}", file=sys.stderr)
                return status
        print(f"({time.monotonic() - clock:.0f} s)")
    print(f"\nAll of it took {(time.monotonic() - began) / 60:.1f} minutes. Open {args.out}/site/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
