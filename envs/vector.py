"""A vector environment that steps its environments one after the other in this process.

`gymnasium.make_vec(id, num_envs=n)` takes it where an id has it, and with no wrapper but the reward's: for
engines that take microseconds, a process or a stack of wrappers for each costs more than the steps do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from prosegym.envs.core import TextEnv
from prosegym.envs.errors import BadOption, at_least
from prosegym.envs.rewards import Maker
from prosegym.envs.spaces import Text

Observations = tuple[str, ...]
Infos = dict[str, Any]
Arrays = NDArray[Any]

_DTYPES: dict[str, type[np.generic]] = {
    "score": np.float64,
    "progress": np.float64,
    "steps": np.int64,
    "success": np.bool_,
    "invalid_action": np.bool_,
}


class TextVectorEnv(VectorEnv[Observations, Sequence[str], Arrays]):
    """`num_envs` environments that are alike, stepped in turn.

    Observations are a tuple of texts, actions a sequence of texts; infos hold an array for each key of
    `INFO_KEYS` (of objects for texts and lists), with Gymnasium's `_key` masks beside them.
    An environment that ended is reset by the next step, whose action it ignores (Gymnasium's NEXT_STEP).
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["ansi"]}

    def __init__(self, make: Callable[[], gymnasium.Env[str, str]], num_envs: int = 1) -> None:
        """So many environments of `make`."""
        at_least(1, num_envs=num_envs)
        self.num_envs = num_envs
        self.envs = [make() for _ in range(num_envs)]
        self.render_mode = self.envs[0].render_mode
        self.single_observation_space = self.single_action_space = Text()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, Infos]:
        """Begin an episode in every environment.

        Args:
            seed: of the first environment, the next ones counting up; or one for each.
            options: those of `TextEnv.reset`; `task_ids` names a task for each environment. `reset_mask`
                is not taken.
        """
        if self.closed:
            raise ClosedEnvironmentError("the vector environment is closed; make a new one")
        seeds = _spread(seed, self.num_envs)
        options = dict(options or {})
        task_ids = options.pop("task_ids", None)
        if task_ids is not None and len(task_ids) != self.num_envs:
            raise BadOption(f"task_ids names {len(task_ids)} tasks for {self.num_envs} environments")
        observations, infos = [], []
        for i, env in enumerate(self.envs):
            chosen = options if task_ids is None else options | {"task_id": task_ids[i]}
            observation, info = env.reset(seed=seeds[i], options=chosen)
            observations.append(observation)
            infos.append(info)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        return tuple(observations), _gathered(infos)

    def step(self, actions: Sequence[str]) -> tuple[Observations, Arrays, Arrays, Arrays, Infos]:
        """Do one action in every environment; those that had ended begin a new episode instead."""
        if isinstance(actions, str):
            raise BadOption("actions are a sequence of texts, one for each environment, not one text")
        if len(actions) != self.num_envs:
            raise BadOption(f"{len(actions)} actions for {self.num_envs} environments")
        observations, rewards, terminations, truncations, infos = [], [], [], [], []
        for env, action, ended in zip(self.envs, actions, self._ended.tolist(), strict=True):
            if not ended:
                observation, reward, terminated, truncated, info = env.step(action)
            else:
                observation, info = env.reset()
                reward, terminated, truncated = 0.0, False, False
            observations.append(observation)
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
            infos.append(info)
        terminated_ = np.array(terminations, dtype=np.bool_)
        truncated_ = np.array(truncations, dtype=np.bool_)
        self._ended = terminated_ | truncated_
        return (
            tuple(observations),
            np.array(rewards, dtype=np.float64),
            terminated_,
            truncated_,
            _gathered(infos),
        )

    def render(self) -> tuple[Any, ...] | None:
        """The latest observations, when made with `render_mode="ansi"`."""
        return None if self.render_mode is None else tuple(env.render() for env in self.envs)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What the method `name` of every environment returns (`call("expert")`), or an attribute's value."""
        return tuple(x(*args, **kwargs) if callable(x) else x for x in self.get_attr(name))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute `name` of every environment."""
        return tuple(env.get_wrapper_attr(name) for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def _spread(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    """One seed for each environment."""
    if seed is None:
        return [None] * count
    if isinstance(seed, int):
        return [seed + i for i in range(count)]
    if len(seed) != count:
        raise BadOption(f"{len(seed)} seeds for {count} environments")
    return list(seed)


def _gathered(infos: list[dict[str, Any]]) -> Infos:
    """One array for each key."""
    gathered: Infos = {}
    everywhere = np.ones(len(infos), dtype=np.bool_)
    for key in infos[0]:
        values = [info[key] for info in infos]
        if key in _DTYPES:
            gathered[key] = np.array(values, dtype=_DTYPES[key])
        else:
            array = np.empty(len(values), dtype=object)
            array[:] = values
            gathered[key] = array
        gathered[f"_{key}"] = everywhere
    return gathered


class VectorMaker:
    """What is registered as an id's vector entry point."""

    def __init__(self, env_class: type[TextEnv]) -> None:
        self.env_class = env_class
        self.metadata = TextVectorEnv.metadata

    def __call__(self, *, num_envs: int = 1, **kwargs: Any) -> TextVectorEnv:
        """Make the vector environment; `kwargs` are those of a single one, `reward` among them."""
        return TextVectorEnv(partial(Maker(self.env_class), **kwargs), num_envs)
