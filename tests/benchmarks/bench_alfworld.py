"""ALFWorld: the real engine and ours on the same games in one run.

pytest tests/benchmarks/bench_alfworld.py -s

Needs the official games and TextWorld's PDDL part. Processor time, medians over games.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from prosegym.envs.alfworld import official
from prosegym.envs.alfworld.compile import names, parse
from prosegym.envs.alfworld.engine import House
from prosegym.envs.alfworld.generator import generate
from prosegym.envs.core import Outcome

GAMES = 3
REPEATS = 300


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.fixture(scope="module")
def games(test_data: Path, installed: Any) -> dict[str, dict[str, Any]]:
    installed("alfworld")
    chosen = {}
    for task_id, text, where in official._game_files(test_data / "alfworld"):
        if task_id.startswith("valid_unseen/") and len(chosen) < GAMES:
            chosen[task_id] = parse(text, where)
    return chosen


@pytest.fixture(scope="module")
def real(games: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """The real engine's seconds a reset and a step, each game's."""
    textworld = pytest.importorskip("textworld")
    pytest.importorskip("fast_downward")
    from textworld.envs import PddlEnv

    env = PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))
    found: dict[str, list[float]] = {"reset": [], "step": []}
    for game in games.values():
        env.load(game)
        called = names([info.id for info in env._entity_infos.values()])
        for info in env._entity_infos.values():
            info.name = called[info.id]
        found["reset"].append(seconds(env.reset))

        def walk(game: dict[str, Any] = game) -> None:
            for command in game["walkthrough"]:
                state = env.step(command)[0]
            assert state["won"]

        found["step"].append(seconds(walk) / len(game["walkthrough"]))
    return found


def ratio(label: str, ours: list[float], theirs: list[float], wanted: float) -> None:
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(
        f"\n{label}: {mine * 1e6:.2f} us ({1 / mine:,.0f}/s), the real engine {peer * 1e3:.0f} ms: {peer / mine:,.0f} times"
    )
    assert peer / mine > wanted


@pytest.mark.parametrize(("listed", "wanted"), [(False, 15_000), (True, 9_000)])
def test_engine(games: Any, real: dict[str, list[float]], listed: bool, wanted: float) -> None:
    pack, ours = official.open_pack(), []
    for task_id, game in games.items():
        board, walkthrough = pack.board(task_id), game["walkthrough"]
        house = House(board)

        def walk(board: Any = board, walkthrough: Any = walkthrough, house: House = house) -> None:
            for _ in range(REPEATS):
                house.begin(board)
                for command in walkthrough:
                    house.act(command)
                    if listed:
                        house.admissible()

        walk()
        ours.append(seconds(walk) / REPEATS / len(walkthrough))
    ratio(f"step{' and list' if listed else ''}", ours, real["step"], wanted)


@pytest.mark.parametrize(("listed", "wanted"), [(False, 5_000), (True, 3_000)])
def test_environment(games: Any, real: dict[str, list[float]], listed: bool, wanted: float) -> None:
    env: Any = gymnasium.make("prosegym/ALFWorld-v1", admissible=listed)
    ours = []
    for task_id, game in games.items():

        def walk(task_id: str = task_id, walkthrough: Any = game["walkthrough"]) -> None:
            for _ in range(REPEATS):
                env.reset(options={"task_id": task_id})
                for command in walkthrough:
                    env.step(command)

        walk()
        ours.append(seconds(walk) / REPEATS / len(game["walkthrough"]))
    ratio(f"environment's step{' and list' if listed else ''}", ours, real["step"], wanted)


def test_where_a_step_goes(games: Any) -> None:
    """Microseconds of a step: the engine, an environment that answers nothing, Gymnasium's wrapper, the list."""
    pack, spent = (
        official.open_pack(),
        dict.fromkeys(("engine", "nothing", "environment", "wrapped", "list"), 0.0),
    )
    wrapped: Any = gymnasium.make("prosegym/ALFWorld-v1", admissible=False)
    listing: Any = gymnasium.make("prosegym/ALFWorld-v1")

    class Nothing(type(wrapped.unwrapped)):  # type: ignore[misc]
        def _play(self, action: str) -> Outcome:
            return Outcome("")

    envs = {
        "nothing": Nothing(admissible=False),
        "environment": wrapped.unwrapped,
        "wrapped": wrapped,
        "list": listing,
    }
    steps = 0
    for task_id, game in games.items():
        board, walkthrough = pack.board(task_id), game["walkthrough"]
        house = House(board)
        steps += len(walkthrough)

        def resets(begin: Callable[[], object]) -> None:
            for _ in range(REPEATS):
                begin()

        def walk(begin: Callable[[], object], act: Any, walkthrough: Any = walkthrough) -> None:
            for _ in range(REPEATS):
                begin()
                for command in walkthrough:
                    act(command)

        begins = {name: partial(env.reset, options={"task_id": task_id}) for name, env in envs.items()}
        acts = {name: env.step for name, env in envs.items()}
        begins["engine"], acts["engine"] = partial(house.begin, board), house.act
        for name, begin in begins.items():
            whole = min(seconds(partial(walk, begin, acts[name])) for _ in range(5))
            spent[name] += (whole - min(seconds(partial(resets, begin)) for _ in range(5))) / REPEATS
    print("\n" + ", ".join(f"{name} {total / steps * 1e6:.2f} us" for name, total in spent.items()))
    assert spent["engine"] < spent["environment"] < spent["list"]


