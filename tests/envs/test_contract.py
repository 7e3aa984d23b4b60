"""What every registered environment promises, tested on each without naming any."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import random
import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env

from prosegym.envs import ENVS
from prosegym.envs.core import INFO_KEYS, TextEnv
from prosegym.envs.errors import BadOption, ProsegymError, UnknownName, Unsupported
from prosegym.envs.rewards import Maker
from prosegym.envs.textworld import games

EXPERT_TASKS = 4
"""Tasks a split that each expert plays here; families test more of their own."""


@pytest.fixture(params=list(ENVS))
def env_id(request: pytest.FixtureRequest, installed: Any) -> str:
    """Every id, made playable: its extra present, its data installed."""
    env_class = class_of(request.param)
    if env_class.extra is not None and not extra_present(env_class):
        pytest.skip(f"prosegym[{env_class.extra}] is not installed")
    if env_class.data is not None:
        installed(env_class.data)
    return str(request.param)


def class_of(env_id: str) -> type[TextEnv]:
    module, _, attribute = ENVS[env_id].partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    assert isinstance(maker, Maker)
    return maker.env_class


def extra_present(env_class: type[TextEnv]) -> bool:
    """Families with an extra say which module stands for it in `extra_module` of their package."""
    name = getattr(importlib.import_module(env_class.__module__), "EXTRA_MODULE", env_class.extra)
    return importlib.util.find_spec(str(name)) is not None


def make(env_id: str, **kwargs: Any) -> Any:
    return gymnasium.make(env_id, **kwargs)


@pytest.mark.parametrize("env_id", [name for name in ENVS if class_of(name).extra])
def test_a_missing_extra_is_told_before_anything_is_played(
    env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay would take it for an episode's fault."""

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    env = make(env_id).unwrapped
    task = env.tasks("test")[0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    monkeypatch.setattr(importlib.metadata, "version", version)
    games._version.cache_clear()
    with pytest.raises(ProsegymError, match=f"prosegym.{env.extra}"):
        env.prepare([task])


def play(env: Any, actions: list[str]) -> list[Any]:
    return [env.step(action) for action in actions]


def expert_actions(
    env_id: str, task_id: str, name: str | None = None
) -> tuple[list[str], list[str], dict[str, Any]]:
    env = make(env_id)
    observation, info = env.reset(options={"task_id": task_id})
    expert = env.unwrapped.expert(name)
    actions, texts, done = [], [observation], False
    while not done:
        actions.append(expert.act(observation, info) or "")
        observation, _, terminated, truncated, info = env.step(actions[-1])
        texts.append(observation)
        done = terminated or truncated
    env.close()
    return actions, texts, info


def test_id_is_that_of_the_class(env_id: str) -> None:
    assert class_of(env_id).env_id == env_id


def test_gymnasium_checker(env_id: str) -> None:
    env = make(env_id, render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore", message=".*not.*standard.*|.*spec.*render.*|.*different from the unwrapped.*"
        )
        check_env(env.unwrapped)
    env.close()


def test_same_seed_or_task_same_text(env_id: str) -> None:
    a, b = make(env_id), make(env_id)
    for seed in range(3):
        assert a.reset(seed=seed) == b.reset(seed=seed)
    task_id = a.unwrapped.tasks(a.unwrapped.splits[0])[1].id
    actions, texts, _ = expert_actions(env_id, task_id)
    assert a.reset(options={"task_id": task_id})[0] == texts[0]
    assert [step[0] for step in play(a, actions)] == texts[1:]
    a.close(), b.close()


def test_splits_are_disjoint_and_everywhere_the_same(env_id: str) -> None:
    env = make(env_id).unwrapped
    seen: set[str] = set()
    for split in env.splits:
        tasks = env.tasks(split)
        head = [tasks[i] for i in range(min(200, len(tasks)))]
        ids = {task.id for task in head}
        assert len(ids) == len(head) > 0 and not ids & seen
        assert all(task.split == split and task.env_id == env_id for task in head)
        assert env.task(head[-1].id) == head[-1]
        seen |= ids
    code = (
        "import sys,json,gymnasium,prosegym\n"
        "sys.path.insert(0,sys.argv[2])\n"
        "import conftest\n"
        "e=gymnasium.make(sys.argv[1]).unwrapped\n"
        "print(json.dumps([[[t.id,t.sha256] for t in (e.tasks(s)[i] for i in range(min(5,len(e.tasks(s)))))]"
        " for s in e.splits]))"
    )
    tests = os.path.dirname(os.path.dirname(__file__))
    out = subprocess.run(
        [sys.executable, "-c", code, env_id, tests],
        env=os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join([*sys.path, tests])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    here = [
        [[t.id, t.sha256] for t in (env.tasks(s)[i] for i in range(min(5, len(env.tasks(s)))))]
        for s in env.splits
    ]
    assert json.loads(out.stdout.strip().splitlines()[-1]) == here


def test_experts_reach_the_ceiling(env_id: str) -> None:
    env = make(env_id).unwrapped
    assert env.experts
    for name, privileged in env.experts.items():
        scores = []
        for split in env.splits:
            for i in range(min(EXPERT_TASKS, len(env.tasks(split)))):
                _, _, info = expert_actions(env_id, env.tasks(split)[i].id, name)
                scores.append(info["score"])
                assert info["success"] == (info["score"] == 1.0)
                assert not info["success"] or info["progress"] == 1.0
        env.reset(seed=0)
        assert env.expert(name).privileged == privileged
        if name == next(iter(env.experts)):
            assert sum(scores) / len(scores) >= env.ceiling


def test_null_scores_nothing(env_id: str) -> None:
    env = make(env_id)
    for split in env.unwrapped.splits:
        env.reset(options={"task_id": env.unwrapped.tasks(split)[0].id})
        done, total = False, 0.0
        while not done:
            _, reward, terminated, truncated, info = env.step("")
            total += reward
            done = terminated or truncated
        assert total == 0.0 and info["score"] == 0.0 and not info["success"]
    env.close()


def test_info_keys_and_ranges(env_id: str) -> None:
    env = make(env_id)
    task = env.unwrapped.tasks(env.unwrapped.splits[0])[0]
    actions, _, _ = expert_actions(env_id, task.id)
    _, info = env.reset(options={"task_id": task.id})
    infos = [
        info,
        *(
            step[4]
            for step in play(env, [*actions[:-1], "no such thing", actions[-1]][: env.unwrapped.max_steps])
        ),
    ]
    for steps, info in enumerate(infos):
        assert tuple(info) == INFO_KEYS
        assert (info["task_id"], info["split"], info["task_type"]) == (task.id, task.split, task.task_type)
        assert 0.0 <= info["score"] <= 1.0 and 0.0 <= info["progress"] <= 1.0
        assert info["steps"] == steps
        assert type(info["success"]) is bool and type(info["invalid_action"]) is bool
        assert info["admissible_actions"] is None or all(type(a) is str for a in info["admissible_actions"])
    env.close()
    env = make(env_id, admissible=False)
    assert env.reset(seed=1)[1]["admissible_actions"] is None
    env.close()


def test_admissible_actions_are_admitted(env_id: str) -> None:
    env = make(env_id)
    _, info = env.reset(seed=3)
    for _ in range(5):
        if info["admissible_actions"] is None:
            pytest.skip("this environment lists no actions")
        action = info["admissible_actions"][len(info["admissible_actions"]) // 2]
        *_, terminated, truncated, info = env.step(action)
        assert not info["invalid_action"], action
        if terminated or truncated:
            break
    env.close()


def test_a_changed_list_of_actions_changes_nothing(env_id: str) -> None:
    env, other = make(env_id), make(env_id)
    (_, mine), (_, info) = env.reset(seed=3), other.reset(seed=3)
    if info["admissible_actions"] is None:
        pytest.skip("this environment lists no actions")
    actions = list(info["admissible_actions"])
    mine["admissible_actions"][:] = ["xyzzy plugh"]
    for action in ("\x00", "xyzzy plugh", actions[len(actions) // 2]):
        assert env.step(action) == other.step(action)
    env.close(), other.close()


def test_what_has_ended_stays_ended(env_id: str) -> None:
    env = make(env_id)
    task_id = env.reset(seed=2)[1]["task_id"]
    actions, _, last = expert_actions(env_id, task_id)
    env.reset(options={"task_id": task_id})
    *_, terminated, truncated, _ = play(env, actions)[-1]
    for action in ("", *actions[-2:]):
        *_, again, _, info = env.step(action)
        assert again == terminated or truncated
        for key in ("score", "progress", "success"):
            assert info[key] == last[key] or truncated
    env.close()


@pytest.mark.parametrize(
    "action", ["", "xyzzy plugh", "x" * 1_000_000, "a\x00b", "\x1b[2J", "\ud800", "näch\u202este"]
)
def test_an_invalid_action_costs_a_step_and_changes_nothing(env_id: str, action: str) -> None:
    env = make(env_id)
    _, before = env.reset(seed=5)
    observation, reward, terminated, truncated, info = env.step(action)
    assert info["invalid_action"] and info["steps"] == 1 and isinstance(observation, str)
    assert not terminated and not truncated and reward == 0.0
    for key in ("score", "progress", "success", "admissible_actions"):
        assert info[key] == before[key]
    with pytest.raises(TypeError):
        env.unwrapped.step(None)
    env.close()


def test_digits_that_int_does_not_take_are_answered(env_id: str) -> None:
    env = make(env_id)
    for action in ("\u00b2", "1" * 5000):
        env.reset(seed=5)
        observation, *_, info = env.step(action)
        assert isinstance(observation, str) and info["steps"] == 1 and not info["success"]
    env.close()


@pytest.mark.parametrize("mode", ["sparse", "progress", "potential", "expert"])
def test_reward_modes_are_declared(env_id: str, mode: str) -> None:
    env = make(env_id, reward=mode)
    assert json.loads(env.spec.to_json())["kwargs"].get("reward") == mode
    name = next((n for n, privileged in env.unwrapped.experts.items() if privileged), None)
    task_id = env.unwrapped.tasks(env.unwrapped.splits[0])[0].id
    _, info = env.reset(options={"task_id": task_id})
    start = info["progress"]
    actions, _, last = expert_actions(env_id, task_id, name)
    rewards = [step[1] for step in play(env, actions)]
    if mode == "sparse":
        assert rewards == [0.0] * (len(rewards) - 1) + [last["score"]]
    if mode == "progress":
        assert sum(rewards) == pytest.approx(last["progress"] - start)
    if mode == "expert":
        assert rewards[0] == 1.0 and sum(rewards) >= 0.8 * len(rewards)
    env.close()


def test_prefix_and_snapshot(env_id: str) -> None:
    env = make(env_id)
    task_id = env.unwrapped.tasks(env.unwrapped.splits[0])[0].id
    actions, texts, _ = expert_actions(env_id, task_id)
    half = len(actions) // 2
    observation, info = env.reset(options={"task_id": task_id, "prefix": actions[:half]})
    assert observation == texts[half] and info["steps"] == half
    for name in env.unwrapped.experts:  # one that knows only what it was shown may have no advice here
        assert isinstance(env.unwrapped.expert(name).act(observation, info), (str, type(None)))
    try:
        state = env.unwrapped.snapshot()
    except Unsupported:
        state = None
    assert [step[0] for step in play(env, actions[half:])] == texts[half + 1 :]
    if state is not None:
        for _ in range(2):
            assert env.unwrapped.restore(state) == (observation, info)
            assert [step[0] for step in play(env.unwrapped, actions[half:])] == texts[half + 1 :]
    with pytest.raises(BadOption):
        env.reset(options={"task_id": task_id, "prefix": actions})
    with pytest.raises(ResetNeeded):  # no episode is left half begun
        env.unwrapped.step(actions[-1])
    for wrong in ("look", 5, [5], np.array(["look"])):
        with pytest.raises(BadOption, match="a list of actions"):
            env.reset(options={"task_id": task_id, "prefix": wrong})
    env.close()


@pytest.mark.parametrize("mode", ["sparse", "progress"])
def test_a_snapshot_is_played_on_in_a_fresh_environment(env_id: str, mode: str) -> None:
    env, fresh = make(env_id, reward=mode), make(env_id, reward=mode)
    with pytest.raises(ResetNeeded, match="call reset before step"):
        fresh.step("look")
    env.reset(seed=2)
    try:
        state = env.unwrapped.snapshot()
    except Unsupported:
        pytest.skip("this environment has no snapshots")
    actions, _, _ = expert_actions(env_id, env.unwrapped.restore(state)[1]["task_id"])
    fresh.unwrapped.restore(state)
    assert play(fresh, actions) == play(env, actions)
    env.close(), fresh.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments(env_id: str, mode: Any) -> None:
    before = set(psutil.Process().children(recursive=True))
    envs = gymnasium.make_vec(env_id, num_envs=2, vectorization_mode=mode)
    single = make(env_id)
    observations, infos = envs.reset(seed=7)
    assert observations[0] == single.reset(seed=7)[0]
    assert observations[1] == single.reset(seed=8)[0]
    assert list(infos["steps"]) == [0, 0]
    for _ in range(3):
        observations, rewards, *_ = envs.step(("look", "näch"))
        assert len(observations) == 2 and all(isinstance(o, str) for o in observations)
    envs.close()
    single.close()
    assert not [p for p in psutil.Process().children(recursive=True) if p not in before and lives(p)]


def lives(process: psutil.Process) -> bool:
    # Python's own resource tracker outlives the pool that started it.
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(
            process.cmdline()
        )
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("mode", ["progress", "expert"])
def test_pickle_and_spec_round_trips(env_id: str, mode: str) -> None:
    env = make(env_id, reward=mode, split=class_of(env_id).splits[-1])
    text = env.reset(seed=11)[0]
    copy = pickle.loads(pickle.dumps(env))
    assert copy.reset(seed=11)[0] == text
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.reset(seed=11)[0] == text and again.spec == env.spec
    for made in (env, copy, again):
        made.close()


def test_closed_and_unknown(env_id: str) -> None:
    env = make(env_id).unwrapped
    with pytest.raises(ResetNeeded):
        env.step("look")
    task = env.tasks(env.splits[0])[0]
    for task_id in ("no/such/task", re.sub(r"\d*$", "9" * 5000, task.id), re.sub(r"\w$", "\u0665", task.id)):
        with pytest.raises(UnknownName, match="nearest|there are"):
            env.reset(options={"task_id": task_id})
    for no_text in (3, task):
        with pytest.raises(BadOption, match="task_id"):
            env.reset(options={"task_id": no_text})
    with pytest.raises(UnknownName, match="split"):
        env.tasks("tset")
    with pytest.raises(UnknownName, match="split"):
        make(env_id, split="tset")
    with pytest.raises(UnknownName, match="argument"):
        make(env_id, no_such_argument=1)
    for steps in (0, "many", True):
        with pytest.raises(BadOption, match="max_steps must be a whole number"):
            make(env_id, max_steps=steps)
    with pytest.raises(BadOption, match="task_id"):
        env.reset(options={"taskid": 1})
    with pytest.raises(BadOption, match="a dictionary"):
        env.reset(options=[("task_id", task.id)])  # type: ignore[arg-type]
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()
    with pytest.raises(ClosedEnvironmentError):
        env.step("look")


def test_a_snapshot_of_another_environment_is_refused() -> None:
    """ALFWorld and Household have the same engine, whose states fit both."""
    made = [make("prosegym/Household-v1").unwrapped, make("prosegym/MiniSQL-v1").unwrapped]
    state, before = made[0].reset(seed=1) and made[0].snapshot(), made[1].reset(seed=1)[1]
    with pytest.raises(BadOption, match="Household-v1 cannot be restored in prosegym/MiniSQL-v1"):
        made[1].restore(state)
    assert made[1].step("SELECT 1")[4]["task_id"] == before["task_id"]


def test_a_snapshot_of_another_catalogue_is_refused() -> None:
    """The task has the same name there, and is another: its goal is of another catalogue."""
    shops = [make("prosegym/MiniShop-v1", products=products).unwrapped for products in (1000, 2000)]
    state = shops[0].reset(seed=1) and shops[0].snapshot()
    before = shops[1].reset(seed=1)[1]["task_id"]
    with pytest.raises(BadOption, match="is of products=1000, and here is 2000; make both with equal"):
        shops[1].restore(state)
    assert shops[1].step("look")[4]["task_id"] == before


@pytest.mark.parametrize(
    ("env_id", "setting"),
    [
        ("prosegym/Household-v1", {"dialect": "put"}),
        ("prosegym/Household-v1", {"either_put": True}),
        ("prosegym/MiniShop-v1", {"observation": "text_rich"}),
        ("prosegym/MiniSQL-v1", {"stop_at_success": True}),
        ("prosegym/MiniWiki-v1", {"variant": "retroact"}),
        ("prosegym/MiniWiki-v1", {"max_steps": 3}),
    ],
)
def test_a_snapshot_of_other_settings_is_refused(env_id: str, setting: dict[str, Any]) -> None:
    plain, other = make(env_id).unwrapped, make(env_id, **setting).unwrapped
    for one, two in ((plain, other), (other, plain)):
        one.reset(seed=1)
        _, info = two.reset(seed=2)
        with pytest.raises(
            BadOption, match=f"is of {next(iter(setting))}=.*; make both with equal arguments"
        ):
            two.restore(one.snapshot())
        assert two.step("look")[4]["task_id"] == info["task_id"]


def test_a_snapshot_knows_defaults_that_were_given() -> None:
    one = make("prosegym/Household-v1", split="test").unwrapped
    told = make("prosegym/Household-v1", dialect="move", max_steps=one.max_steps, admissible=False).unwrapped
    first, _ = one.reset(seed=1)
    assert told.restore(one.snapshot())[0] == first


def test_expert_stays_hidden_unless_asked_for(env_id: str) -> None:
    env = make(env_id, expose_expert=True)
    _, info = env.reset(seed=2)
    assert set(info) == {*INFO_KEYS, "expert_action"}
    env.close()


def test_exposed_expert_advises_in_any_state() -> None:
    """Whatever was done before: Household's default expert knows only where its own actions lead."""
    env = make("prosegym/Household-v1", expose_expert=True, split="test")
    chosen = random.Random(0)
    for seed in range(10):
        _, info = env.reset(seed=seed)
        ended = False
        while not ended:
            other = chosen.random() < 0.3
            action = chosen.choice(info["admissible_actions"]) if other else info["expert_action"]
            _, _, terminated, truncated, info = env.step(action)
            assert not info["invalid_action"], action
            ended = terminated or truncated
        assert info["success"]
    task_id = info["task_id"]
    first = env.reset(options={"task_id": task_id})[1]["expert_action"]
    assert env.reset(options={"task_id": task_id, "prefix": ["look"]})[1]["expert_action"] == first
    env.close()


def test_a_restored_episode_has_its_own_expert(env_id: str) -> None:
    env, other = make(env_id, expose_expert=True), make(env_id, expose_expert=True)
    _, info = env.reset(seed=2)
    try:
        state = env.unwrapped.snapshot()
    except Unsupported:
        pytest.skip("this environment has no snapshots")
    for seed in (None, 3):  # into an environment that has played nothing, or another episode
        if seed is not None:
            other.reset(seed=seed)
        assert other.unwrapped.restore(state)[1] == info
    env.close(), other.close()


def test_made_without_an_import(env_id: str) -> None:
    if env_id == "prosegym/Lockbox-v1":
        pytest.skip("the test environment is registered by the tests")
    code = f"import gymnasium; print(gymnasium.make('prosegym:{env_id}').unwrapped.env_id)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == env_id, out.stderr
