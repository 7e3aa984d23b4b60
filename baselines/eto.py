"""ETO: exploration-based trajectory optimisation (Song et al. 2024, arXiv:2403.02502).

    1. clone the experts: L_SFT on D                                                    (eq. 3-5)
    2. repeat: explore every training task once with the policy; pair each exploration with the expert's
       episode of the same task, the better reward first, ties dropped; then minimise
       L_DPO = - log sigma(beta log pi(e_w)/ref(e_w) - beta log pi(e_l)/ref(e_l)),       (eq. 11)
       log pi(e) summed over the answers' tokens, ref the policy as the iteration began.

Read: the paper and its released code (a2fc5da). Paper and code differ in the schedule of beta and learning
rate (the code's is taken) and in the number of iterations (the paper's). Reconstructed: how self-play pairs
several samples of a task (best against worst). Different here: the expert's score is the environment's own;
nothing is cut in the middle of an answer; the worked example is in the prompt of training and test alike, or
in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prosegym.baselines import sft
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Pair, Preference, against
from prosegym.baselines.practice import Practice, only_answer
from prosegym.baselines.training import Optim
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.rollout import Job

Contrast = tuple[Sequence[Message], Sequence[Message]]
"""Two conversations that begin alike, the better one first."""


@dataclass(frozen=True)
class Config:
    """Paper section 4.1 and run_eto.sh."""

    cloning: sft.Config = sft.Config()
    cloned: bool = False
    """The model has been cloned already: leave out step 1."""
    iterations: int = 2
    """Paper: 2 on WebShop and ScienceWorld, 1 on ALFWorld (later ones fall below SFT there); script: 3."""
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
    """Explorations of each task, contrasted with each other, no expert (section 4.5); 0 has the expert."""
    extra_turns: int | None = None
    """Turns a rejected episode may have beyond the expert's (code: 5 on WebShop and ScienceWorld)."""
    imitation: float = 0.0
    """Weight of - log pi(e_w) per token beside L_DPO; not in the paper, steadies models made from scratch."""


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """Algorithm 1; the policy changes in place."""
    if not (config.cloned or config.self_play):
        sft.train(policy, experts, practice, config.cloning)
    for i in range(1, config.iterations + 1):
        pairs: list[Contrast] = []
        if config.self_play:
            pairs += versus_itself(explore(policy, experts, practice, config, i), practice)
        if not config.self_play and config.level in ("trajectory", "mixture"):
            pairs += versus_expert(experts, explore(policy, experts, practice, config, i), practice, config)
        if not config.self_play and config.level in ("step", "mixture"):
            pairs += step_by_step(policy, experts, practice, config, i)
        contrast(policy, pairs, practice, config, i)


def explore(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> list[Trajectory]:
    """e_hat ~ pi for every training instruction, once (`self_play` times)."""
    tasks = dict.fromkeys(e.task_id for e in experts)
    jobs = [Job(task, attempt) for task in tasks for attempt in range(config.self_play or 1)]
    return practice.play(policy, jobs, f"explore-{i}", temperature=config.temperature)


def versus_expert(
    experts: Sequence[Trajectory], explored: Iterable[Trajectory], practice: Practice, config: Config
) -> list[Contrast]:
    """D_p: whichever of expert and agent scored more wins; equal scores teach nothing."""
    best: dict[str, Trajectory] = {}
    for expert in experts:
        if expert.task_id not in best or expert.score > best[expert.task_id].score:
            best[expert.task_id] = expert
    pairs: list[Contrast] = []
    for tried in explored:
        expert = best[tried.task_id]
        if tried.ended == "error" or not tried.steps or tried.score == expert.score:
            continue
        win, lose = (expert, tried) if expert.score > tried.score else (tried, expert)
        rejected = practice.conversation(lose)
        if config.extra_turns is not None:
            rejected = rejected[: 2 * (len(win.steps) + config.extra_turns)]
        pairs.append((practice.conversation(win), rejected))
    return pairs


def versus_itself(explored: Iterable[Trajectory], practice: Practice) -> list[Contrast]:
    """Self-play: the best and the worst of each task's explorations, where they differ in score."""
    tries: dict[str, list[Trajectory]] = {}
    for tried in explored:
        if tried.ended != "error" and tried.steps:
            tries.setdefault(tried.task_id, []).append(tried)
    pairs: list[Contrast] = []
    for group in tries.values():
        worst, best = min(group, key=lambda t: t.score), max(group, key=lambda t: t.score)
        if best.score > worst.score:
            pairs.append((practice.conversation(best), practice.conversation(worst)))
    return pairs


def step_by_step(
    policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config, i: int
) -> list[Contrast]:
    """Appendix B: from every expert state the agent goes on; its action there against the expert's."""
    talks = {e.task_id: (e, practice.conversation(e)) for e in experts}
    forced = {
        (task, t): [m.content for m in talk[1 : 2 * t : 2]]
        for task, (e, talk) in talks.items()
        for t in range(len(e.steps))
    }
    played = practice.play(
        policy, [Job(*key) for key in forced], f"steps-{i}", temperature=config.temperature, forced=forced
    )
    pairs: list[Contrast] = []
    for tried in played:
        expert, talk = talks[tried.task_id]
        t = tried.attempt  # the attempt says how many of the expert's actions came first
        if tried.ended == "error" or len(tried.steps) <= t or tried.score == expert.score:
            continue
        acted, said = only_answer(talk, t), only_answer(practice.conversation(tried), t)
        pairs.append((acted, said) if expert.score > tried.score else (said, acted))
    return pairs


def contrast(
    policy: LocalModel, pairs: Sequence[Contrast], practice: Practice, config: Config, i: int
) -> None:
    """Minimise L_DPO over this iteration's pairs, the reference being the policy that explored."""
    both = [(sft.sample(policy, win), sft.sample(policy, lose)) for win, lose in pairs]
    fitting = [(Pair(win, lose),) for win, lose in both if win and lose and win != lose]
    if not fitting:
        raise ProsegymError(
            f"iteration {i} has no pairs: every exploration scored as its expert did, so there is nothing to "
            "contrast; use more or harder tasks, or fewer epochs of cloning"
        )
    beta, optim = config.beta, config.optim
    if i > 1:
        beta, optim = config.later_beta, replace(optim, learning_rate=config.later_rate)
    objective = Preference(beta, imitation=config.imitation, mean=True)
    practice.fit(policy.model, objective, against(policy.model, fitting, optim.tokens), optim, f"dpo-{i}")
