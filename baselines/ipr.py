"""IPR: iterative step-level process refinement, "Watch Every Step" (Xiong et al. 2024, arXiv:2406.11176).

    1. clone the experts; the clone is the reference and the scorer of every iteration
    2. repeat: from every expert prefix e_{<t} the agent goes on to the end (e_hat_{t:m}); the step reward of
       an action, r(s_t, a_t), is the mean final score of N sampled continuations by the scorer (the episode's
       own score at its last step); suffixes e_{t:n} > e_hat_{t:m} are paired where
       r(s_t, a_t) - r(s_t, a_hat_t) > tau and the final score is higher by more than `outcome`, and the
       other way round; then minimise L_DPO(suffixes) + L_DPO(whole episodes, t = 0) + L_SFT

Read: the paper's method and its released code (93335a3). They differ on L_SFT: the code adds - log pi(win),
summed, to every pair, the paper to whole episodes only; here as in the code. They differ on settings, too:
the refinement's learning rate and beta are the script's, tau and the number of iterations the paper's.

Reconstructed: that a prefix in which the agent does as the expert is not rolled out again by the scorer (its
two step rewards are the same).

Different from the code: whole episodes are paired however little their scores differ, and again as suffixes
where the first step's rewards agree (the code begins suffixes at the second action).

Left out: on ALFWorld the code also prefers the agent where its suffix is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prosegym.baselines import sft
from prosegym.baselines.contrast import Contrast, prefer
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Preference
from prosegym.baselines.practice import Practice, best_of, from_answer, twin
from prosegym.baselines.training import Optim
from prosegym.envs.errors import at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.rollout import Job

NONE = (
    "no step reward or score tells agent and expert apart",
    "use more or harder tasks, or a smaller --tau",
)
"""What it means that there is no pair, and what helps."""
Place = tuple[str, int]
"""A task, and how many of the expert's actions came first."""


@dataclass(frozen=True)
class Config:
    """Paper section 4.1 and run_pipeline.sh: batch 48 and 3 epochs in cloning and refinement, N = 5."""

    cloning: sft.Config = sft.Config(Optim(2e-5, epochs=3, batch_size=48, schedule="cosine", warmup=0.03))
    cloned: bool = False
    """The model has been cloned already: leave out step 1."""
    iterations: int = 4
    """Paper; the script has 6."""
    optim: Optim = Optim(3e-6, epochs=3, batch_size=48, schedule="constant", warmup=0.1)
    """Script; the paper's learning rates are 1e-5 to 5e-5."""
    beta: float = 0.1
    """Script; the paper has 0.1 to 0.5."""
    continuations: int = 5
    """N, at temperature 1."""
    tau: float = 0.01
    """Step rewards must differ by more than this (run_pipeline.sh, for every task; see PRESETS)."""
    outcome: float = 0.01
    """Final scores must differ by more than this for suffixes to be paired (scripts)."""
    temperature: float = 0.0
    """Of the agent's own continuations."""
    imitate: bool = True
    """Whether every pair has L_SFT = - log pi(win), summed, beside L_DPO."""

    def __post_init__(self) -> None:
        at_least(1, iterations=self.iterations, continuations=self.continuations)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "webshop": {"tau": 0.01},  # the paper, all three
    "alfworld": {"tau": 0.5},
    "intercode_sql": {"tau": 0.1},
}
"""What was published for an environment alone; Config has the rest."""


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Algorithm 1; the policy changes in place."""
    practice.turn_by_turn(experts)
    if not config.cloned:
        sft.train(policy, experts, practice, config.cloning)
    scorer = twin(policy)
    best = best_of(experts)
    talks = {task: practice.conversation(e) for task, e in best.items()}
    for i in range(1, config.iterations + 1):
        tried = practice.go_on(policy, talks, f"go-on-{i}", config.temperature)
        practice.inspected(i, [(e.actions[t], best[task].actions[t]) for (task, t), e in tried.items()])
        rewards = step_rewards(scorer, best, tried, practice, config, i)
        pairs = pair(best, tried, rewards, practice, config)
        objective = Preference(config.beta, imitation=float(config.imitate))
        optim, found = config.optim, pairs.values()
        if not prefer(policy, scorer.model, found, objective, practice, optim, "refine", i, NONE):
            return


def step_rewards(
    scorer: LocalModel,
    best: Mapping[str, Trajectory],
    tried: Mapping[Place, Trajectory],
    practice: Practice,
    config: Config,
    i: int,
) -> dict[Place, tuple[float, float]]:
    """(r(s_t, a_t) of the expert, of the agent) by Monte Carlo, wherever the two differ."""
    apart = {
        (task, t): (best[task], episode)
        for (task, t), episode in tried.items()
        if best[task].actions[t] != episode.actions[t]
    }
    scores: dict[Place, tuple[list[float], list[float]]] = {place: ([], []) for place in apart}
    given, into = {}, []
    for (task, t), both in apart.items():
        for who, (episode, found) in enumerate(zip(both, scores[task, t], strict=True)):
            if t + 1 == len(episode.steps):  # its last action, whose reward is the final score
                found.append(episode.score)
                continue
            said = [m.content for m in practice.conversation(episode)[1 : 2 * t + 2 : 2]]
            for n in range(config.continuations):
                given[task, (2 * t + who) * config.continuations + n] = said
                into.append(found)
    jobs = [Job(*key) for key in given]
    played = practice.play(scorer, jobs, f"score-{i}", temperature=1.0, forced=given)
    for found, rollout in zip(into, played, strict=True):
        if rollout.ended != "error":
            found.append(rollout.score)
    return {  # without those of which every continuation broke off with an error
        place: (sum(expert) / len(expert), sum(agent) / len(agent))
        for place, (expert, agent) in scores.items()
        if expert and agent
    }


def pair(
    best: Mapping[str, Trajectory],
    tried: Mapping[Place, Trajectory],
    rewards: Mapping[Place, tuple[float, float]],
    practice: Practice,
    config: Config,
) -> dict[str, list[Contrast]]:
    """Of each task D_t, whole episodes that scores tell apart, and D_s, suffixes that step rewards do."""
    found: dict[str, list[Contrast]] = {}
    for (task, t), episode in tried.items():
        pairs = found.setdefault(task, [])
        gap = best[task].score - episode.score
        expert, agent = (from_answer(practice.conversation(e), t) for e in (best[task], episode))
        contrast = (expert, agent) if gap > 0 else (agent, expert)
        if t == 0 and gap != 0:
            pairs.append(contrast)
        if (task, t) in rewards:
            step = rewards[task, t][0] - rewards[task, t][1]
            if abs(gap) > config.outcome and abs(step) > config.tau and gap * step > 0:
                pairs.append(contrast)
    return found
