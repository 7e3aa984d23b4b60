"""Differential fuzzing: our TextWorld-Express against the package's own environment, on the same games and actions.

    python tests/fuzz/fuzz_express.py --steps 50000 [--seed 0]

Ours plays three games at a time, often of one kind or one problem, taking turns at random; then the package, on a
machine of its own, plays each one alone. Parameters are drawn in and around their ranges; odd, invalid, almost
valid and overlong actions, `help`, gold paths and steps after the end are among the actions. After each, text,
list of valid actions in its order, score and end must be equal, and gold paths, where the engine does not draw
them. What differs is played again by the package: where it differs from itself, that is said. Exits 1 on any
difference.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import time
from typing import Any

from prosegym.envs.errors import ProsegymError
from prosegym.envs.express import env as express
from prosegym.envs.jvm import find_java

HOUSE = {"includeDoors": (0, 2), "limitInventorySize": (0, 2)}
PARAMS: dict[type[express.TextWorldExpress], dict[str, tuple[int, int]]] = {
    express.CookingWorld: HOUSE
    | {"numLocations": (1, 12), "numDistractorItems": (0, 10), "numIngredients": (1, 5)},
    express.TWC: HOUSE | {"numLocations": (1, 3), "numItemsToPutAway": (0, 4)},
    express.Coin: HOUSE | {"numLocations": (1, 12), "numDistractorItems": (0, 10)},
    express.MapReader: HOUSE
    | {"numLocations": (1, 50), "maxDistanceApart": (0, 8), "maxDistractorItemsPerLocation": (0, 3)},
    express.Arithmetic: {},
    express.Sorting: {},
    express.SimonSays: {
        "gameLength": (1, 12),
        "numDistractors": (0, 5),
        "memorization": (0, 2),
        "verbose": (0, 2),
    },
    express.PeckingOrder: {},
}
ODD = """| |help|Help| help|help |0|task|look around |\tinventory\n|LOOK AROUND|look  around|é|中文|😀|inventory\u00a0|\u3000inventory
|\ufeffinventory|"|\\|\\n|{}|quit|reset|score|take|put|inventory;inventory|inventory\ninventory|null|validActions""".split(
    "|"
)
ODD += ["x" * 2000, "inventory" + " " * 5000]

INSIDE = [*"\t\n\r\u00a0\u2003\u3000\u200b\ufeff\u0301,.;'1İıſ", "the", "a", "in", "to", "1", "  "]


def near_miss(action: str, other: str, draw: random.Random) -> str:
    """An action that is almost the given one: some of these the engine takes."""
    words, odd = action.split(), draw.choice(INSIDE)
    at = draw.randrange(len(words))
    spaced = (odd.join(words), f"{odd}{action}", f"{action}{odd}", "  ".join(words), f"{action}\n")
    worded = (
        f"{words[0]} {other}",
        " ".join(words[:at] + words[at + 1 :]),
        " ".join([*words[:at], odd, *words[at:]]),
    )
    return draw.choice((*spaced, *worded, action.upper(), action.title(), f"{action} {other}", action[:-1]))


class Episode:
    """One of ours, with what is to be compared."""

    def __init__(self, draw: random.Random, like: Episode | None) -> None:
        self.kind = like.kind if like else draw.choice(list(PARAMS))
        ranges = PARAMS[self.kind]
        names = [name for name in ranges if draw.random() < 0.4] if draw.random() < 0.6 else []
        self.params = like.params if like else ",".join(f"{n}={draw.randint(*ranges[n])}" for n in names)
        self.split = like.split if like else draw.choice(self.kind.splits)
        self.number = like.number if like else express.SEEDS[self.split] + draw.randrange(1000)
        self.env = self.kind(params=self.params, max_steps=1 << 30)
        self.follows = draw.random() < 0.3
        self.gold: list[str] | None = None
        self.todo: list[str] = []
        self.length = draw.choice([5, 20, 20, 60])
        self.steps: list[tuple[str, str, float, bool, bool, list[str]]] = []
        self.over = 0
        self.failed = ""

    @property
    def name(self) -> str:
        return f"{self.kind.game} {self.split}/{self.number} {self.params}"

    def begin(self) -> None:
        try:
            text, info = self.env.reset(options={"task_id": f"{self.split}/{self.number}"})
        except ProsegymError as error:
            self.failed, self.over = str(error), 9
            return
        self.steps.append(("", text, info["score"], info["success"], False, list(info["admissible_actions"])))
        if self.follows:
            try:
                self.gold = express.gold_path(
                    self.env._seat.machine(), self.kind.game, self.params, self.number, self.split
                )
            except ProsegymError:
                return
            self.todo = list(self.gold)
            self.length = len(self.gold) + 5

    def play(self, draw: random.Random) -> None:
        listed = self.steps[-1][5]
        if self.todo and draw.random() < 0.95:
            action = self.todo.pop(0)
        elif draw.random() < 0.15 or not listed:
            action = draw.choice(ODD)
        else:
            action = draw.choice(listed)
            if draw.random() < 0.1:
                action = near_miss(action, draw.choice(listed), draw)
        text, _, ended, _, info = self.env.step(action)
        said = info["score"], info["success"], ended, list(info["admissible_actions"])
        self.steps.append((action, text, *said))
        self.over += ended

    @property
    def done(self) -> bool:
        return self.over > 3 or len(self.steps) > self.length


