"""Agents that use language models, the trainers that make them, and the models themselves."""

METHODS = {
    "sft": "behavioural cloning of expert episodes",
    "rft": "cloning of expert episodes and of one's own that succeeded",
    "eto": "pairs of an expert's episode and a failed one",
    "ipr": "pairs of steps, rewarded by sampling how they end",
    "stepagent": "pairs of an expert's step and one's own",
    "stepagent_inverse": "a reward for each step, learnt beside it, and PPO",
    "retroformer": "a reflector trained by what its notes earn a frozen actor",
    "retroact": "actor and reflector trained beside imitation",
}
"""Every method of the papers that `prosegym train` knows, and what it learns from; a module of that name,
with `Config` and `train(policy, experts, practice, config)`."""

SB3 = ("sb3-ppo", "sb3-dqn", "sb3-maskable-ppo")
"""Algorithms of Stable-Baselines3 over numbered actions, which `prosegym train` knows, too: `sb3.py`."""
