"""ScienceWorld: the official tasks, the same text alone and among others, recorded episodes."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from prosegym.envs import panels
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.scienceworld import engine
from prosegym.envs.scienceworld.engine import ENGINE, Simulation, random_state
from prosegym.envs.scienceworld.env import ELECTRICAL, ETO_LIMITS, table

pytest.importorskip("scienceworld")

ENV = "prosegym/ScienceWorld-v1"


@pytest.fixture(scope="module", autouse=True)
def one_machine() -> Iterator[None]:
    """Keep the machine from test to test."""
    machine = ENGINE.acquire()
    yield
    machine.release()


def make(**kwargs: Any) -> Any:
    return gymnasium.make(ENV, **kwargs).unwrapped


def test_the_official_splits() -> None:
    env = make()
    sizes = {split: len(env.tasks(split)) for split in env.splits}
    assert sizes == {"train": 3592, "dev": 1796, "test": 1819}
    assert len({task.id for split in env.splits for task in env.tasks(split)}) == 7207
    assert len({task.task_type for task in env.tasks("test")}) == len(table()) == 30
    assert env.task("test/boil/21").split == "test"
    for wrong in ("test/boil/30", "test/boil/0", "train/boil/-1", "test/boil", "test/bake/1"):
        with pytest.raises(UnknownName, match="nearest"):
            env.reset(options={"task_id": wrong})
    for split in ("dev", "test"):
        assert panels.load(f"ScienceWorld-v1/{split}").task_ids == [task.id for task in env.tasks(split)]
    for name in ("dev", "test", "eto_seen", "eto_unseen"):
        panels.tasks_of(panels.load(f"ScienceWorld-v1/{name}"), env)


def test_some_episodes_begin_with_points() -> None:
    """The scores that the package's own `reset` gave, over 100."""
    env = make()
    for task, score in (("boil/21", 0.0), ("test-conductivity/675", 0.05), ("grow-fruit/93", 0.11)):
        assert env.reset(options={"task_id": f"test/{task}"})[1]["score"] == score
        assert env.step("")[4]["score"] == score


def test_the_table_is_the_engine_s() -> None:
    machine = ENGINE.acquire()
    simulation = Simulation(machine)
    server = simulation._server
    assert {row.task for row in table()} == set(server.getTaskNames())
    for row in table():
        assert server.getTaskMaxVariations(row.task) == row.train + row.dev + row.test
    for row in (table()[0], table()[15], table()[23]):  # 30, 126 and 14 variations: each way of rounding
        assert not server.load(row.task, 0, "", False)
        assert list(server.getVariationsTrain()) == list(row.of("train"))
        assert list(server.getVariationsDev()) == list(row.of("dev"))
        assert list(server.getVariationsTest()) == list(row.of("test"))
    machine.release()


def test_things_hash_by_identifier() -> None:
    machine = ENGINE.acquire()
    simulation = Simulation(machine)
    simulation.load("boil", 0, "")

    def identifiers(jvm: Any) -> list[tuple[int, int]]:
        chair = jvm.scienceworld.objects.containers.furniture.Chair  # a type it knows; others it writes down
        things = [chair() for _ in range(3)]
        return [(thing.uuid(), thing.hashCode()) for thing in things]

    pairs = machine.call(identifiers)
    assert len({identifier for identifier, _ in pairs}) == 3
    assert all(hashed == identifier for identifier, hashed in pairs)
    machine.release()


def test_the_state_of_java_s_random_generator() -> None:
    # new java.util.Random(42) gives -1170105035, then 234785527, by nextInt: the upper 32 of 48 bits.
    assert (random_state(42, 1) >> 16) - (1 << 32) == -1170105035
    assert random_state(42, 2) >> 16 == 234785527


