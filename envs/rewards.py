"""Reward modes: each a wrapper, declared when the environment is made, and recorded in its spec.

gymnasium.make(id, reward="sparse" | "progress" | "potential" | "expert")
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from prosegym.envs.core import TextEnv, arguments, unwrapped
from prosegym.envs.errors import BadOption, UnknownName

Step = tuple[str, SupportsFloat, bool, bool, dict[str, Any]]


class _Reward(gymnasium.Wrapper[str, str, str, str], RecordConstructorArgs):
    """What the modes share: a reward is counted from where the episode began or a snapshot was restored."""

    def __init__(self, env: gymnasium.Env[str, str], **arguments: Any) -> None:
        RecordConstructorArgs.__init__(self, **arguments)
        super().__init__(env)
        self._text_env = unwrapped(env)
        self._restored: tuple[str, dict[str, Any]] | None = None

    @abstractmethod
    def _begin(self, observation: str, info: dict[str, Any]) -> None:
        """Take this as the state before the next step."""

    @abstractmethod
    def _reward(self, action: str, step: Step) -> float:
        """The reward of the step that was done."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._begin(observation, info)
        return observation, info

    def step(self, action: str) -> Step:
        """Do one action, rewarded in this mode."""
        restored = self._text_env.restored
        if restored is not None and restored is not self._restored:
            self._restored = restored
            self._begin(*restored)
        step = self.env.step(action)
        observation, _, terminated, truncated, info = step
        return observation, self._reward(action, step), terminated, truncated, info

    def __reduce__(self) -> tuple[Any, ...]:
        """Around a pickled environment, which is a new one, the wrapper is a new one, too."""
        return _rewrap, (type(self), self.env, self._saved_kwargs)


def _rewrap(cls: type[_Reward], env: gymnasium.Env[str, str], arguments: dict[str, Any]) -> _Reward:
    return cls(env, **arguments)


class ProgressReward(_Reward):
    """r_t = progress_t - progress_{t-1}: the return is the progress made."""

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        super().__init__(env)
        self._progress = 0.0

    def _begin(self, observation: str, info: dict[str, Any]) -> None:
        self._progress = info["progress"]

    def _reward(self, action: str, step: Step) -> float:
        before, self._progress = self._progress, step[4]["progress"]
        return self._progress - before


class PotentialReward(_Reward):
    """r_t = sparse reward + gamma * phi(s_t) - phi(s_{t-1}), phi the progress, and 0 in a terminal state.

    Shaping of this form keeps the optimal policy of the sparse reward under the same gamma
    (Ng, Harada & Russell 1999, theorem 1).
    """

    def __init__(self, env: gymnasium.Env[str, str], gamma: float = 0.99) -> None:
        super().__init__(env, gamma=gamma)
        self._gamma = gamma
        self._phi = 0.0

    def _begin(self, observation: str, info: dict[str, Any]) -> None:
        self._phi = info["progress"]

    def _reward(self, action: str, step: Step) -> float:
        _, reward, terminated, _, info = step
        before, self._phi = self._phi, 0.0 if terminated else info["progress"]
        return float(reward) + self._gamma * self._phi - before


class ExpertReward(_Reward):
    """r_t = 1 where the action is the one the expert takes in the same state, else 0.

    The comparison of agent and expert step by step is StepAgent's (Deng et al. 2024, arXiv:2411.03817);
    the environment's first privileged expert is asked. In ScienceWorld, TextWorld-Express and the `drop`
    levels of TextWorld's Cooking it knows one path alone: after a valid action off it, however harmless,
    every reward is 0.
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        super().__init__(env)
        experts = self._text_env.experts
        self._name = next((name for name, privileged in experts.items() if privileged), None)
        if self._name is None:
            raise UnknownName("reward", "expert", ["sparse", "progress", "potential"])
        self._advice: str | None = None

    def _begin(self, observation: str, info: dict[str, Any]) -> None:
        self._expert = self._text_env.expert(self._name)
        self._advice = self._expert.act(observation, info)

    def _reward(self, action: str, step: Step) -> float:
        observation, _, terminated, truncated, info = step
        agreed = float(action == self._advice)
        if not (terminated or truncated):
            self._advice = self._expert.act(observation, info)
        return agreed


REWARDS: dict[str, Callable[[gymnasium.Env[str, str]], gymnasium.Env[str, str]] | None] = {
    "sparse": None,
    "progress": ProgressReward,
    "potential": PotentialReward,
    "expert": ExpertReward,
}
"""Every reward mode and its wrapper; sparse is what an environment gives of itself."""


class Maker:
    """What is registered for an id: makes the environment and wraps it in the reward mode asked for."""

    def __init__(self, env_class: type[TextEnv]) -> None:
        self.env_class = env_class
        self.metadata = env_class.metadata

    def __call__(self, *, reward: str = "sparse", **kwargs: Any) -> gymnasium.Env[str, str]:
        """Make the environment; `kwargs` are those of its class."""
        if reward not in REWARDS:
            raise UnknownName("reward", reward, REWARDS)
        check_arguments(self.env_class, kwargs)
        env = self.env_class(**kwargs)
        wrapper = REWARDS[reward]
        return env if wrapper is None else wrapper(env)


def check_arguments(env_class: type[TextEnv], kwargs: Mapping[str, Any]) -> None:
    """Refuse what is no argument of the environment, or no value of the argument's type.

    Raises:
        UnknownName: one is not; the message lists the nearest.
        BadOption: a value is of another type: `"no"` would be true, and a list fail in the constructor.
    """
    known = arguments(env_class)
    for name, value in kwargs.items():
        if name not in known:
            raise UnknownName(f"argument of {env_class.env_id}", name, ["reward", *known])
        kind = known[name].annotation  # a text, or a type where its module does not postpone annotations
        kinds = (kind.__name__ if isinstance(kind, type) else str(kind)).split(" | ")
        if not _KINDS.keys() >= set(kinds):
            continue
        taken = kinds if not isinstance(value, bool) else {"bool"}.intersection(kinds)  # True is an int
        if not any(isinstance(value, _KINDS[kind][1]) for kind in taken):
            called = " or ".join(_KINDS[kind][0] for kind in kinds)
            raise BadOption(f"{name} must be {called}, not {value!r}")


_KINDS: dict[str, tuple[str, Any]] = {
    "bool": ("true or false", (bool, np.bool_)),
    "int": ("a whole number", Integral),
    "str": ("a text", str),
    "None": ("nothing", type(None)),
}
"""Types of arguments that are checked: what a person calls them, and what may be given."""
