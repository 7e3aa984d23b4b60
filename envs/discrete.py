"""A view for learners with numbered actions: the i-th admissible action, and text as hashed vectors."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from prosegym.envs.core import TextEnv
from prosegym.envs.errors import BadOption

Floats = NDArray[np.float32]
_WORD = re.compile(r"\w+", re.UNICODE)


def hashed(text: str, size: int) -> Floats:
    """A text as a vector of that size: signed feature hashing of its words and word pairs, of length 1.

    Source: Weinberger et al. 2009 (arXiv:0902.2206), section 2; the hash is CRC-32, alike on every machine.
    """
    vector = np.zeros(size, dtype=np.float32)
    words = _WORD.findall(text.lower())
    for feature in [*words, *map(" ".join, zip(words, words[1:], strict=False))]:
        code = zlib.crc32(feature.encode())
        vector[code % size] += 1.0 if code & 0x8000_0000 else -1.0
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector


def features(
    first: str,
    observation: str,
    actions: Sequence[str],
    done: Mapping[str, int],
    *,
    slots: int,
    size: int,
    action_size: int,
) -> dict[str, Any]:
    """What a policy over numbers sees.

    Args:
        first: the episode's first observation, which says what is to be done.
        observation: what is seen now.
        actions: the admissible actions.
        done: how often each action was done before in this episode.
        slots: most actions that are shown.
        size: length of an observation's vector.
        action_size: length of an action's vector.

    Returns:
        `first` and `observation` (size,), `actions` (slots, action_size), `done` (slots,): log(1 + times),
        `action_mask` (slots,): 1 where a slot is filled.
    """
    table = np.zeros((slots, action_size), dtype=np.float32)
    times = np.zeros(slots, dtype=np.float32)
    mask = np.zeros(slots, dtype=np.int8)
    for i, action in enumerate(actions[:slots]):
        table[i] = _kept(action, action_size)
        times[i] = math.log1p(done.get(action, 0))
        mask[i] = 1
    return {
        "first": _kept(first, size).copy(),
        "observation": hashed(observation, size),
        "actions": table,
        "done": times,
        "action_mask": mask,
    }


_kept = lru_cache(maxsize=4096)(hashed)


class DiscreteActions(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Action i is the i-th admissible action; an empty slot is the empty (invalid) action.

    Observations are those of `features`. Admissible actions beyond the last slot cannot be chosen;
    `info["hidden_actions"]` counts them.
    `action_masks()` is what sb3-contrib's MaskablePPO asks for.
    """

    def __init__(
        self, env: gymnasium.Env[str, str], *, slots: int = 64, size: int = 512, action_size: int = 64
    ) -> None:
        """View `env`, which must list its admissible actions.

        Raises:
            BadOption: it was made without `admissible=True` (the default of all but ScienceWorld).
        """
        RecordConstructorArgs.__init__(self, slots=slots, size=size, action_size=action_size)
        super().__init__(env)
        text_env = env.unwrapped
        if not isinstance(text_env, TextEnv) or not text_env.admissible:
            raise BadOption(
                "DiscreteActions needs the admissible actions; make the environment with admissible=True"
            )
        self._text_env = text_env
        self._restored: tuple[str, dict[str, Any]] | None = None
        self._shape: dict[str, int] = {"slots": slots, "size": size, "action_size": action_size}
        self._actions: list[str] = []
        self._first = ""
        self._done: Counter[str] = Counter()
        self.action_space = spaces.Discrete(slots)
        self.observation_space = spaces.Dict(
            {
                "first": spaces.Box(-1.0, 1.0, (size,), np.float32),
                "observation": spaces.Box(-1.0, 1.0, (size,), np.float32),
                "actions": spaces.Box(-1.0, 1.0, (slots, action_size), np.float32),
                "done": spaces.Box(0.0, 32.0, (slots,), np.float32),
                "action_mask": spaces.MultiBinary(slots),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._first, self._done = observation, Counter()
        return self._view(observation, info), info

    def step(self, action: np.int64) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Do the admissible action of that number."""
        self._check()
        number = int(action)
        chosen = self._actions[number] if 0 <= number < len(self._actions) else ""
        self._done[chosen] += 1
        observation, reward, terminated, truncated, info = self.env.step(chosen)
        return self._view(observation, info), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which slots are filled now; shape (slots,)."""
        self._check()
        return np.arange(self._shape["slots"]) < len(self._actions)

    def snapshot(self) -> Any:
        """The state of the episode and of this view of it, for `restore`, where the engine can give it."""
        return self._text_env.snapshot(), self._first, self._done.copy()

    def restore(self, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Go back to a snapshot of this wrapper; returns its view and info, as `reset` does."""
        engine, first, done = state
        self._restored = self._text_env.restore(engine)
        self._first, self._done = first, done.copy()
        observation, info = self._restored
        return self._view(observation, info), info

    def _check(self) -> None:
        # An environment that was restored under the wrapper has other actions than those that are numbered.
        restored = self._text_env.restored
        if restored is not None and restored is not self._restored:
            raise BadOption(
                "the environment was restored below DiscreteActions, whose numbers are of another state; "
                "use its own `snapshot` and `restore`"
            )

    def _view(self, observation: str, info: dict[str, Any]) -> dict[str, Any]:
        listed = info["admissible_actions"]
        if listed is None:
            raise BadOption("this environment lists no admissible actions, so they cannot be numbered")
        self._actions = listed[: self._shape["slots"]]
        info["hidden_actions"] = len(listed) - len(self._actions)
        return features(self._first, observation, self._actions, self._done, **self._shape)
