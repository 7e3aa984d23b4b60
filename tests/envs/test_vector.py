"""The vector form: the same episodes as single environments, and Gymnasium's habits."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode

from prosegym.envs.core import INFO_KEYS
from prosegym.envs.errors import BadOption, UnknownName

ID = "prosegym/Household-v1"


def vector(n: int, **kwargs: Any) -> Any:
    return gymnasium.make_vec(ID, num_envs=n, vectorization_mode="vector_entry_point", **kwargs)


@pytest.mark.parametrize("reward", ["sparse", "progress", "expert"])
def test_equals_single_environments(reward: str) -> None:
    n = 3
    made: dict[str, Any] = {"max_steps": 4, "reward": reward}
    envs, singles = vector(n, **made), [gymnasium.make(ID, **made) for _ in range(n)]
    sync: Any = gymnasium.make_vec(ID, num_envs=n, vectorization_mode="sync", **made)
    texts, infos = envs.reset(seed=5)
    sync_texts, sync_infos = sync.reset(seed=5)
    alone = [single.reset(seed=5 + i) for i, single in enumerate(singles)]
    assert texts == tuple(text for text, _ in alone) == tuple(sync_texts)
    assert (
        {k for k in infos if not k.startswith("_")}
        == set(INFO_KEYS)
        == {k for k in sync_infos if k[0] != "_"}
    )
    ended = [False] * n
    for turn in range(12):
        actions = [info["admissible_actions"][turn % 7] for _, info in alone]
        texts, rewards, terminated, truncated, infos = envs.step(actions)
        got = sync.step(tuple(actions))
        assert texts == tuple(got[0]) and (terminated == got[2]).all() and (truncated == got[3]).all()
        assert (rewards == got[1]).all() and (infos["steps"] == got[4]["steps"]).all()
        for i, single in enumerate(singles):
            if ended[i]:
                alone[i], ended[i] = single.reset(), False
            else:
                text, reward, terminal, cut, info = single.step(actions[i])
                alone[i], ended[i] = (text, info), terminal or cut
                assert (rewards[i], terminated[i], truncated[i]) == (reward, terminal, cut)
            assert texts[i] == alone[i][0]
            assert {key: infos[key][i] for key in INFO_KEYS} == alone[i][1]
    envs.close(), sync.close()


def test_shapes_spaces_and_spec() -> None:
    envs = vector(4, split="valid")
    assert envs.num_envs == 4 and envs.spec.id == ID
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    _, infos = envs.reset(seed=[1, 1, 2, 2])
    assert infos["task_id"][0] == infos["task_id"][1] != infos["task_id"][2]
    assert infos["_score"].dtype == np.bool_ and infos["score"].dtype == np.float64
    assert infos["steps"].shape == (4,) and isinstance(infos["admissible_actions"][0], list)
    assert envs.observation_space.contains(envs.reset()[0]) and envs.action_space.contains(("look",) * 4)
    texts, rewards, terminated, truncated, _ = envs.step(["look"] * 4)
    assert len(texts) == 4 and rewards.dtype == np.float64
    assert terminated.dtype == truncated.dtype == np.bool_


def test_tasks_can_be_named() -> None:
    envs = vector(2, render_mode="ansi")
    texts, infos = envs.reset(options={"task_ids": ["valid/000003", "test/000004"]})
    assert list(infos["task_id"]) == ["valid/000003", "test/000004"] and envs.render() == texts
    with pytest.raises(BadOption, match="task_ids"):
        envs.reset(options={"task_ids": ["valid/000003"]})


def test_what_single_environments_have_is_reached_by_name() -> None:
    envs = vector(3, reward="progress")
    texts, infos = envs.reset(seed=4)
    assert envs.get_attr("max_steps") == tuple(env.unwrapped.max_steps for env in envs.envs)
    assert envs.call("max_steps") == envs.get_attr("max_steps")  # as in Gymnasium's SyncVectorEnv
    experts = envs.call("expert")
    acts = [experts[i].act(texts[i], {key: infos[key][i] for key in INFO_KEYS}) for i in range(3)]
    assert all(acts[i] in infos["admissible_actions"][i] for i in range(3))
    with pytest.raises(AttributeError, match="nobody"):
        envs.call("nobody")


def test_errors() -> None:
    envs = vector(2)
    with pytest.raises(ResetNeeded):
        envs.step(["look", "look"])
    envs.reset(seed=0)
    with pytest.raises(BadOption, match="1 actions for 2"):
        envs.step(["look"])
    with pytest.raises(BadOption, match="seeds"):
        envs.reset(seed=[1])
    with pytest.raises(BadOption, match="not one text"):
        envs.step("no")
    with pytest.raises(UnknownName, match="reward"):
        vector(2, reward="progres")
    with pytest.raises(UnknownName, match="argument of prosegym/Household-v1 'spilt'; nearest: split"):
        vector(2, spilt="valid")
    with pytest.raises(BadOption, match="num_envs"):
        vector(0)
    envs.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.reset()
