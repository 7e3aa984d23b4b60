"""Environments over WebSocket in OpenEnv's protocol (`pip install "prosegym[serve]"`).

The server is OpenEnv's own; what is here is the environment it serves. One WebSocket session is one
environment, so many clients play side by side. OpenEnv's plain HTTP (`POST /reset`, `POST /step`) makes a new
environment for every request, so that no episode can be played over it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from prosegym.envs.core import unwrapped
from prosegym.envs.errors import ProsegymError
from prosegym.evaluation.evaluate import make_env


class TextAction(Action):  # type: ignore[misc]
    """One action, as text."""

    text: str = Field(description="The action, in the environment's own words.")


class TextObservation(Observation):  # type: ignore[misc]
    """What the environment shows; `done` and `reward` are OpenEnv's own fields."""

    text: str = Field(default="", description="The observation.")
    terminated: bool = Field(default=False)
    truncated: bool = Field(default=False)
    info: dict[str, Any] = Field(
        default_factory=dict, description="Its info; at the reset also its instruction."
    )


class Served(Environment[TextAction, TextObservation, State]):  # type: ignore[misc]
    """One environment of this project, as OpenEnv sees it."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env_id: str, env_kwargs: dict[str, Any]) -> None:
        super().__init__()
        self._env = make_env(env_id, **env_kwargs)
        self._state = State(step_count=0)

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **options: Any
    ) -> TextObservation:
        """Begin an episode; `task_id` and `prefix` are passed on to the environment's reset options.

        Its `info` also has `instruction`: what the environment is and which actions it takes.
        """
        text, info = self._env.reset(seed=seed, options=options or None)
        self._state = State(episode_id=episode_id, step_count=0)
        info = {**info, "instruction": unwrapped(self._env).instruction}
        return TextObservation(text=text, info=info, done=False, reward=0.0)

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
        """Do one action."""
        text, reward, terminated, truncated, info = self._env.step(action.text)
        self._state.step_count += 1
        return TextObservation(
            text=text, info=info, terminated=terminated, truncated=truncated,
            done=terminated or truncated, reward=float(reward),
        )  # fmt: skip

    @property
    def state(self) -> State:
        """The episode's id and number of steps."""
        return self._state

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def app(env_id: str, env_kwargs: dict[str, Any], *, sessions: int) -> Any:
    """The ASGI application that serves an environment to at most `sessions` clients at once."""
    return create_app(
        lambda: Served(env_id, env_kwargs), TextAction, TextObservation,
        env_name=env_id, max_concurrent_envs=sessions,
    )  # fmt: skip


def server(
    env_id: str, env_kwargs: dict[str, Any], *, host: str, port: int, sessions: int
) -> Callable[[], None]:
    """Listen; what is returned serves until stopped.

    Raises:
        ProsegymError: the environment cannot be made, or the address cannot be listened at.
    """
    import uvicorn

    make_env(env_id, **env_kwargs).close()  # a wrong argument is said now, not to the first client
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ProsegymError(f"cannot listen at {host}:{port}: {error}; choose another --port") from error
    config = uvicorn.Config(app(env_id, env_kwargs, sessions=sessions), log_level="warning")
    return partial(uvicorn.Server(config).run, [listening])
