"""Stable-Baselines3 on text environments: PPO, DQN and MaskablePPO over the admissible actions, numbered.

A bridge for people who have those tools, and a baseline without a language model. Text is hashed
(`prosegym.envs.discrete`), so a policy knows words and not their order beyond pairs. An action is scored by
its own text against what is seen (DRRN, He et al. 2016, arXiv:1511.04636), not by its number alone.
`pip install "prosegym[sb3]"`.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np

from prosegym.baselines import SB3
from prosegym.envs.core import TextEnv
from prosegym.envs.discrete import DiscreteActions, features
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName, at_least
from prosegym.envs.rewards import PotentialReward
from prosegym.evaluation.agents import Episode, Reply
from prosegym.evaluation.evaluate import env_arguments, make_env, validate, validation
from prosegym.evaluation.runs import only_writer

FILE = "sb3.json"


@dataclass(frozen=True)
class Config:
    """Defaults are Stable-Baselines3's own where not named here."""

    steps: int = 50_000
    """Environment steps of training, at least: the PPO variants go on to the end of an update, which takes
    `rollout_steps` steps of each of the `envs`. `sb3.json` has the number that was played (`played`)."""
    reward: str = "progress"
    slots: int = 64
    """Most admissible actions a state may offer; later ones cannot be chosen."""
    size: int = 512
    action_size: int = 64
    """Lengths of the hashed vectors of the observation and of each action."""
    envs: int = 4
    rollout_steps: int = 512
    """Steps of each environment between updates, for the PPO variants."""
    width: int = 128
    """Of the network that embeds observations and actions."""
    learning_rate: float = 3e-4
    gamma: float = 0.95
    entropy: float = 0.01
    """Weight of the entropy bonus, for the PPO variants."""
    record_every: int = 2000
    """Steps between lines of `metrics.jsonl`."""
    sample: bool = True
    """Play by drawing from the policy, for the PPO variants; otherwise always its most probable action."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, slots=self.slots, size=self.size, action_size=self.action_size)
        at_least(1, envs=self.envs, width=self.width, record_every=self.record_every)
        at_least(2, rollout_steps=self.rollout_steps)
        at_least(0, seed=self.seed)


def train(method: str, env_id: str, out: str | Path, config: Config, /, **env_kwargs: Any) -> Path:
    """Train on the train split and write the policy to `out`, for `prosegym evaluate --agent OUT`.

    `out/metrics.jsonl` gets mean return, success and length of the last 100 episodes as training goes on.

    Raises:
        BadOption: `env_kwargs` have the reward, which `config` says.
        ProsegymError: `out` holds a training already.
    """
    if "reward" in env_kwargs:
        raise BadOption("the reward is a setting of the training: --reward")
    algorithm = _algorithm(method)
    folder = Path(out)
    with only_writer(folder):
        if there := [
            name
            for name in (FILE, "policy.zip", "metrics.jsonl", "agent.json", "training.json")
            if (folder / name).exists()
        ]:
            raise ProsegymError(f"{folder} holds a training already ({there[0]}); choose another --out")
        try:
            _learn(algorithm, method, env_id, folder, config, env_kwargs)
        except BaseException:  # nothing is gone on with, so nothing stays in the way of the next call
            (folder / "metrics.jsonl").unlink(missing_ok=True)
            raise
    return folder


def _learn(
    algorithm: Any, method: str, env_id: str, folder: Path, config: Config, env_kwargs: Mapping[str, Any]
) -> None:
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

    from prosegym.baselines.scoring import POLICIES, Scorer

    shape = {"slots": config.slots, "size": config.size, "action_size": config.action_size}

    def made() -> gymnasium.Env[Any, Any]:
        if config.reward == "potential":  # it keeps the best policy under the gamma it is learnt with alone
            return DiscreteActions(PotentialReward(make_env(env_id, **env_kwargs), config.gamma), **shape)
        return DiscreteActions(make_env(env_id, reward=config.reward, **env_kwargs), **shape)

    envs = VecMonitor(DummyVecEnv([made] * config.envs), info_keywords=("success",))
    envs.seed(config.seed)
    options: dict[str, Any] = {
        "learning_rate": config.learning_rate, "gamma": config.gamma, "seed": config.seed, "device": "cpu",
        "policy_kwargs": {
            "features_extractor_class": Scorer, "features_extractor_kwargs": {"width": config.width},
        },
    }  # fmt: skip
    if method == "sb3-dqn":
        options["policy_kwargs"]["net_arch"] = []
        options |= {"buffer_size": min(20_000, config.steps), "target_update_interval": 1000}
        options |= {"learning_starts": min(1000, config.steps // 10), "exploration_fraction": 0.3}
        options |= {"train_freq": (1, "step")}
    else:
        options["policy_kwargs"]["net_arch"] = {"pi": [], "vf": [64]}
        options |= {"n_steps": config.rollout_steps, "ent_coef": config.entropy}
    model = algorithm(POLICIES[method], envs, verbose=0, **options)
    model.set_logger(Logger(folder=None, output_formats=[]))  # its own makes a folder among temporary files
    model.learn(config.steps, callback=_recorder(method, config.record_every, folder / "metrics.jsonl"))
    envs.close()
    model.save(folder / "policy.zip")
    facts = {
        "method": method, "env_id": env_id, "env_kwargs": env_kwargs, "config": asdict(config),
        "played": model.num_timesteps,
    }  # fmt: skip
    (folder / FILE).write_text(json.dumps(facts, indent=1))


def _recorder(method: str, every: int, path: Path) -> Any:
    """A callback that writes the means of the last 100 episodes, every so many steps."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Recorder(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.written = 0

        def _on_step(self) -> bool:
            recent = self.model.ep_info_buffer
            if recent and self.num_timesteps - self.written >= every:
                self.written = self.num_timesteps
                line: dict[str, Any] = {"phase": method, "step": self.num_timesteps}
                for name, key in (("return", "r"), ("success", "success"), ("length", "l")):
                    line[name] = sum(float(e[key]) for e in recent) / len(recent)
                with open(path, "a") as file:
                    file.write(json.dumps(line) + "\n")
            return True

    path.write_text("")
    return Recorder()