def loaded_as_by_the_engine(episodes: list[tuple[str, int, str]]) -> None:
    """Compare all that loads leave behind with what the engine's own load does."""
    machine = ENGINE.acquire()
    ours, theirs = Simulation(machine), Simulation(machine)

    def state(turn: engine.Turn, server: Any) -> list[Any]:
        world = server.agentInterface().get().universe().toJSON()  # every thing, with its identifier
        texts = [server.step(action) for action in ("look around", "inventory", "objects")]
        left = [turn.random_state(), turn.identifiers.count(), turn.simplifier.getSimplificationsUsed()]
        return [server.getTaskDescription(), world, *texts, server.getGoalProgressStr(), *left]

    def load(episode: tuple[str, int, str]) -> tuple[list[Any], list[Any]]:
        def do(jvm: Any) -> tuple[list[Any], list[Any]]:
            turn = engine._turn(machine, jvm)
            turn.take(None)
            turn.load(ours._server, *episode)
            got = state(turn, ours._server)
            assert not theirs._server.load(*episode, False)
            return got, state(turn, theirs._server)

        return machine.call(do)

    for episode in episodes:
        got, want = load(episode)
        assert got == want, episode
    machine.release()


def test_a_load_is_as_the_engine_s_own() -> None:
    assert set(engine.MAKING) == {row.task for row in table()}
    rules = ("", "easy", "openContainers")
    loaded_as_by_the_engine(
        [(row.task, row.of("test")[-1 - n % 4], rules[n % 3]) for n, row in enumerate(table())]
    )


@pytest.mark.slow
def test_a_load_is_as_the_engine_s_own_in_many_variations() -> None:
    for row in table():
        last = row.of("test")[-1]
        loaded_as_by_the_engine([(row.task, variation, "easy") for variation in {*range(0, last, 25), last}])


ACTIONS = [
    "look around", "open door to kitchen", "open door", "0", "inventory", "go to kitchen", "look in fridge",
    "open fridge", "pick up thermometer", "objects", "wait", "teleport to greenhouse", "nonsense", "wait1",
]  # fmt: skip


def texts(env: Any, task_id: str, actions: list[str]) -> list[str]:
    seen = [env.reset(options={"task_id": task_id})[0]]
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        if terminated or truncated:
            break
    return seen


def interleaved_is_as_alone(task_ids: list[str], actions: list[str]) -> None:
    alone = make()
    want = [texts(alone, task_id, actions) for task_id in task_ids]
    # Each has other rules and asks for other things; none of it may reach its neighbours.
    envs = [make(admissible=i % 2 == 0) for i in range(len(task_ids))]
    noise = make(simplifications="easy")
    got = [[env.reset(options={"task_id": task_id})[0]] for env, task_id in zip(envs, task_ids, strict=True)]
    noise.reset(options={"task_id": "train/grow-fruit/1"})
    for action in actions:
        for env, seen, full in zip(envs, got, want, strict=True):
            if len(seen) < len(full):
                seen.append(env.step(action)[0])
        noise.step("wait1")
    assert got == want
    for env in (alone, noise, *envs):
        env.close()


def test_episodes_do_not_touch_each_other() -> None:
    interleaved_is_as_alone(
        ["test/grow-plant/100", "dev/power-component/11", "test/mendelian-genetics-known-plant/99"], ACTIONS
    )


@pytest.mark.slow
def test_episodes_do_not_touch_each_other_in_any_task() -> None:
    interleaved_is_as_alone([f"test/{row.task}/{row.of('test')[-1]}" for row in table()], ACTIONS)


def test_a_wrong_focus_ends_the_episode_and_is_no_success() -> None:
    env = make()
    env.reset(options={"task_id": "test/boil/21"})
    env.step("open door to kitchen")
    _, reward, terminated, truncated, info = env.step("focus on door to kitchen")
    if not terminated:  # the engine asks which door where there are several names for it
        _, reward, terminated, truncated, info = env.step("0")
    assert terminated and not truncated
    assert reward == info["score"] == info["progress"] == 0.0 and not info["success"]
    env.close()


