"""Differential fuzzing: what TextWorld's tracker, as we mend it, holds for the world against the game's own world.

    python tests/fuzz/fuzz_textworld.py --steps 20000 [--seed 0] [--game Cooking] [--level NAME]

Needs the extra `textworld`. Games are the panels', built where they are not. Commands: those of the list, their other spellings
(synonyms, several things, pronouns, words left out), any verb with any things, and noise. After every command the game is asked
in an aside, which is then undone, where everything is (its `print_state`): every thing's place, whether it is open, closed
or locked, how food is cut and cooked, and the player's room must be as the facts have it. What the world shows as
changed must be a valid action. Now and then every command of the list is tried, in asides too: each must be valid.
Now and then the game goes back to a snapshot, in the same environment or in another: its world and its list must be those of then.
Prints a line for every difference and a summary; exits 1 on any.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from prosegym.envs.textworld import env as textworld
from prosegym.envs.textworld import games

STATES = {"open", "closed", "locked"}
TREATED = {"fried", "roasted", "grilled", "sliced", "diced", "chopped", "burned"}
Thing = tuple[str, str, frozenset[str]]
"""Where it is, its state, how it was treated."""

MEANINGS = {
    "take": ("get {0}", "pick up {0}", "pick {0} up", "take {0}", "remove {0}", "carry {0}", "hold {0}", "take all", "get all",
             "take everything", "take {0} and {1}", "take {1} and {0}", "take all except {0}", "take all but {1}",
             "take {0} from {2}", "get {0} from {2}", "remove {0} from {2}", "take all from {2}", "take {0} off {2}",
             "take the {0}", "take {1}", "take it", "take them", "take {0} out of {2}", "get all from {2}", "take all {0}",
             "take {0} and drop {0}", "take each {0}", "take both", "take two", "take things", "take {0} in {2}"),
    "drop": ("drop {0}", "put {0} down", "put down {0}", "drop all", "drop everything", "throw {0}", "discard {0}", "drop it",
             "drop {0} and {1}", "drop all but {0}", "drop {0} on {2}", "drop {0} in {2}", "drop {0} down", "drop them"),
    "put": ("put {0} in {2}", "put {0} into {2}", "put {0} inside {2}", "insert {0} in {2}", "insert {0} into {2}",
            "put {0} on {2}", "put {0} onto {2}", "drop {0} on {2}", "drop {0} into {2}", "put all on {2}", "put all in {2}",
            "put it on {2}", "put {0} and {1} on {2}", "put {0} on top of {2}", "discard {0} on {2}", "throw {0} into {2}",
            "put {0} on {1}", "put {2} on {0}", "put {0} under {2}", "throw {0} at {2}", "place {0} on {2}", "put {0} on it"),
    "open": ("open {2}", "close {2}", "shut {2}", "uncover {2}", "unwrap {2}", "cover {2}", "open it", "close it", "open all",
             "unlock {2} with {0}", "lock {2} with {0}", "unlock {2}", "lock {2}", "open {2} with {0}", "open {2} and {0}",
             "unlock it with {0}", "lock it with {0}", "unlock {0} with {2}", "switch on {2}", "turn on {2}", "turn {2}",
             "open door", "close door", "unlock door with {0}", "turn off {2}"),
    "go": ("go {d}", "{d}", "walk {d}", "run {d}", "go to {d}", "{c}", "enter {2}", "go through {2}", "go in {2}", "go into {2}",
           "get in {2}", "get on {2}", "get off", "exit", "out", "in", "leave", "stand", "stand on {2}", "sit on {2}", "lie on {2}",
           "climb {2}", "jump", "cross {2}", "walk through {2}", "go inside {2}", "enter {0}", "get out", "go out", "go back",
           "lie down", "get up", "get into {2}", "leave {2}", "go", "go up", "go {d} {d}", "exit {2}"),
    "use": ("eat {0}", "drink {0}", "swallow {0}", "sip {0}", "eat it", "eat all", "drink it", "eat {0} and {1}", "taste {0}",
            "cook {0} with {2}", "cook {0} in {2}", "cook it with {2}", "cook {0}", "fry {0}", "cook {0} on {2}", "cook all with {2}",
            "slice {0} with knife", "dice {0} with knife", "chop {0} with knife", "cut {0} with knife", "slice {0}", "cut {0}",
            "slice it with knife", "chop all with knife", "dice {0} and {1} with knife", "prepare meal", "prepare {0}", "make meal",
            "slice {0} with {1}", "chop {0} with {2}", "prune {0} with knife", "cook {0} and {1} with {2}", "drink from {0}"),
    "other": ("x {0}", "read {0}", "look at {0}", "look in {2}", "look under {2}", "search {2}", "examine all", "look inside {2}",
              "give {0} to me", "give {0} to {2}", "show {0} to {2}", "wear {0}", "take off {0}", "push {2}", "pull {2}", "move {2}",
              "push {2} {d}", "rub {0}", "squeeze {0}", "burn {0}", "attack {2}", "break {0}", "kiss me", "wave {0}", "tie {0} to {2}",
              "touch {0}", "smell {0}", "listen", "wait", "z", "sleep", "sing", "think", "pray", "swim", "yes", "no", "sorry", "wake",
              "buy {0}", "set {2} to 5", "consult {0} about {1}", "ask me about {0}", "tell me about {0}", "say hello", "shout",
              "examine me", "take me", "drop me", "put me on {2}", "eat me", "enter me", "x {d}", "take {d}", "i", "inv", "l",
              "empty {2}", "fill {2}", "wipe {0}", "clean {0}", "swing {0}", "screw {0}", "goal", "tidy", "recipe", "help",
              "take inventory", "look {d}", "examine", "take", "drop", "put", "open", "eat", "cook", "unlock", "cook {0} with"),
}  # fmt: skip
# Which of them is like a command of the list.
LIKE = dict.fromkeys(("put", "insert"), "put") | dict.fromkeys(("open", "close", "lock", "unlock"), "open")
LIKE |= {"take": "take", "drop": "drop", "go": "go"}
WAYS = ("north", "south", "east", "west", "up", "down", "n", "s", "e", "w", "northeast")


def plain(printed: str) -> tuple[str, str, frozenset[str]]:
    """A thing as the game prints it: its name, its state, and how it was treated."""
    name, _, mark = printed.removesuffix(")").partition(" (")
    words, treated = re.sub(r"^(?:an?|some|the) ", "", name).split(), []
    while len(words) > 1 and words[0] in TREATED | {"raw"}:
        treated.append(words.pop(0))
    return " ".join(words), mark, seen(treated)


def seen(treated: Iterable[str]) -> frozenset[str]:
    """What a name tells of how a thing was treated."""
    return frozenset({"burned"} if "burned" in treated else TREATED.intersection(treated))


def told(env: textworld.TextWorld) -> dict[str, Thing]:
    """Where everything is, by the game: holder, state and treatment of each thing by its name."""
    engine = env._engine.unwrapped
    kept = engine._jericho.get_state()
    text = engine._send("print_state")
    engine._jericho.set_state(kept)
    room = re.search(r"Room: \n (.*)\n", text)
    assert room
    text = text[text.index("-=STATE START=-") : text.index("Nowhere:")]
    world: dict[str, Thing] = {}
    holders: list[tuple[int, str]] = []
    for line in text[text.index("World:") : text.index("You are carrying:")].splitlines()[1:]:
        depth, name = len(line) - len(line.lstrip()), line.strip()
        if not name or name == "nothing":
            continue
        if not depth:
            if name.endswith(":"):  # else the list broke off, by a run-time problem of its own
                holders = [(0, name.removesuffix(":"))]
        elif holders:
            while holders[-1][0] >= depth:
                holders.pop()
            name, state, treated = plain(name)
            world[name] = holders[-1][1], state, treated
            holders.append((depth, name))
    world["yourself"] = room[1], "", frozenset()  # a list leaves the player out now and then
    return world


def refused(env: textworld.TextWorld, command: str) -> bool:
    """Whether the game would not do a command."""
    engine = env._engine.unwrapped
    kept = engine._jericho.get_state()
    text = engine._send(command)
    engine._jericho.set_state(kept)
    return " - succeeded]" not in text


def believed(env: textworld.TextWorld) -> dict[str, Thing]:
    """The same, by the facts."""
    named = {key: info.name or key for key, info in env._state["game"].infos.items()}
    named |= {"P": "yourself", "I": "yourself"}
    where: dict[str, str] = {}
    states: dict[str, str] = {}
    treated: dict[str, list[str]] = collections.defaultdict(list)
    for fact in env._state["_facts"]:
        things = [argument.name for argument in fact.arguments]
        if fact.name in ("at", "in", "on") and things[1] != "RECIPE":
            where[named[things[0]]] = named[things[1]]
        elif fact.name in STATES:
            states[named[things[0]]] = fact.name
        elif fact.name in TREATED:
            treated[named[things[0]]].append(fact.name)
    return {name: (holder, states.get(name, ""), seen(treated[name])) for name, holder in where.items()}


class Fuzz:
    def __init__(self, seed: int, kinds: list[type[textworld.TextWorld]], level: str | None) -> None:
        self.rng = random.Random(seed)
        self.kinds, self.level = kinds, level
        self.count: collections.Counter[str] = collections.Counter()
        self.steps = self.games = self.differences = 0

    def differ(self, where: str, what: str) -> None:
        self.differences += 1
        print(f"DIFFERENCE in {where}: {what}", flush=True)

    def command(self, listed: list[str], names: list[str]) -> str:
        rng, u = self.rng, self.rng.random()
        busy = [c for c in listed if not c.startswith(("examine", "look", "inventory"))] or listed
        chosen = rng.choice(busy if rng.random() < 0.9 else listed)
        if u < 0.5:
            return chosen
        near = [name for name in names if any(f" {name}" in c for c in listed)] or names
        found = sorted((name for name in names if f" {name}" in chosen), key=chosen.index)
        kind = LIKE.get(chosen.split()[0], "use")
        if not found or rng.random() < 0.4:
            kind, found = rng.choice(list(MEANINGS)), rng.choices(near if rng.random() < 0.7 else names, k=2)
        one = rng.choice(near) if kind == "open" and len(found) == 1 else found[0]
        form = rng.choice(MEANINGS[kind])
        chosen = form.format(one, rng.choice(near), found[-1], d=rng.choice(WAYS), c=chosen)
        if rng.random() < 0.05:
            words = chosen.split()
            chosen = rng.choice((chosen.upper(), " ".join(words[:-1]), "  ".join(words), f"{chosen} {rng.choice(names)}",
                                 " ".join(rng.sample(words, len(words))), f"{chosen} please", f"the {chosen}"))  # fmt: skip
        return chosen

    def game(self) -> None:
        """One game, to its end, its last command or its first difference."""
        rng = self.rng
        env = rng.choice(self.kinds)(level=self.level, max_steps=1 << 30)
        task = rng.choice(env.tasks(rng.choice(("train", "valid", "test"))))
        env.reset(options={"task_id": task.id})
        self.games += 1
        self.count[f"of {env.challenge}"] += 1
        before, facts = told(env), believed(env)
        # Recipes and what is nowhere yet are facts alone; that the BBQ is closed, the game alone.
        tracked = before.keys() & facts
        stated = {name for name in tracked if facts[name][1]}
        names = [info.name for info in env._state["game"].infos.values() if info.name and info.type != "r"]
        played: list[str] = []
        kept_states: list[Any] = []
        for _ in range(rng.choice((20, 60, 150))):
            if (u := rng.random()) < 0.05:
                kept_states.append((env.snapshot(), before, env._admissible()))
            elif kept_states and u < 0.1:
                self.count["went back"] += 1
                if rng.random() < 0.3:  # in another instance
                    env.close()
                    env = type(env)(level=self.level, max_steps=1 << 30)
                state, then, listed_then = rng.choice(kept_states)
                env.restore(state)
                played.append("(went back)")
                before = told(env)
                if before != then or env._admissible() != listed_then:
                    self.differ(
                        f"{env.challenge} {task.id} after {played[-4:]}", f"now {unlike(then, before)}"
                    )
            command = self.command(env._admissible(), names)
            played.append(command)
            text, _, ended, _, info = env.step(command)
            self.steps += 1
            self.count["invalid" if info["invalid_action"] else "valid"] += 1
            where = f"{env.challenge} {task.id} after {played[-4:]}"
            if ended:
                self.count["won" if info["success"] else "lost"] += 1
                break
            if "Run-time problem P12" in text:  # the game's own: docs/envs/textworld.md
                self.count["stopped"] += 1
                break
            if "[" in text or "-=STATE" in text or ">" in text.replace("<dir>", ""):
                self.differ(where, f"text {text!r}")
            now, facts = told(env), believed(env)
            if now != before and info["invalid_action"]:
                self.differ(where, f"invalid, but {unlike(before, now)}; it said {text!r}")
            tracked |= now.keys() & facts  # a meal is made
            kept = {n: t if n in stated else (t[0], "", t[2]) for n, t in now.items() if n in tracked}
            held = {n: t for n, t in facts.items() if n in tracked or n in now}
            if kept != held:
                self.differ(where, f"the game and the facts have {unlike(kept, held)}; it said {text!r}")
                break
            before = now
            for listed in env._admissible() if rng.random() < 0.05 else ():
                self.count["listed commands tried"] += 1
                if not listed.startswith(("examine", "prepare meal")) and refused(env, listed):
                    self.differ(where, f"{listed!r} is listed, but the game refuses it")
        env.close()


def unlike(one: dict[str, Thing], other: dict[str, Thing]) -> dict[str, tuple[Thing | None, Thing | None]]:
    """Where both differ."""
    pairs = {name: (one.get(name), other.get(name)) for name in sorted({*one, *other})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--game", choices=list(games.LEVELS))
    parser.add_argument("--level")
    arguments = parser.parse_args()
    kinds = [textworld.CoinCollector, textworld.TreasureHunter, textworld.Cooking]
    chosen = [kind for kind in kinds if arguments.game in (None, kind.challenge)]
    began, fuzz = time.monotonic(), Fuzz(arguments.seed, chosen, arguments.level)
    while fuzz.steps < arguments.steps and fuzz.differences < 40:
        fuzz.game()
    print(
        f"{fuzz.games} games, {fuzz.steps} steps, {fuzz.differences} differences in {time.monotonic() - began:.0f} s"
    )
    for what, n in sorted(fuzz.count.items()):
        print(f"  {n:7d} {what}")
    return int(fuzz.differences > 0)


if __name__ == "__main__":
    sys.exit(main())
