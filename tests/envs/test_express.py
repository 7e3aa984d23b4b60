"""TextWorld-Express: games that share an engine do not touch each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

from prosegym.envs import ENVS
from prosegym.envs.errors import BadOption
from prosegym.envs.express.env import ENGINE, VERSION
from prosegym.evaluation.runs import versions

pytest.importorskip("textworld_express")

IDS = [env_id for env_id in ENVS if "TextWorldExpress" in env_id]


@pytest.fixture(scope="module", autouse=True)
def one_machine() -> Iterator[None]:
    """Keep the machine from test to test."""
    machine = ENGINE.acquire()
    yield
    machine.release()


def expert_texts(env: Any, task_id: str) -> tuple[list[str], list[str]]:
    observation, info = env.reset(options={"task_id": task_id})
    expert = env.unwrapped.expert()
    actions: list[str] = []
    texts = [observation]
    done = False
    while not done and (action := expert.act(observation, info)) is not None:
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(action)
        texts.append(observation)
        done = terminated or truncated
    assert info["success"] and info["score"] == 1.0 and info["progress"] == 1.0
    return actions, texts


@pytest.mark.parametrize("env_id", IDS)
def test_interleaved_games_of_one_task_are_as_alone(env_id: str) -> None:
    a, b = gymnasium.make(env_id), gymnasium.make(env_id)
    actions, texts = expert_texts(a, "dev/10003")
    seen_a, seen_b = ([env.reset(options={"task_id": "dev/10003"})[0]] for env in (a, b))
    b.step("inventory")  # one behind: were things shared, it would see the other's doings
    for action in actions:
        seen_a.append(a.step(action)[0])
    assert seen_a == texts
    a.reset(options={"task_id": "dev/10003"})
    b.reset(options={"task_id": "dev/10003"})
    for action in actions:
        a.step(action)
        seen_b.append(b.step(action)[0])
    assert seen_b == texts
    a.close(), b.close()


def test_admissible_actions_are_the_engine_s_and_a_lost_game_scores_nothing() -> None:
    env = gymnasium.make("prosegym/TextWorldExpress-SimonSays-v1")
    observation, info = env.reset(options={"task_id": "test/20000"})
    said = observation.split("'")[1]
    wrong = next(action for action in info["admissible_actions"] if action != said)
    assert said in info["admissible_actions"]
    _, _, terminated, _, info = env.step(said)
    assert not terminated and info["score"] == pytest.approx(0.2)
    _, reward, terminated, _, info = env.step(wrong)
    assert terminated and reward == info["score"] == 0.0 and not info["success"]
    env.close()


def test_a_gold_path_longer_than_the_limit_wins_with_more_steps() -> None:
    env = gymnasium.make("prosegym/TextWorldExpress-CookingWorld-v1", max_steps=150)
    assert env.unwrapped.ceiling < 1.0  # type: ignore[attr-defined]
    actions, _ = expert_texts(env, "test/20123")
    assert 100 < len(actions) <= 123
    env.close()


def test_help_repeats_the_task_and_changes_nothing() -> None:
    """As `step` of the package's own TextWorldExpressEnv answers it, to the letter."""
    env = gymnasium.make("prosegym/TextWorldExpress-SimonSays-v1")
    _, before = env.reset(options={"task_id": "test/20000"})
    assert env.step("help")[0] == "Your task is to do exactly what Simon says."
    observation, _, _, _, info = env.step("Help")
    assert observation.startswith("Unknown action") and info["invalid_action"]
    *_, info = env.step("help")
    assert info == before | {"steps": 3}
    env.close()


def test_an_action_is_trimmed_as_the_engine_trims_it() -> None:
    env = gymnasium.make("prosegym/TextWorldExpress-Coin-v1")
    env.reset(options={"task_id": "dev/10000"})
    server = env.unwrapped._server
    for action in ("inventory\n", " \tinventory ", "inventory\u00a0", "\u3000inventory", "inventory\u2028"):
        unread = env.unwrapped._machine.call(lambda jvm, action=action: server.stepJSON(action))
        *_, info = env.step(action)
        assert info["invalid_action"] == ("Unknown action" in unread), action
    env.close()


def test_parameters_are_recorded_and_make_other_tasks() -> None:
    made = gymnasium.make("prosegym/TextWorldExpress-Coin-v1", params="numLocations=2,includeDoors=0")
    assert made.spec is not None and made.spec.kwargs["params"] == "numLocations=2,includeDoors=0"
    default = gymnasium.make("prosegym/TextWorldExpress-Coin-v1")
    assert made.unwrapped.task("dev/10000").sha256 != default.unwrapped.task("dev/10000").sha256
    few, _ = made.reset(options={"task_id": "dev/10000"})
    assert few != default.reset(options={"task_id": "dev/10000"})[0]
    for unread in ("numLocations=two", "numLocations=9999999999", "numLocations=\uff13"):
        with pytest.raises(BadOption, match="name=number"):
            gymnasium.make("prosegym/TextWorldExpress-Coin-v1", params=unread)
    wrong = gymnasium.make("prosegym/TextWorldExpress-Coin-v1", params="numLocations=99")
    with pytest.raises(BadOption, match="numLocations=99"):
        wrong.reset(seed=0)
    made.close(), default.close(), wrong.close()


def test_a_run_records_the_release_of_the_games() -> None:
    assert versions()["textworld-express"] == VERSION
