"""Errors, as they come back from other processes."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium
import pytest

from prosegym.envs import trajectory
from prosegym.envs.core import TextEnv
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.evaluation.evaluate import env_arguments


def test_an_unknown_name_is_the_same_after_pickling() -> None:
    """What a pool of processes does with an error; one that cannot be read back breaks the pool."""
    error = UnknownName("split", "tset", ["train", "test"])
    again = pickle.loads(pickle.dumps(error))
    assert (
        type(again) is UnknownName
        and str(again) == str(error) == "unknown split 'tset'; nearest: test (2 in all)"
    )


def test_an_error_in_a_worker_of_gymnasium_is_raised_as_it_is() -> None:
    envs: Any = gymnasium.make_vec("prosegym/Household-v1", num_envs=2, vectorization_mode="async")
    with (
        warnings.catch_warnings(),
        pytest.raises(ProsegymError, match="unknown task id 'nope'; there are train/000000 to ") as raised,
    ):
        warnings.simplefilter("ignore")  # Gymnasium logs it, too
        envs.reset(options={"task_id": "nope"})
    assert type(raised.value) is UnknownName
    envs.close(terminate=True)


def test_json_that_is_nested_too_deep_is_refused_in_one_line() -> None:
    deep = '{"env_kwargs": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(BadOption, match="^--env-kwargs .{,100} is not a JSON object .*recursion"):
        env_arguments(deep)
    with pytest.raises(CorruptData, match="^line 3: "):
        trajectory.decode(deep.replace(": [", ': {"a": [', 1).replace("]}", "]}}").encode(), "line 3")


@pytest.mark.parametrize("env_id", ["Household-v1", "MiniShop-v1", "MiniSQL-v1", "MiniWiki-v1"])
def test_a_first_reset_that_is_refused_spoils_nothing(env_id: str) -> None:
    """Gymnasium's passive checker would have failed in every later step."""
    env = gymnasium.make(f"prosegym/{env_id}")
    with pytest.raises(UnknownName, match="unknown task id 'test/x'; there are ") as raised:
        env.reset(options={"task_id": "test/x"})
    assert isinstance(env.unwrapped, TextEnv)
    for split in env.unwrapped.splits:
        tasks = env.unwrapped.tasks(split)
        assert f"{tasks[0].id} to {tasks[-1].id}" in str(raised.value)
    env.reset(seed=0)
    assert env.step("look")[-1]["steps"] == 1
