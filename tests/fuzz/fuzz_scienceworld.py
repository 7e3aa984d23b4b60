"""Differential fuzzing: our ScienceWorld against the package's own environment, on the same tasks and actions.

    python tests/fuzz/fuzz_scienceworld.py --steps 4000 [--seed 0] [--gold 0.3] [--task NAME]

Of the package, one thing is changed: its class of things hashes by identifier, as ours does, and other objects
hash alike, so that its order of things, drawn anew at each load, is fixed. Its list of valid actions draws random
numbers, which are put back, as we do. Ours plays three episodes at a time, taking turns at random, some
with a list of valid actions at each step; then the package plays each one alone. Odd, ambiguous and overlong
actions, other verbs and things, numbers where nothing was asked, steps after the end, and stretches of gold
paths are among the actions. After each, text, score, end, moves and sampled lists must be equal; at the end,
every thing of the world, too. What differs is played again by the package: where it differs from itself, that
is said. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from prosegym.envs.jvm import find_java
from prosegym.envs.scienceworld import engine
from prosegym.envs.scienceworld.classfile import with_hash_code
from prosegym.envs.scienceworld.engine import gold_path
from prosegym.envs.scienceworld.env import SIMPLIFICATIONS, ScienceWorld, table

THING = "scienceworld/struct/EnvObject.class"
MORE = 1 << 30
ODD = """|  |0|1|2|99|-1|+1| 0|0 |00|1.0|\u0660|\uff10|1e0|0x0|0\n|help|HELP| objects |task|reset|reset task|RESET TASK|quit|exit
|valid|look  around|Look Around|look around\n|look\taround|look around.|look around look around|wait|wait1|wait 5|waitwait
|é|中文|😀|İ|ẞ|look around\u00a0|\ufeffinventory|%s %d|$1|\\|"|{}|look in agent|look at agent|focus on agent|open door|open|go
|go door|pick up|pick up agent|move agent to agent|look at air|pour agent in air|eat agent|open door to|go to go to|use agent
|connect agent to agent|mix universe|look in universe|pick up universe|teleport to universe|focus on air|teleport to kitchen
|teleport to hallway|go to outside|go to hallway|go to kitchen|examine|look at|read agent|flush agent|dunk agent in agent
|open inventory|look in inventory|move air to inventory""".replace("\n|", "|").split("|")
ODD += ["0\n", "look around\n", "x" * 999, "look around " * 80, "look around" + " " * 900]

# What is put inside an action, and verbs that take the place of its own.
INSIDE = [
    *"\t\n\r\u00a0\u2003\u3000\u200b\ufeff\u0301,.;:!?'()-_/1İıſ",
    "  ",
    "in kitchen",
    "containing nothing",
]
INSIDE += "the a an in to with called my self agent door inventory outside 1 2 (containing water)".split(" ")
VERBS = """take|get|grab|pick|pick up|put down|drop|move|put|place|insert|pour|empty|fill|mix|stir|eat|drink
activate|turn on|switch on|deactivate|turn off|open|close|shut|use|read|look|look at|look in|look on|examine
inspect|x|focus on|focus|connect|plug|disconnect|unplug|go|go to|walk to|move to|teleport to|teleport|dunk
flush|wait|wait1|reset task|task|inventory""".replace("\n", "|").split("|")


class Original:
    """The package's environment on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        from scienceworld import ScienceWorldEnv

        with zipfile.ZipFile(engine.jar()) as jar:
            changed = folder / THING
            changed.parent.mkdir(parents=True, exist_ok=True)
            changed.write_bytes(with_hash_code(jar.read(THING), "uuid"))
        os.environ["PATH"] = f"{find_java().parent}{os.pathsep}{os.environ['PATH']}"
        os.environ["JAVA_TOOL_OPTIONS"] = (
            "-XX:+UnlockExperimentalVMOptions -XX:hashCode=2 --add-opens=java.base/java.util=ALL-UNNAMED "
            "-Dfile.encoding=UTF-8 -Xmx1g"
        )
        self.env: Any = ScienceWorldEnv(serverPath=f"{folder}{os.pathsep}{engine.jar()}", envStepLimit=MORE)
        del os.environ["JAVA_TOOL_OPTIONS"]
        jvm = self.env._gateway.jvm
        self._list = self.env.get_valid_action_object_combinations
        self.env.get_valid_action_object_combinations = lambda: []
        self._random = getattr(jvm.scala.util, "Random$").__getattr__("MODULE$").self()
        self._seed = jvm.java.lang.Class.forName("java.util.Random").getDeclaredField("seed")
        self._seed.setAccessible(True)
        self._count = getattr(jvm.util, "UniqueIdentifier$").__getattr__("MODULE$")

    def listed(self) -> list[str]:
        """The valid actions; the random numbers are put back."""
        state = self._seed.get(self._random)
        valid: list[str] = self._list()
        self._random.setSeed(state ^ 0x5DEECE66D)
        return sorted(valid)

    def begin(self, task: str, variation: int, rules: str, again: bool) -> tuple[str, int]:
        """Its first texts, as ours joins them, and the score."""
        if again and self.env.taskName:
            self.env.reset()  # of what was loaded before, for what it may leave behind
        self.env.load(task, variation, rules)
        text, info = self.env.reset()
        return f"{self.env.get_task_description()}\n\n{text}", info["score"]

    def left(self) -> list[Any]:
        """The world and the machine's state."""
        server = self.env.server
        world = server.agentInterface().get().universe().toJSON()
        return [server.getGoalProgressStr(), int(self._seed.get(self._random)), self._count.count(), world]


