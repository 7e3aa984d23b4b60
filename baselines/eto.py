"""ETO: exploration-based trajectory optimisation (Song et al. 2024, arXiv:2403.02502).

    1. clone the experts: L_SFT on D                                                    (eq. 3-5)
    2. repeat: explore every training task once with the policy; pair each exploration with the expert's
       episode of the same task, the better reward first, ties dropped; then minimise
       L_DPO = - log sigma(beta log pi(e_w)/ref(e_w) - beta log pi(e_l)/ref(e_l)),       (eq. 11)
       log pi(e) summed over the answers' tokens, ref the policy as the iteration began.

Read: the paper and its released code (a2fc5da). Paper and code differ in the schedule of beta and learning
rate (the code's is taken) and in the number of iterations (the paper's).

Reconstructed: how self-play pairs several samples of a task (best against worst).

Different here: the expert's score is the environment's own; nothing is cut in the middle of an answer; an
exploration that a full context broke off is paired, with its score, on WebShop, too, where the code leaves it
out before a purchase; the worked example is in the prompt of training and test alike, or in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from prosegym.baselines import sft
from prosegym.baselines.contrast import Contrast, prefer
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Preference
from prosegym.baselines.practice import Practice, best_of, only_answer, some
from prosegym.baselines.training import Optim
from prosegym.envs.errors import BadOption, at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.rollout import Job


@dataclass(frozen=True)
class Config:
    """Paper section 4.1 and run_eto.sh."""

    cloning: sft.Config = sft.Config()
    cloned: bool = False
    """The model has been cloned already: leave out step 1."""
    iterations: int = 2
    """Paper: 2, but 1 on ALFWorld, where later ones fall below SFT; script: 3."""
    optim: Optim = Optim(1e-6, epochs=3, batch_size=32, schedule="constant", warmup=0.1)
    later_rate: float = 5e-7
    """Learning rate after the first iteration (script)."""
    beta: float = 0.1
    later_beta: float = 0.5
    """Beta after the first iteration (script; the paper has 0.1, 0.5 on ALFWorld)."""
    temperature: float = 0.0
    """Of the exploration (script); self-play needs 1."""
    level: Literal["trajectory", "step", "mixture"] = "trajectory"
    """What is contrasted: whole episodes, the two actions at one expert state, or both (appendix B)."""
    self_play: int = 0
    """Explorations of each task, contrasted with each other (section 4.5); 0 contrasts with the expert."""
    extra_turns: int | None = None
    """Turns a rejected exploration may have beyond the expert's (code: 5 on WebShop and ScienceWorld)."""
    imitation: float = 0.0
    """Weight of - log pi(e_w) per token beside L_DPO; not in the paper, steadies models made from scratch."""

    def __post_init__(self) -> None:
        at_least(1, iterations=self.iterations)
        at_least(0, self_play=self.self_play)
        if self.self_play == 1:
            raise BadOption("self_play contrasts a task's explorations with each other: at least 2, not 1")
        if self.self_play and self.level != "trajectory":
            raise BadOption(f"self_play contrasts whole episodes; leave out level {self.level}, or self_play")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "webshop": {"iterations": 2, "extra_turns": 5},  # paper section 4.1; construct_preference.py
    "scienceworld": {"iterations": 2, "extra_turns": 5},  # the same
    "alfworld": {"iterations": 1, "beta": 0.5},  # paper section 4.1, ACL version
}
"""What was published for an environment alone; Config has the rest."""


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Algorithm 1; the policy changes in place."""
    if not config.self_play:
        practice.turn_by_turn(experts)
    if not (config.cloned or config.self_play):
        sft.train(policy, experts, practice, config.cloning)
    for i in range(1, config.iterations + 1):
        pairs: list[list[Contrast]] = []
        if config.self_play:
            pairs += versus_itself(explore(policy, experts, practice, config, i), practice)
        elif config.level != "step":
            pairs += versus_expert(experts, explore(policy, experts, practice, config, i), practice, config)
        if config.level != "trajectory":
            pairs += step_by_step(policy, experts, practice, config, i)
        if not contrast(policy, pairs, practice, config, i):
            return


def explore(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> list[Trajectory]:
    """e_hat ~ pi for every training instruction, once (`self_play` times)."""
    tasks = dict.fromkeys(e.task_id for e in experts)
    jobs = [Job(task, attempt) for task in tasks for attempt in range(config.self_play or 1)]
    played = practice.play(policy, jobs, f"explore-{i}", temperature=config.temperature)
    kept = [t for t in played if t.ended != "error" and t.steps]
    some(kept, played)
    return kept


def versus_expert(
    experts: Sequence[Trajectory], explored: Iterable[Trajectory], practice: Practice, config: Config
) -> list[list[Contrast]]:
    """D_p: whichever of expert and agent scored more wins; equal scores teach nothing."""
    best = best_of(experts)
    pairs: list[list[Contrast]] = []
    for tried in explored:
        lose, win = sorted((tried, best[tried.task_id]), key=lambda t: t.score)
        rejected = practice.conversation(lose)
        if config.extra_turns is not None and lose is tried:
            rejected = rejected[: 2 * (len(win.steps) + config.extra_turns)]
        if win.score > lose.score:
            pairs.append([(practice.conversation(win), rejected)])
    return pairs


def versus_itself(explored: Iterable[Trajectory], practice: Practice) -> list[list[Contrast]]:
    """Self-play: the best and the worst of each task's explorations, where they differ in score."""
    tries: dict[str, list[Trajectory]] = {}
    for tried in explored:
        tries.setdefault(tried.task_id, []).append(tried)
    ends = [(max(g, key=lambda t: t.score), min(g, key=lambda t: t.score)) for g in tries.values()]
    talk = practice.conversation
    return [[(talk(best), talk(worst))] for best, worst in ends if best.score > worst.score]


def step_by_step(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> list[list[Contrast]]:
    """Appendix B: from every expert state the agent goes on; its action there against the expert's."""
    best = best_of(experts)
    talks = {task: practice.conversation(e) for task, e in best.items()}
    pairs: dict[str, list[Contrast]] = {task: [] for task in talks}
    gone_on = practice.go_on(policy, talks, f"steps-{i}", config.temperature)
    practice.inspected(i, [(e.actions[t], best[task].actions[t]) for (task, t), e in gone_on.items()])
    for (task, t), tried in gone_on.items():
        expert, agent = only_answer(talks[task], t), only_answer(practice.conversation(tried), t)
        if tried.score != best[task].score:
            pairs[task].append((agent, expert) if tried.score > best[task].score else (expert, agent))
    return [found for found in pairs.values() if found]


def contrast(
    policy: LocalModel, pairs: Sequence[Sequence[Contrast]], practice: Practice, config: Config, i: int
) -> bool:
    """Minimise L_DPO over this iteration's pairs, the reference being the policy that explored.

    False where there are none.
    """
    why, mend = "every exploration scored as its expert did", "fewer epochs of cloning"
    if config.self_play:
        why, mend = "every task's explorations scored alike", "a higher temperature"
    none = why, f"use more or harder tasks, or {mend}"
    beta, optim = config.beta, config.optim
    if i > 1:
        beta, optim = config.later_beta, replace(optim, learning_rate=config.later_rate)
    objective = Preference(beta, imitation=config.imitation, mean=True)
    return prefer(policy, policy.model, pairs, objective, practice, optim, "dpo", i, none)