def test_a_list_answered_with_none_of_its_numbers_is_an_invalid_action() -> None:
    """The engine cancels the action that it asked about, and says that it knows none such."""
    env = make()
    for answer, invalid in (
        ("", True),
        ("open door to kitchen", True),
        ("99", True),
        (" 0", True),
        ("0", False),
    ):
        env.reset(options={"task_id": "train/boil/0"})
        observation, *_, info = env.step("open door")
        assert observation.startswith("Ambiguous request") and not info["invalid_action"]
        observation, *_, info = env.step(answer)
        assert info["invalid_action"] == invalid == observation.startswith("Unknown action."), answer
        assert env.step("look around")[0].startswith("This room")
    env.close()


def test_simplifications_and_limits() -> None:
    env = make(simplifications="easy", step_limits="eto")
    env.reset(options={"task_id": "dev/find-animal/150"})
    assert env.max_steps == ETO_LIMITS["find-animal"] == 15
    text = env.step("teleport to kitchen")[0]
    assert "kitchen" in text
    env.reset(options={"task_id": "dev/inclined-plane-determine-angle/84"})
    assert env.max_steps == 100
    env.close()
    assert make(max_steps=7, step_limits="eto").max_steps == 7
    env = make(max_steps=7, step_limits="eto")
    env.reset(options={"task_id": "dev/find-animal/150"})
    assert env.max_steps == 7
    plain = texts(env, "dev/find-animal/150", ["teleport to kitchen"])
    assert plain[1] == env.refusal
    env.close()
    with pytest.raises(UnknownName, match="openDoors"):
        make(simplifications="opendoor")
    with pytest.raises(BadOption, match="alone"):  # it said: unknown simplification 'easy'; nearest: easy
        make(simplifications="easy,openContainers")
    with pytest.raises(UnknownName, match="step_limits"):
        make(step_limits="ETO")
    assert set(ETO_LIMITS) < {row.task for row in table()}


def test_no_electrical_action_leaves_the_electrical_tasks_out() -> None:
    env = make(simplifications="openDoors,noElectricalAction")
    assert [len(env.tasks(split)) for split in env.splits] == [2822, 1411, 1434]
    left_out = {row.task for row in table()} - {t.task_type for split in env.splits for t in env.tasks(split)}
    assert left_out == ELECTRICAL
    assert env.task("dev/find-animal/150").task_type == "find-animal"
    for wrong in ("dev", "dev/bake/0"):
        with pytest.raises(UnknownName):
            env.task(wrong)
    with pytest.raises(BadOption, match="dev/test-conductivity/450 .*`easy`"):
        env.reset(options={"task_id": "dev/test-conductivity/450"})
    with pytest.raises(BadOption, match="dev/power-component/[0-9]* .*`easy`"):  # before a run begins
        panels.tasks_of(panels.load("ScienceWorld-v1/dev"), env)
    env.close()
    env = make(simplifications="easy")
    assert env.task("dev/power-component/10").task_type == "power-component"
    assert sum(len(env.tasks(split)) for split in env.splits) == 7207
    # What the engine's own `easy` keeps the actions for.
    for row in table():
        env.reset(options={"task_id": f"dev/{row.task}/{row.of('dev')[0]}"})
        assert ("disconnect" in env.step("help")[0]) == (row.task in ELECTRICAL), row.task
    env.close()


def test_the_instruction_names_the_actions_that_there_are() -> None:
    told = {s: make(simplifications=s).instruction for s in ("", "openDoors", "easy", "noElectricalAction")}
    assert "teleport" not in told[""] and "disconnect" in told[""] and told["openDoors"] == told[""]
    assert "teleport to OBJ" in told["easy"] and "disconnect" in told["easy"]  # some tasks of `easy` have it
    assert "connect" not in told["noElectricalAction"] and "teleport" not in told["noElectricalAction"]
    both = make(simplifications="teleportAction,noElectricalAction")
    assert "teleport to OBJ" in both.instruction and "connect" not in both.instruction
    both.reset(options={"task_id": "dev/find-animal/150"})
    listed = both.step("help")[0]  # the engine's own list
    assert "teleport OBJ" in listed and "connect" not in listed
    assert "greenhouse" in both.step("teleport to greenhouse")[0]
    for action in ("connect door to door", "disconnect door"):
        assert both.step(action)[0] == both.refusal
    both.close()


