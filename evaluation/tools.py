"""Environments for TRL's `environment_factory`: a class whose methods a model calls as tools.

    GRPOTrainer(..., environment_factory=tool_environment("prosegym/Household-v1"),
                train_dataset=...)   # each row names its task in a column `task_id`, or has a `seed`

TRL makes an instance per rollout, calls `reset` with the row, offers every public method as a tool, and
asks `get_reward` once at the end (https://huggingface.co/docs/trl, GRPO, "environment_factory").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prosegym.envs.core import unwrapped
from prosegym.envs.errors import BadOption
from prosegym.evaluation.evaluate import make_env


class TextTools:
    """One episode, played through the tool `act`."""

    def __init__(self, env_id: str, env_kwargs: dict[str, Any]) -> None:
        self._env = make_env(env_id, **env_kwargs)
        self._return = 0.0
        self._done = True

    def reset(self, **row: Any) -> str:
        """Begin the row's `task_id`, or a task drawn with its `seed`.

        Returns what the environment is and which actions it takes, and what is seen first; it begins with an
        empty line, because TRL puts it right behind the prompt.

        Raises:
            BadOption: the row has neither; each of its rollouts would play another task.
        """
        task_id, seed = row.get("task_id"), row.get("seed")
        if task_id is None and seed is None:
            raise BadOption(f"each row needs a column `task_id` or `seed`; this one has {sorted(row)}")
        observation, _ = self._env.reset(seed=seed, options=task_id and {"task_id": task_id})
        self._return, self._done = 0.0, False
        return f"\n\n{unwrapped(self._env).instruction}\n\n{observation}"

    def act(self, action: str) -> str:
        """
        Do one action in the text environment.

        Args:
            action: The action, in the environment's own words.

        Returns:
            What is seen afterwards.
        """
        if self._done:
            return "The episode is over."
        observation, reward, terminated, truncated, _ = self._env.step(action)
        self._return += float(reward)
        self._done = terminated or truncated
        return observation

    def get_reward(self) -> float:
        """The return of the episode so far."""
        return self._return


def tool_environment(env_id: str, **env_kwargs: Any) -> Callable[[], TextTools]:
    """What `environment_factory` takes: makes a `TextTools` of that environment."""
    return lambda: TextTools(env_id, env_kwargs)
