from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from prosegym.envs.spaces import SHARED_BYTES, Text


class Echo(gymnasium.Env[str, str]):
    """Answers with the action."""

    observation_space = Text()
    action_space = Text()

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        return "", {}

    def step(self, action):  # type: ignore[no-untyped-def]
        return action, 0.0, False, False, {}


def test_contains_every_text_and_nothing_else() -> None:
    space = Text()
    assert all(text in space for text in ("", "näch", "日本", "\U0001f600", "\x00", "x" * 1_000_000))
    assert 1 not in space and None not in space and b"" not in space
    space.seed(3)
    first = [space.sample() for _ in range(5)]
    space.seed(3)
    assert first == [space.sample() for _ in range(5)] and Text() == space


@pytest.mark.parametrize("shared_memory", [True, False])
def test_async_vector_environment_carries_unicode(shared_memory: bool) -> None:
    envs = gymnasium.vector.AsyncVectorEnv([Echo, Echo], shared_memory=shared_memory)
    assert tuple(envs.reset()[0]) == ("", "")
    first = envs.step(("日本\U0001f600", "é" * (SHARED_BYTES // 2)))[0]
    second = envs.step(("b", ""))[0]
    assert tuple(first) == ("日本\U0001f600", "é" * (SHARED_BYTES // 2)) and tuple(second) == ("b", "")
    envs.close()


def test_too_long_for_shared_memory_says_the_mend() -> None:
    envs = gymnasium.vector.AsyncVectorEnv([Echo], shared_memory=True)
    envs.reset()
    with pytest.raises(ValueError, match="shared_memory=False"):
        envs.step(("x" * (SHARED_BYTES + 1),))
    envs.close(terminate=True)


def test_rewards_stay_numbers() -> None:
    envs = gymnasium.make_vec("prosegym/Lockbox-v1", num_envs=3, vectorization_mode="sync")
    envs.reset(seed=0)
    rewards = envs.step(("a", "b", "c"))[1]
    assert isinstance(rewards, np.ndarray) and rewards.dtype == np.float64
    envs.close()
