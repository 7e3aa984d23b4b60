"""Differential fuzzing: our engine against TextWorld's own PDDL engine, on the same games and commands.

    python tests/fuzz/fuzz_alfworld.py --games FOLDER [--games FOLDER] --steps 50000 [--seed 0]

Needs `pip install "textworld[pddl]"`, in an environment of its own if need be. FOLDER holds `game.tw-pddl` files
at any depth, or is an archive of them; games of both dialects are told apart by their grammar. One game in four
is a generated one, exported. In one of three some facts are others than the game's: things lie elsewhere, in
two places or in other things, are clean, hot, cold, sliced or lit; receptacles stand open or together.
Commands: admissible ones, walkthroughs, near misses (other numbers, other verbs, words left out or doubled),
odd spacing, letters and case, and noise. Ours plays all games of a dialect in one `House`, and now and then
goes back to a saved state after other commands. After every command the answer, whether the game is won, and
the whole admissible list must be equal. Prints a line for every difference and a summary; exits 1 on any.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import textworld
from textworld.envs import PddlEnv

from prosegym.envs.alfworld.compile import UnknownGoal, compile_game, names, parse
from prosegym.envs.alfworld.engine import Board, Dialect, House
from prosegym.envs.alfworld.experts import plan
from prosegym.envs.alfworld.export import tw_pddl
from prosegym.envs.alfworld.generator import generate
from prosegym.envs.errors import CorruptData


class Real:
    """TextWorld's engine, its entities named as ALFWorld names them."""

    def __init__(self) -> None:
        self.env = PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))

    def begin(self, data: dict[str, Any]) -> Any:
        self.env.load(data)
        infos = self.env._entity_infos
        called = names([info.id for info in infos.values()])
        for info in infos.values():
            info.name = called[info.id]
        remember_commands(self.env._logic)
        return self.env.reset()


def remember_commands(logic: Any) -> None:
    """Keep the wording of each command of a game: TextWorld works it out anew for all of them at every step.

    It hangs on names and on where receptacles are, which do not change in a game. What is answered is not kept.
    """
    templates = {action.template for action in logic.actions.values()}
    derive, kept = logic.grammar.derive, {}

    def remembered(start: str, context: Any) -> str:
        if start not in templates:
            return derive(start, context)
        named = ((placeholder.name, thing.name) for placeholder, thing in context["mapping"].items())
        key = (start, *(pair for pair in named if pair[0] in start))
        if key not in kept:
            kept[key] = derive(start, context)
        return kept[key]

    logic.grammar.derive = remembered


def near_miss(command: str, rng: random.Random) -> str:
    """A command that is almost the given one."""
    words = command.split(" ")
    at = rng.randrange(len(words))
    kind = rng.randrange(11)
    if kind == 0:
        return re.sub(r"\d+", lambda m: str(int(m[0]) + rng.choice((-1, 1))), command, count=1)
    if kind == 1:
        return " ".join([rng.choice(VERBS), *words[1:]])
    if kind == 2:
        return " ".join(words[:at] + words[at + 1 :])
    if kind == 3:
        return " ".join([*words[: at + 1], words[at], *words[at + 1 :]])
    if kind == 4:
        return command.upper() if rng.random() < 0.5 else command.capitalize()
    if kind == 5:
        return "  ".join(words)
    if kind == 6:
        return rng.choice(("  ", "\t", "\n", " ")) + command + rng.choice(("  ", "\n", ".", "\t"))
    if kind == 7:
        return command.replace(" from ", " in ").replace(" to ", " in/on ").replace(" with ", " using ")
    if kind == 8:
        return command.replace("take", "move").replace("from", "to")
    odd = rng.choice(ODD)
    if kind == 9:
        return rng.choice((f"{odd}{command}", f"{command}{odd}", f"{odd} {command} {odd}", odd.join(words)))
    words[at] = rng.choice((f"{words[at]}{odd}", f"{odd}{words[at]}", f"the {words[at]}"))
    return " ".join(words)


VERBS = (
    "go to",
    "open",
    "close",
    "take",
    "move",
    "put",
    "examine",
    "use",
    "heat",
    "cool",
    "clean",
    "slice",
    "look",
)
# White space that `str.strip` takes, some that it leaves, other digits, joined and invisible letters.
ODD = [*"\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2003\u2028\u2029\u3000"]
ODD += [
    *"\u200b\ufeff\0\u00ad\u0301\u0661\uff11ıſ.,0-_",
    "01",
    "a ",
    "x" * 5000,
    " " * 5000,
    " and ",
    "%s",
    "{r}",
    "[",
    "#look#",
]
NOISE = (
    "",
    " ",
    "xyzzy",
    "go",
    "go to",
    "take",
    "help me",
    "examine agent1",
    "examine agent1 ",
    "look around",
    "0",
    "é",
)


def commands(house: House, admissible: list[str], rng: random.Random) -> str:
    """The next command to try."""
    u = rng.random()
    board = house.board
    if u < 0.45:
        busy = [c for c in admissible if not c.startswith(("go to", "help", "inventory", "look", "examine"))]
        return rng.choice(busy or admissible)
    if u < 0.60:
        return rng.choice(admissible)
    if u < 0.75 and not house.won and (way := plan(house)):
        return way[0]
    if u < 0.90:
        return near_miss(rng.choice(admissible), rng)
    if u < 0.98:  # any verb with any things
        thing, other = rng.choice(board.o_names), rng.choice(board.o_names)
        where = rng.choice(board.r_names)
        form = rng.choice(
            ("take {o} from {r}", "move {o} to {r}", "put {o} in/on {r}", "heat {o} with {r}", "cool {o} with {r}",
             "clean {o} with {r}", "use {o}", "examine {o}", "examine {r}", "slice {o} with {k}", "open {r}", "close {r}")
        )  # fmt: skip
        return form.format(o=thing, k=other, r=where)
    return rng.choice(NOISE)


