"""Policies for Stable-Baselines3 that score an action by its own text: DRRN (He et al. 2016, 1511.04636).

score_i = <s, a_i> / sqrt(width) - w d_i, where s embeds the first and the present observation, a_i the text
of the action in slot i, and d_i = log(1 + times it was done in this episode). Empty slots share one learnt
score. So what is learnt of an action holds in whichever slot it stands. Left out of DRRN: a network for
words; text comes hashed (`prosegym.envs.discrete`).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import MultiInputPolicy, QNetwork
from torch import Tensor, nn


class Scorer(BaseFeaturesExtractor):
    """Features (batch, slots + width): every slot's score, then the embedding of the state."""

    def __init__(self, space: gymnasium.spaces.Dict, width: int = 128) -> None:
        """For the observations of `DiscreteActions`."""
        slots, action_size = space["actions"].shape or (0, 0)
        (size,) = space["observation"].shape or (0,)
        super().__init__(space, slots + width)
        self.state = nn.Sequential(nn.Linear(2 * size, width), nn.ReLU(), nn.Linear(width, width))
        self.action = nn.Sequential(nn.Linear(action_size, width), nn.ReLU(), nn.Linear(width, width))
        self.again = nn.Parameter(torch.zeros(()))
        self.empty = nn.Parameter(torch.tensor(-4.0))

    def forward(self, view: dict[str, Tensor]) -> Tensor:
        """The features of a batch of views."""
        state = self.state(torch.cat([view["first"], view["observation"]], dim=1))
        scores = torch.einsum("bw,bsw->bs", state, self.action(view["actions"])) / state.shape[1] ** 0.5
        scores = torch.where(view["action_mask"] > 0, scores - self.again * view["done"], self.empty)
        return torch.cat([scores, torch.relu(state)], dim=1)


class Head(nn.Module):
    """From features to one number a slot: its score, plus the state's value (which changes no preference)."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.slots = slots
        self.value = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits or action values; (batch, slots)."""
        scores: Tensor = features[:, : self.slots]
        value: Tensor = self.value(features[:, self.slots :])
        return scores + value


class _ActsByScore:
    """What the two actor-critic policies share: `Head` in place of the action network."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        policy: Any = self
        slots = int(policy.action_space.n)
        policy.action_net = Head(slots, policy.features_dim - slots)
        policy.optimizer = policy.optimizer_class(
            policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs
        )


class ScoringPolicy(_ActsByScore, MultiInputActorCriticPolicy):
    """For PPO."""


class MaskableScoringPolicy(_ActsByScore, MaskableMultiInputActorCriticPolicy):
    """For MaskablePPO."""


class ScoringQPolicy(MultiInputPolicy):
    """For DQN: the scores are differences of action values."""

    def make_q_net(self) -> QNetwork:
        """A Q-network that ends in `Head`."""
        made = super().make_q_net()
        slots = int(made.action_space.n)
        made.q_net = nn.Sequential(Head(slots, made.features_dim - slots)).to(self.device)
        return made


POLICIES = {
    "sb3-ppo": ScoringPolicy, "sb3-dqn": ScoringQPolicy, "sb3-maskable-ppo": MaskableScoringPolicy,
}  # fmt: skip