class Fuzz:
    def __init__(self, original: Any, seed: int) -> None:
        self.original, self.draw = original, random.Random(seed)
        self.count: collections.Counter[str] = collections.Counter()
        self.steps = self.episodes = self.differences = 0

    def round(self) -> None:
        group: list[Episode] = []
        for _ in range(3):
            group.append(
                Episode(self.draw, self.draw.choice(group) if group and self.draw.random() < 0.5 else None)
            )
        for episode in group:
            episode.begin()
        while going := [episode for episode in group if not episode.done]:
            episode = self.draw.choice(going)
            for _ in range(self.draw.choice([1, 1, 5])):
                if not episode.done:
                    episode.play(self.draw)
        for episode in group:
            if (found := self.compare(episode)) is not None:
                self.differences += 1
                repeated = self.compare(episode)
                same = "" if repeated == found else f" [differs from itself: {repeated}]"
                print(f"DIFFERENCE in {episode.name} {found}{same}", flush=True)
            episode.env.close()
            self.episodes += 1
            self.count[f"of {episode.kind.game}"] += 1

    def compare(self, episode: Episode) -> str | None:
        env, over = self.original, False
        if episode.failed:
            try:
                text, info = env.reset(episode.number, episode.split, episode.kind.game, episode.params)
            except Exception as error:
                self.count["refused by both"] += 1
                return None if str(error) else "no reason"
            return f"ours fails: {episode.failed}; theirs begins {text[:80]!r}"
        for number, (action, text, score, won, ended, listed) in enumerate(episode.steps):
            if not number:
                try:
                    gold = episode.gold is not None
                    seen, info = env.reset(
                        episode.number, episode.split, episode.kind.game, episode.params, gold
                    )
                except Exception as error:
                    return f"theirs fails: {error}"
                theirs, done = f"{info['taskDescription']}\n\n{seen}", False
                if (
                    gold
                    and episode.kind.game not in ("coin", "twc")
                    and env.getGoldActionSequence() != episode.gold
                ):
                    return "other gold path"
            else:
                theirs, _, done, info = env.step(action)
                self.steps += 1
            where = f"at step {number}, after {[s[0][:40] for s in episode.steps[max(1, number - 5) : number + 1]]}"
            if theirs != text:
                return f"{where}: text {theirs[-300:]!r}, ours {text[-300:]!r}"
            if list(info["validActions"]) != listed:
                return f"{where}: list {info['validActions']}, ours {listed}"
            if over:
                continue
            if min(1, max(0, info["score"])) != score:
                return f"{where}: score {info['score']}, ours {score}"
            if done != ended:
                return f"{where}: done {done}, ours {ended}, score {info['score']}"
            if bool(info["tasksuccess"]) != won:
                return f"{where}: success {info['tasksuccess']}, ours {won}, score {info['score']}"
            over = ended
        last = episode.steps[-1]
        self.count["won" if last[3] else "lost" if last[4] else "unfinished"] += 1
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["PATH"] = f"{find_java().parent}{os.pathsep}{os.environ['PATH']}"
    from textworld_express import TextWorldExpressEnv

    kept = express.ENGINE.acquire()
    began = time.time()
    fuzz = Fuzz(TextWorldExpressEnv(envStepLimit=1 << 30), args.seed)
    while fuzz.steps < args.steps:
        fuzz.round()
    took = time.time() - began
    print(f"{fuzz.episodes} episodes, {fuzz.steps} steps in {took:.0f} s: {fuzz.differences} differences")
    print(", ".join(f"{n} {what}" for what, n in sorted(fuzz.count.items())))
    kept.release()
    sys.exit(fuzz.differences > 0)


if __name__ == "__main__":
    main()
