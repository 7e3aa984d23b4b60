"""Generated households: pure, solvable, like the official ones, and playable in the real engine."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from prosegym.envs import panels
from prosegym.envs.alfworld.compile import compile_game, parse
from prosegym.envs.alfworld.engine import Board, House
from prosegym.envs.alfworld.experts import Searcher, plan
from prosegym.envs.alfworld.export import export, tw_pddl
from prosegym.envs.alfworld.game import Game
from prosegym.envs.alfworld.generator import LEVELS, generate, level_of
from prosegym.envs.alfworld.household import Household
from prosegym.envs.alfworld.statistics import summarise
from prosegym.envs.errors import BadOption, UnknownName

REAL_ENGINE = all(importlib.util.find_spec(name) for name in ("textworld", "fast_downward"))


def test_games_are_functions_of_split_and_index() -> None:
    code = (
        "import sys; from prosegym.envs.alfworld.generator import generate\n"
        "print(*[generate(s, i).sha256() for s in ('train', 'test') for i in (0, 1, 2, 99999)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    random.seed(1)
    here = [generate(split, i).sha256() for split in ("train", "test") for i in (0, 1, 2, 99999)]
    assert out.stdout.split() == here and len(set(here)) == 8


def test_panels() -> None:
    env: Any = gymnasium.make("prosegym/Household-v1")
    for split in ("valid", "test"):
        assert len(panels.tasks_of(panels.of_split("prosegym/Household-v1", split), env)) == 200
    assert [len(env.unwrapped.tasks(split)) for split in env.unwrapped.splits] == [100_000, 1_000, 1_000]


def test_levels_divide_the_splits() -> None:
    whole = Household().tasks("valid")
    parts = [Household(level=level).tasks("valid") for level in LEVELS]
    assert sum(map(len, parts)) == len(whole)
    assert {task.id for part in parts for task in part[:5]} == {task.id for task in whole[:15]}
    with pytest.raises(UnknownName, match="level"):
        Household(level="huge")
    with pytest.raises(UnknownName, match="task id"):
        Household().task("valid/001000")
    small = Household(level="small")
    assert small.task("valid/000003") == whole[3]
    with pytest.raises(BadOption, match="task valid/000001 is of level 'standard', not 'small'"):
        small.reset(options={"task_id": "valid/000001"})


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_game_is_solvable_and_none_is_solved(split: str) -> None:
    for i in range(700):
        board = Board(generate(split, i))
        house, points = House(board), 0
        assert not house.won and house.points == 0
        way = plan(house)
        assert way, i
        for command in way:
            assert command in house.admissible()
            house.act(command)
            assert house.points >= points
            points = house.points
        assert house.won and house.progress == 1.0


def test_searcher_solves_nearly_all() -> None:
    solved = steps = 0
    for i in range(300):
        board = Board(generate("test", i))
        house, expert, text = House(board), Searcher(), board.intro
        for _ in range(50):
            action = expert.act(text, {})
            text = house.act(action or "") or "Nothing happens."
            steps += 1
            if house.won:
                solved += 1
                break
    assert solved >= 297 and steps / 300 < 12


def test_searcher_goes_on_from_wherever_another_player_left_it() -> None:
    """It finds other things in its hand, doors closed, objects displaced and half the work done."""
    solved = 0
    for i in range(100):
        board, rng = Board(generate("test", i)), random.Random(i)
        house, expert, text = House(board), Searcher(), board.intro
        others = rng.randint(3, 40)
        for step in range(200):
            action = expert.act(text, {})
            if step < others or action is None:
                action = rng.choice(house.admissible())
                expert.did(action)
            text = house.act(action) or "Nothing happens."
            if house.won:
                solved += 1
                break
    assert solved >= 97


def test_shortest_plans_are_shortest() -> None:
    """No state that wins is nearer, by exhaustive search over all commands that can matter."""
    compared = 0
    for i in range(0, 600, 3):  # small ones
        game = generate("train", i)
        house = House(Board(game))
        rng = random.Random(i)
        for _ in range(rng.randrange(0, 12, 4)):  # from other states than the beginning, too
            busy = [
                c for c in house.admissible() if not c.startswith(("look", "help", "inventory", "examine"))
            ]
            house.act(rng.choice(busy))
        way = plan(house)
        if house.won or way is None or len(way) > 5 or len(game.receptacles) > 14:
            continue
        assert shortest(house, len(way)) == len(way)
        compared += 1
        if compared == 25:
            break
    assert compared == 25


def shortest(house: House, limit: int) -> int:
    """The least number of commands that wins, if it is at most `limit`."""
    goal = house.board.goal_objects
    frontier, known = [house.save()], set()
    for depth in range(1, limit + 1):
        following = []
        for state in frontier:
            house.load(state)
            for command in house.admissible():
                verb, thing = command.split(" ")[0], " ".join(command.split(" ")[1:3])
                if verb in ("look", "help", "inventory", "examine", "slice", "close"):
                    continue
                if verb == "take" and not goal >> house.board.o_index[thing] & 1:
                    continue
                house.load(state)
                house.act(command)
                if house.won:
                    return depth
                key = (
                    house.place,
                    house.held,
                    house.opened,
                    house.hot,
                    house.cold,
                    house.clean,
                    house.lit,
                    tuple(house.contents),
                )
                if key not in known:
                    known.add(key)
                    following.append(house.save())
        frontier = following
    return limit + 1


def test_statistics_are_near_the_official_ones() -> None:
    found = summarise(generate("train", i) for i in range(600))
    assert found.unsolvable == 0
    # ALFWorld train, all 3,553 games: 23.5 receptacles, 11.0 of them openable, 32.3 objects, plans of 6.0 actions.
    assert 20 < found.receptacles < 27 and 9 < found.openable < 14
    assert 28 < found.objects < 37 and 0.4 < found.empty < 0.55
    assert 5.5 < found.plan < 6.6
    sizes = [
        summarise(generate("train", i) for i in range(300) if level_of(i) == level).receptacles
        for level in range(3)
    ]
    assert sizes[0] < 0.8 * sizes[1] < sizes[1] < 0.85 * sizes[2]


def test_exports_compile_back_to_the_same_game(tmp_path: Path) -> None:
    for i in range(100):
        game = generate("valid", i)
        assert compile_game(tw_pddl(game)) == game
    path = export(game, tmp_path / "a" / "b")
    assert compile_game(parse(path.read_bytes(), str(path))) == game


def real_engine(game: Game) -> Any:
    import textworld
    from textworld.envs import PddlEnv

    from prosegym.envs.alfworld.compile import names

    env: Any = PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))
    env.load(tw_pddl(game))
    called = names([info.id for info in env._entity_infos.values()])
    for info in env._entity_infos.values():
        info.name = called[info.id]
    return env


@pytest.mark.skipif(not REAL_ENGINE, reason='needs pip install "textworld[pddl]"')
@pytest.mark.parametrize(
    ("index", "steps"), [(1, 12), *(pytest.param(i, 40, marks=pytest.mark.slow) for i in range(2, 10))]
)
def test_exports_play_alike_in_the_real_engine(index: int, steps: int) -> None:
    game = generate("export", index)
    env, house = real_engine(game), House(Board(game))
    state, text = env.reset(), house.board.intro
    rng = random.Random(index)
    for _ in range(steps):
        assert (state.feedback, bool(state["won"])) == (text, house.won)
        assert state["admissible_commands"] == house.admissible()
        command = (plan(house) or [""])[0] if rng.random() < 0.7 else rng.choice(house.admissible())
        state, text = env.step(command)[0], house.act(command) or "Nothing happens."


@pytest.mark.slow
def test_memory_does_not_grow() -> None:
    env: Any = gymnasium.make("prosegym/Household-v1")
    rng = random.Random(0)

    def play(episodes: int) -> int:
        for _ in range(episodes):
            _, info = env.reset(seed=rng.randrange(2**31))
            for _ in range(5):
                _, _, done, _, info = env.step(rng.choice(info["admissible_actions"]))
                if done:
                    break
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = play(1500)  # caches are full by then
        assert play(6000) - before < 1 << 20
    finally:
        tracemalloc.stop()