def test_reset(games: Any, real: dict[str, list[float]]) -> None:
    pack, ours = official.open_pack(), []
    for task_id in games:
        board = pack.board(task_id)
        house = House(board)

        def resets(board: Any = board, house: House = house) -> None:
            for _ in range(20 * REPEATS):
                house.begin(board)

        ours.append(seconds(resets) / 20 / REPEATS)
    ratio("reset", ours, real["reset"], 100_000)


def test_vector(installed: Any) -> None:
    """Batched steps beside Gymnasium's own SyncVectorEnv."""
    installed("alfworld")
    took = {}
    for mode in ("vector_entry_point", "sync"):
        envs: Any = gymnasium.make_vec("prosegym/ALFWorld-v1", num_envs=64, vectorization_mode=mode)
        envs.reset(seed=0)
        work = lambda envs=envs: [envs.step(("look",) * 64) for _ in range(100)]  # noqa: E731
        took[mode] = statistics.median(seconds(work) for _ in range(5)) / 6400
    print(
        f"\nvector step: {took['vector_entry_point'] * 1e6:.2f} us, SyncVectorEnv {took['sync'] * 1e6:.2f} us"
    )
    assert took["vector_entry_point"] < took["sync"]


def test_generator() -> None:
    generate("train", 0)
    each = seconds(lambda: [generate("bench", i) for i in range(3000)]) / 3000
    print(f"\ngenerated: {1 / each:,.0f} games a second")


MEMORY = """
import json, sys, time, psutil, gymnasium, prosegym
mib = lambda: psutil.Process().memory_info().rss / 2**20
start = mib()
before = time.process_time()
first = gymnasium.make(sys.argv[1]); first.unwrapped.tasks("train")[0]
opened = time.process_time() - before
envs = [gymnasium.make(sys.argv[1]) for _ in range(1000)]
for i, env in enumerate(envs):
    env.reset(options={"task_id": env.unwrapped.tasks("train")[i].id}); env.step("look")
print(json.dumps([start, mib(), opened]))
"""


@pytest.mark.parametrize("env_id", ["prosegym/ALFWorld-v1", "prosegym/Household-v1"])
def test_thousand_environments(installed: Any, env_id: str) -> None:
    installed("alfworld")
    out = subprocess.run([sys.executable, "-c", MEMORY, env_id], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True)  # fmt: skip
    start, full, opened = json.loads(out.stdout)
    print(f"\n{env_id}: first use {opened:.2f} s; 1,000 environments {full:.0f} MiB ({start:.0f} before)")
    assert full < 200
