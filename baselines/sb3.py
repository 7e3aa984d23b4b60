"""Stable-Baselines3 on text environments: PPO, DQN and MaskablePPO over the admissible actions, numbered.

A bridge for people who have those tools, and a baseline without a language model. Text is hashed
(`prosegym.envs.discrete`), so a policy knows words and not their order beyond pairs.
`pip install "prosegym[sb3]"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium

from prosegym.envs.core import TextEnv
from prosegym.envs.discrete import DiscreteActions, features
from prosegym.envs.errors import ProsegymError, UnknownName
from prosegym.evaluation.agents import Episode, Reply
from prosegym.evaluation.evaluate import make_env

METHODS = ("sb3-ppo", "sb3-dqn", "sb3-maskable-ppo")
FILE = "sb3.json"


@dataclass(frozen=True)
class Config:
    """Defaults are Stable-Baselines3's own where not named here."""

    steps: int = 50_000
    """Environment steps of training."""
    reward: str = "progress"
    slots: int = 64
    """Most admissible actions a state may offer; later ones cannot be chosen."""
    size: int = 512
    action_size: int = 64
    """Lengths of the hashed vectors of the observation and of each action."""
    envs: int = 4
    rollout_steps: int = 2048
    """Steps of each environment between updates, for the PPO variants."""
    seed: int = 0


def train(method: str, env_id: str, out: str | Path, config: Config, **env_kwargs: Any) -> Path:
    """Train on the train split and write the policy to `out`, for `prosegym evaluate --agent OUT`."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    shape = {"slots": config.slots, "size": config.size, "action_size": config.action_size}
    made: list[Callable[[], gymnasium.Env[Any, Any]]] = [
        lambda: DiscreteActions(make_env(env_id, reward=config.reward, **env_kwargs), **shape)
        for _ in range(config.envs)
    ]
    envs = DummyVecEnv(made)
    envs.seed(config.seed)
    options = {} if method == "sb3-dqn" else {"n_steps": config.rollout_steps}
    model = _algorithm(method)("MultiInputPolicy", envs, seed=config.seed, verbose=0, **options)
    model.learn(config.steps, progress_bar=False)
    envs.close()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "policy.zip")
    (folder / FILE).write_text(
        json.dumps({"method": method, "env_id": env_id, "config": asdict(config)}, indent=1)
    )
    return folder


@dataclass(frozen=True)
class Options:
    """What `prosegym train sb3-...` takes beside the settings."""

    env: str
    out: Path


def main(method: str, argv: Sequence[str]) -> int:
    """`prosegym train sb3-ppo|sb3-dqn|sb3-maskable-ppo`; returns the exit status."""
    import tyro

    _algorithm(method)
    flat = tyro.conf.arg(name="")
    command_type = make_dataclass(
        "Command",
        [("options", Annotated[Options, flat]), ("config", Annotated[Config, flat], field(default=Config()))],
    )
    command: Any = tyro.cli(command_type, args=list(argv), prog=f"prosegym train {method}")
    folder = train(method, command.options.env, command.options.out, command.config)
    print(f"policy at {folder}; play it with `prosegym evaluate --agent {folder} --env ... --out RUN`")
    return 0


def _algorithm(method: str) -> Any:
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    try:
        import sb3_contrib
        import stable_baselines3
    except ModuleNotFoundError as error:
        raise ProsegymError(f'{error.name} is not installed; run `pip install "prosegym[sb3]"`') from error
    return {
        "sb3-ppo": stable_baselines3.PPO,
        "sb3-dqn": stable_baselines3.DQN,
        "sb3-maskable-ppo": sb3_contrib.MaskablePPO,
    }[method]


class NumberedPolicy:
    """A trained policy as an agent of the harness: greedy over the numbered admissible actions."""

    def __init__(self, folder: str | Path) -> None:
        """Load what `train` wrote.

        Raises:
            ProsegymError: the folder holds no such policy.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / FILE).read_text())
        except OSError as error:
            raise ProsegymError(f"{folder} holds no Stable-Baselines3 policy ({FILE})") from error
        self.name = facts["method"]
        self._facts = facts
        self._shape = {key: facts["config"][key] for key in ("slots", "size", "action_size")}
        self._masked = facts["method"] == "sb3-maskable-ppo"
        self._model = _algorithm(facts["method"]).load(folder / "policy.zip", device="cpu")

    def conditions(self) -> Mapping[str, Any]:
        """Algorithm, training environment and settings."""
        return dict(self._facts)

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Nothing to prepare."""

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The policy's most probable action for each episode."""
        replies = []
        for episode in episodes:
            actions = episode.info["admissible_actions"] or []
            view = features(episode.observation, actions, **self._shape)
            masks = {"action_masks": view["action_mask"]} if self._masked else {}
            number = int(self._model.predict(view, deterministic=True, **masks)[0])
            action = actions[number] if number < min(len(actions), self._shape["slots"]) else ""
            replies.append(Reply(action, action))
        return replies