@dataclass(frozen=True)
class Options:
    """What `prosegym train sb3-...` takes beside the settings."""

    env: str
    """Environment to train on."""
    out: Path
    """Folder for the policy and its curves."""
    env_kwargs: str = "{}"
    """Arguments of the environment, as JSON."""
    evaluate: bool = True
    """Play a validation panel at the end, where the environment has one; the run lies in OUT/evaluation."""
    evaluate_split: str = ""
    """Split of that panel; by default the first one whose name begins with valid or dev."""


def main(method: str, argv: Sequence[str]) -> int:
    """`prosegym train sb3-ppo|sb3-dqn|sb3-maskable-ppo`; returns the exit status."""
    _algorithm(method)
    import tyro

    flat = tyro.conf.arg(name="")
    command_type = make_dataclass(
        "Command",
        [("options", Annotated[Options, flat]), ("config", Annotated[Config, flat], field(default=Config()))],
    )
    command: Any = tyro.cli(command_type, args=list(argv), prog=f"prosegym train {method}")
    options: Options = command.options
    kwargs, config = env_arguments(options.env_kwargs), command.config
    panel = validation(options.env, options.evaluate_split, env_kwargs=kwargs) if options.evaluate else None
    left = "nothing is kept, the same command begins anew"
    try:
        folder = train(method, options.env, options.out, config, **kwargs)
        left = "the policy is kept"
        print(f"policy at {folder}; play it with `prosegym evaluate --agent {folder} --env ... --out RUN`")
        if panel is not None:
            validate(NumberedPolicy(folder), panel, folder, seed=config.seed, env_kwargs=kwargs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(left) from None
    return 0


def _algorithm(method: str) -> Any:
    if method not in SB3:
        raise UnknownName("method", method, SB3)
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
    """A trained policy as an agent of the harness, over the numbered admissible actions.

    What is drawn depends on the episode's seed and not on its batch mates.
    """

    def __init__(self, folder: str | Path) -> None:
        """Load what `train` wrote.

        Raises:
            ProsegymError: the folder holds no such policy.
            CorruptData: it is damaged.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / FILE).read_text())
            self.name = facts["method"]
            self._facts = facts
            self._shape = {key: facts["config"][key] for key in ("slots", "size", "action_size")}
            self._sample = facts["config"]["sample"] and facts["method"] != "sb3-dqn"
            self._masked = facts["method"] == "sb3-maskable-ppo"
            self._model = _algorithm(facts["method"]).load(folder / "policy.zip", device="cpu")
        except OSError as error:
            raise ProsegymError(f"{folder} holds no Stable-Baselines3 policy ({error.filename})") from error
        except (ValueError, LookupError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
            raise CorruptData(f"the policy in {folder} is damaged ({error}); train it again") from error

    def conditions(self) -> Mapping[str, Any]:
        """Algorithm, training environment and settings."""
        return dict(self._facts)

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """A generator and the count of what was done, for this episode.

        Raises:
            BadOption: the environment lists no admissible actions.
        """
        if not env.admissible:
            raise BadOption(f"{self.name} plays numbered actions; make the environment with admissible=True")
        episode.state = (np.random.default_rng(episode.seed), Counter[str]())

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The policy's action for each episode."""
        replies = []
        for episode in episodes:
            generator, done = episode.state
            first = episode.steps[0].observation if episode.steps else episode.observation
            actions = (episode.info["admissible_actions"] or [])[: self._shape["slots"]]
            view = features(first, episode.observation, actions, done, **self._shape)
            number = self._choose(view, generator)
            action = actions[number] if number < len(actions) else ""
            done[action] += 1
            replies.append(Reply(action, action))
        return replies

    def _choose(self, view: dict[str, Any], generator: np.random.Generator) -> int:
        import torch

        masks = {"action_masks": view["action_mask"]} if self._masked else {}
        if not self._sample:
            return int(self._model.predict(view, deterministic=True, **masks)[0])
        with torch.inference_mode():
            seen, _ = self._model.policy.obs_to_tensor(view)
            shares = self._model.policy.get_distribution(seen, **masks).distribution.probs[0].double().numpy()
        return int(generator.choice(len(shares), p=shares / shares.sum()))