def altered(problem: str, rng: random.Random) -> str:
    """The problem with some of its initial facts changed."""
    head, begin, rest = problem.partition("(:init")
    init, goal, tail = rest.partition("(:goal")
    facts = [tuple(fact.split()) for fact in re.findall(r"\(([^()]+)\)", init)]
    name = {fact[0].lower(): fact[0] for fact in facts}

    def all_of(predicate: str) -> list[tuple[str, ...]]:
        return [fact for fact in facts if fact[0].lower() == predicate]

    things = sorted({fact[1] for fact in all_of("inreceptacle")})
    spots = all_of("receptacleatlocation")
    for _ in range(rng.randint(1, 12)):
        thing, (_, receptacle, place) = rng.choice(things), rng.choice(spots)
        match rng.randrange(8):
            case 0:  # as treated as it likes
                for state in rng.sample(("isClean", "isHot", "isCool", "isSliced", "isToggled"), 2):
                    facts.append((state, thing))
            case 1:  # able to be treated
                able = ("pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable")
                facts.append((rng.choice(able), thing))
            case 2:  # elsewhere
                lies = ("inreceptacle", "objectatlocation")
                facts = [f for f in facts if f[0].lower() not in lies or f[1] != thing]
                facts += [(name["inreceptacle"], thing, receptacle), (name["objectatlocation"], thing, place)]
            case 3:  # in another receptacle as well
                facts.append((name["inreceptacle"], thing, receptacle))
            case 4:  # said to be at another place as well
                facts.append((name["objectatlocation"], thing, place))
            case 5 if (outer := rng.choice(things)) != thing:
                facts += [("inReceptacleObject", thing, outer), ("isReceptacleObject", outer)]
            case 6:
                facts += [("openable", receptacle)] * rng.randint(0, 1) + [("opened", receptacle)]
            case 7:  # beside another one
                facts = [f for f in facts if f[0].lower() != "receptacleatlocation" or f[1] != receptacle]
                facts.append((name["receptacleatlocation"], receptacle, rng.choice(spots)[2]))
    written = "\n".join(f"({' '.join(fact)})" for fact in dict.fromkeys(facts))
    return f"{head}{begin}\n{written})\n{goal}{tail}"


def unpacked(path: Path) -> Path:
    """A folder as it is; an archive unpacked, until the program ends."""
    if path.is_dir():
        return path
    folder = Path(tempfile.mkdtemp(prefix="fuzz-alfworld-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.unpack_archive(path, folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=Path, action="append", default=[])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-game", type=int, default=300)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    folders = [sorted(unpacked(path).glob("**/game.tw-pddl")) for path in arguments.games]
    real, steps, games, differences = Real(), 0, 0, 0
    blank = Board(generate("fuzz", 0))
    houses: dict[Dialect, House] = {"move": House(blank, "move"), "put": House(blank, "put")}
    count: collections.Counter[str] = collections.Counter()
    started = time.monotonic()
    while steps < arguments.steps and differences < 20:
        if not folders or rng.random() < 0.25:
            index = rng.randrange(10**6)
            where, data = f"generated {index}", tw_pddl(generate("fuzz", index))
        else:
            path = rng.choice(rng.choice(folders))
            where, data = str(path), parse(path.read_bytes(), str(path))
        if rng.random() < 0.33:
            where += ", altered"
            data = {**data, "pddl_problem": altered(data["pddl_problem"], rng)}
        if data.get("solvable") is False:  # the real engine cannot load these
            count["unsolvable games"] += 1
            continue
        dialect: Dialect = "put" if 'template :: "put {o} in/on {r}"' in data["grammar"] else "move"
        try:
            board = Board(compile_game(data, where))
        except UnknownGoal:
            count["games of other task types"] += 1
            continue
        except CorruptData as error:
            count[f"not compiled: {error}"[:60]] += 1
            continue
        try:
            state = real.begin(data)
        except Exception as error:
            if "altered" not in where:
                raise
            count[f"altered games that the real engine cannot load: {error!r}"[:90]] += 1
            continue
        house = houses[dialect]
        house.begin(board)
        games += 1
        count["games that are altered"] += "altered" in where
        count[f"games, {'generated' if where.startswith('generated') else dialect}"] += 1
        command, said = "(start)", house.board.intro
        for _ in range(arguments.per_game):
            ours = (said, house.won, house.admissible())
            theirs = (state.feedback, bool(state["won"]), state["admissible_commands"])
            if ours != theirs:
                differences += 1
                print(
                    f"DIFFERENCE in {where} after {command!r}",
                    *zip(theirs, ours, strict=True),
                    sep="\n  ",
                    flush=True,
                )
                break
            if rng.random() < 0.03:
                saved = house.save()
                for _ in range(rng.randint(1, 20)):
                    house.act(rng.choice(house.admissible()))
                house.load(saved)
            command = commands(house, ours[2], rng)
            state = real.env.step(command)[0]
            answer = house.act(command)
            said = "Nothing happens." if answer is None else answer
            steps += 1
            count["refused" if answer is None else f"done: {command.split()[0]}"] += 1
        if games % 5 == 0:
            print(
                f"{games} games, {steps} steps, {differences} differences, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    print(f"{games} games, {steps} steps, {differences} differences in {time.monotonic() - started:.0f} s")
    for what, n in sorted(count.items()):
        print(f"  {n:7d} {what}")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