class Episode:
    """One of ours, with what is to be compared."""

    def __init__(self, draw: random.Random, task: str | None, gold: float) -> None:
        row = draw.choice([row for row in table() if task in (None, row.task)])
        self.task, self.variation = row.task, draw.randrange(row.train + row.dev + row.test)
        self.split = next(s for s in ("train", "dev", "test") if self.variation in row.of(s))
        labels = [s for s in SIMPLIFICATIONS if draw.random() < 0.4]
        if "power-component" in row.task or "conductivity" in row.task:
            labels = [s for s in labels if s != "noElectricalAction"]
        draw.shuffle(labels)
        self.rules = draw.choice(["", "", "easy", "easy", ",".join(labels)])
        self.lists = draw.random() < 0.3
        self.env = ScienceWorld(simplifications=self.rules, admissible=self.lists, max_steps=MORE)
        self.length = draw.choice([10, 30, 30, 60, 150]) // (3 if self.lists else 1)
        self.gold: list[str] = []
        self.follows = draw.random() < gold
        self.steps: list[tuple[str, str, float, bool, bool, list[str] | None]] = []
        self.over = 0

    @property
    def name(self) -> str:
        return f"{self.split}/{self.task}/{self.variation} {self.rules or 'no rules'} {'lists' * self.lists}"

    def begin(self) -> None:
        where = {"task_id": f"{self.split}/{self.task}/{self.variation}"}
        text, info = self.env.reset(options=where)
        self.steps.append(("", text, info["score"], False, False, info["admissible_actions"]))

    def play(self, action: str) -> None:
        text, _, ended, _, info = self.env.step(action)
        said = info["score"], ended, info["invalid_action"], info["admissible_actions"]
        self.steps.append((action, text, *said))
        self.over += ended

    @property
    def done(self) -> bool:
        return len(self.steps) > self.length or self.over > 3

    def left(self) -> list[Any]:
        """As `Original.left`."""
        simulation = self.env._running()

        def do(jvm: Any) -> list[Any]:
            turn = engine._turn(simulation.machine, jvm)
            turn.take(simulation)
            server = simulation._server
            world = server.agentInterface().get().universe().toJSON()
            return [server.getGoalProgressStr(), turn.random_state(), turn.identifiers.count(), world]

        return simulation.machine.call(do)