def test_valid_actions_are_listed_when_asked_for_and_change_nothing() -> None:
    env, plain = make(admissible=True), make()
    task = {"task_id": "dev/chemistry-mix/17"}
    text, info = env.reset(options=task)
    assert plain.reset(options=task)[0] == text
    for place in (0.2, 0.5, 0.8):
        listed = info["admissible_actions"]
        assert listed == sorted(listed) and len(listed) > 100
        action = listed[int(place * len(listed))]
        observation, *_, info = env.step(action)
        assert not info["invalid_action"]
        assert plain.step(action)[0] == observation
    env.close(), plain.close()


def test_an_expert_s_path_may_be_longer_than_eto_s_limit() -> None:
    for kwargs, score in (({}, 0.83), ({"max_steps": 400}, 1.0)):  # as the page says
        env = make(simplifications="easy", step_limits="eto", **kwargs)
        text, info = env.reset(options={"task_id": "test/find-animal/225"})
        expert, ended = env.expert(), False
        while not ended:
            text, _, terminated, truncated, info = env.step(expert.act(text, info))
            ended = terminated or truncated
        assert info["score"] == score and info["steps"] == (16 if kwargs else 15)
        env.close()


def test_the_expert_is_silent_off_its_path() -> None:
    env = make()
    observation, info = env.reset(options={"task_id": "train/lifespan-longest-lived/0"})
    expert = env.expert()
    first = expert.act(observation, info)
    assert first is not None
    observation, *_, info = env.step("no such action")
    assert info["invalid_action"] and expert.act(observation, info) == first
    observation, *_, info = env.step(first)
    assert expert.act(observation, info) is not None
    observation, *_, info = env.step("wait1")
    assert expert.act(observation, info) is None
    assert env.expert().act(observation, info) is None  # one who comes late knows it, too
    env.close()


def recorded(test_data: Path) -> list[dict[str, Any]]:
    path = test_data / "scienceworld" / "gold_transcripts_v1.2.3.jsonl.xz"
    if not path.is_file():
        pytest.skip(f"no recorded episodes at {path}")
    with lzma.open(path, "rt") as file:
        return [json.loads(line) for line in file]


# The recording machine's order of things decided these: in which order things conduct in one moment, where
# bees fly; and, of texts alone, a thermometer's last digit.
DRAWN_SCORES = ("power-component", "mendelian", "grow-fruit")
DRAWN_TEXTS = (*DRAWN_SCORES, "use-thermometer", "measure-melting-point-known", "freeze")


def replay(episode: dict[str, Any]) -> None:
    env = make(max_steps=500)
    where = f"{episode['split']}/{episode['task']}/{episode['variation']}"
    text, _ = env.reset(options={"task_id": where})
    description, look = text.split("\n\n", 1)
    assert episode["taskDesc"] == f"Task Description:\n{description}"
    assert Counter(look.split("\n")) == Counter(episode["obs0"].split("\n")), where
    for number, step in enumerate(episode["steps"]):
        text, _, terminated, _, info = env.step(step["a"])
        if not episode["task"].startswith(DRAWN_SCORES):
            assert round(100 * info["score"]) == max(0, step["score"]), (where, number)
            assert terminated == step["done"] and info["success"] == (step["score"] == 100), (where, number)
        if not episode["task"].startswith(DRAWN_TEXTS):
            assert sorted(text) == sorted(step["o"]), (where, number, step["a"])
        if terminated:
            break
    if not info["success"] and episode["task"].startswith("power-component"):
        info = env.step("wait1")[4]
    assert info["success"] == (episode["steps"][-1]["score"] == 100) or episode["task"] == "grow-fruit", where
    env.close()


def test_recorded_episodes(test_data: Path) -> None:
    for episode in recorded(test_data):
        if episode["task"] in ("find-plant", "chemistry-mix", "lifespan-shortest-lived"):
            replay(episode)


@pytest.mark.slow
def test_all_recorded_episodes(test_data: Path) -> None:
    for episode in recorded(test_data):
        replay(episode)