class Fuzz:
    def __init__(self, original: Original, seed: int, task: str | None, gold: float) -> None:
        self.original, self.draw, self.task, self.gold = original, random.Random(seed), task, gold
        self.count: collections.Counter[str] = collections.Counter()
        self.known: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        self.steps = self.episodes = self.differences = 0

    def action(self, episode: Episode) -> str:
        draw = self.draw
        last = episode.steps[-1]
        if last[1].startswith("Ambiguous request") and draw.random() < 0.7:
            return draw.choice(["0", "0", "1", "2", "", "7"])
        if episode.follows and episode.gold and draw.random() < 0.9:
            return episode.gold.pop(0)
        if draw.random() < 0.2:
            return draw.choice(ODD)
        if not episode.lists and draw.random() < 0.1:  # here, and not by the package: it must change nothing
            self.known[episode.task, episode.rules] = episode.env._admissible()
        listed = last[5] or self.known[episode.task, episode.rules] or ODD
        action = draw.choice(listed)
        if "focus" in action and draw.random() < 0.8:
            action = draw.choice(listed)
        if draw.random() < 0.1:  # cut, joined, or in capitals: ambiguous or unread
            words = action.split()
            action = " ".join(words[: draw.randrange(len(words) + 1)])
        if draw.random() < 0.1:
            action = self.reworded(action, draw.choice(listed))
        if draw.random() < 0.05:
            action = action.upper()
        return action

    def reworded(self, action: str, other: str) -> str:
        """Other words, things and white space."""
        draw, words, others = self.draw, action.split() or [""], other.split() or [""]
        at, odd = draw.randrange(len(words)), draw.choice(INSIDE)
        end, verb = " ".join(others[1:]), draw.choice(VERBS)
        if draw.random() < 0.5:
            words[at] = draw.choice(
                (f"{words[at]}{odd}", f"{words[at]} {odd}", f"{words[at]} {words[at]}", others[0])
            )
            return " ".join(words)
        whole = (
            odd.join(words),
            f"{odd}{action}",
            f"{action}{odd}",
            " ".join(draw.sample(words, len(words))),
        )
        begun = (
            f"{words[0]} {end}",
            f"{words[0]} {verb}",
            f"{verb} {' '.join(words[1:])}",
            f"{verb} {action}",
        )
        joined = (f"{action} {between} {end}" for between in ("and", "in", "to", "on", "with"))
        return draw.choice((*whole, *begun, *joined, f"{action} and {other}"))

    def round(self) -> None:
        group = [Episode(self.draw, self.task, self.gold) for _ in range(3)]
        for episode in group:
            if episode.follows:
                seat = episode.env._gold_seat.machine()
                episode.gold = gold_path(seat, episode.task, episode.variation, episode.rules)
                episode.length = min(250, len(episode.gold) + 20)
            episode.begin()
            if not self.known[episode.task, episode.rules]:
                self.known[episode.task, episode.rules] = episode.env._admissible()
        going = list(group)
        while going:
            episode = self.draw.choice(going)
            for _ in range(self.draw.choice([1, 1, 5])):
                if not episode.done:
                    episode.play(self.action(episode))
            if episode.done:
                going.remove(episode)
        for episode in group:
            left = episode.left()
            again = self.draw.random() < 0.3
            if (found := self.compare(episode, left, again)) is not None:
                self.differences += 1
                repeated = self.compare(episode, left, again)
                same = "" if repeated == found else f" [differs from itself: {repeated}]"
                print(f"DIFFERENCE in {episode.name} {found}{same}", flush=True)
            episode.env.close()
            self.episodes += 1
            self.count[
                f"score {'0' if not episode.steps[-1][2] else '1' if episode.steps[-1][2] == 1 else 'between'}"
            ] += 1

    def compare(self, episode: Episode, left: list[Any], again: bool) -> str | None:
        env = self.original.env
        over = False
        for number, (action, text, score, ended, invalid, listed) in enumerate(episode.steps):
            if not number:
                theirs, raw = self.original.begin(episode.task, episode.variation, episode.rules, again)
                done = False
            else:
                theirs, _, done, info = env.step(action)
                raw = info["score"]
                self.steps += 1
            where = f"at step {number}, after {[s[0][:60] for s in episode.steps[max(1, number - 5) : number + 1]]}"
            if theirs != text:
                return f"{where}: text {unlike(theirs, text)}"
            if over:
                if done != ended:
                    self.count["ends otherwise after the end"] += 1
                continue
            if max(0, raw) / 100 != score:
                return f"{where}: score {raw}, ours {score}"
            if done != ended:
                return f"{where}: done {done}, ours {ended}, score {raw}"
            over = ended
            self.count["invalid" if invalid else "ambiguous" if text.startswith("Ambig") else "other"] += 1
            if listed is not None:
                theirs = self.original.listed()
                self.count["lists compared"] += 1
                if theirs != listed:
                    return f"{where}: list {set(theirs) ^ set(listed)} {len(theirs)} {len(listed)}"
        for one, other in zip(self.original.left(), left, strict=True):
            if one != other:
                return f"at the end, step {len(episode.steps) - 1}: {unlike(str(one), str(other))}"
        return None


def unlike(theirs: str, ours: str) -> str:
    """Both, from just before the place where they part."""
    start = max(0, next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), 0) - 40)
    return f"{theirs[start:][:160]!r}, ours {ours[start:][:160]!r}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gold", type=float, default=0.15)
    parser.add_argument("--task")
    args = parser.parse_args()
    keep = engine.ENGINE.acquire(), engine.GOLD_ENGINE.acquire()
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Original(Path(folder)), args.seed, args.task, args.gold)
        while fuzz.steps < args.steps:
            fuzz.round()
    print(
        f"{fuzz.episodes} episodes, {fuzz.steps} steps in {time.time() - began:.0f} s: {fuzz.differences} differences"
    )
    print(", ".join(f"{n} {what}" for what, n in sorted(fuzz.count.items())))
    for machine in keep:
        machine.release()
    sys.exit(fuzz.differences > 0)


if __name__ == "__main__":
    main()
