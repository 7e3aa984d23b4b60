"""RetroAct: planner and reflector learn together beside imitation (Feng et al. 2025, arXiv:2503.01490).

    1. imitation: clone expert episodes into the planner pi, then into the reflector mu the expert's
       reflections on pi's failures, those after which pi's next try succeeded
    2. repeat: play Reflexion's trials with pi and mu; every try is a planner row with R = its score, every
       note a reflector row with R = R_next - R (eq. 6); minimise, for each role,                  (eq. 7-10)
       L = - E[clip(pi/pi_behaviour, 1 - eps, 1 + eps) log pi R] + lambda L_IL

Read: the paper and its released code (90fff38). The log pi in L is the code's: eq. 7-8 print the ratio times
R alone. Where else they differ the paper is the default: the code's reflector reward has a factor (R + c)/c
(`reward_offset`), its data keeps positive rewards only (`negatives`), its means are over all tokens
(`legacy_mean`).

Different from both: the mean is over each text's trained tokens, where the paper sums. Both train on
observations, too; the default masks them, and `cloning.observations=1` trains on the prompt as well, which
the code masks. In both the teacher plays, too, with its own reflections before it, and planner and reflector
are cloned from those tries; here the planner is cloned from experts that remember nothing, and the reflector
from notes on pi's own failures.

Reconstructed: the number of trials in training; that one model for both roles is cloned into the planner
first, then into the reflector. Expert reflections come from a teacher model, as in the paper, or from a rule
(`notes`), the default.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prosegym.baselines import agents, reflexion, sft
from prosegym.baselines.batch import Sample
from prosegym.baselines.lm import Generation
from prosegym.baselines.local import LocalModel
from prosegym.baselines.notes import Scribe
from prosegym.baselines.objectives import Played, PolicyGradient, token_scores
from prosegym.baselines.practice import Practice, beginning, noted, ratings
from prosegym.baselines.reflexion import ModelReflector, Reflection, Reflector
from prosegym.baselines.training import Optim
from prosegym.envs.errors import BadOption, ProsegymError, at_least
from prosegym.envs.trajectory import Message, Trajectory

IL = Optim(1e-4, epochs=5, batch_size=1, schedule="linear", warmup=0.1)
RL = Optim(1e-4, epochs=3, batch_size=1, schedule="linear", warmup=0.1)


@dataclass(frozen=True)
class Config:
    """Appendix C.6 and the released scripts; the code warms up over 100 steps, here over a tenth of them."""

    cloning: sft.Config = sft.Config(IL)
    optim: Optim = RL
    iterations: int = 1
    roles: Literal["two", "one"] = "two"
    """A model for each role, or one for both (about 10 % worse on two of the paper's three tasks)."""
    reflector: str = ""
    """Name or path of the model that mu begins as, of two roles; empty is the planner's, as in the paper."""
    teacher: str = ""
    """Model that writes the expert reflections, by name, path or URL of an endpoint (paper: Mixtral-8x7B);
    empty has them written by rule (`notes`)."""
    trials: int = 3
    """Tries at a training task; not printed in the paper."""
    clip: float = 0.3
    regulariser: float = 1.0
    """lambda."""
    reward_offset: float | None = None
    """c of the code's reflector reward (R_next - R)(R + c)/c; None is the paper's R_next - R."""
    negatives: bool = True
    """Keep rows whose reward is 0 or below."""
    legacy_mean: bool = False
    """Divide both terms by all of a text's tokens, its prompt's included."""
    temperature: float = 1.0
    """Of the tries and the notes in training."""
    transcript_tokens: int = 3000
    """Longest account of a try, from which a note is written."""

    def __post_init__(self) -> None:
        at_least(1, iterations=self.iterations, trials=self.trials)
        if self.reflector and self.roles == "one":
            raise BadOption("one role has no reflector of its own; leave out --reflector or set --roles two")
        if self.reward_offset is not None and self.reward_offset <= 0:
            raise BadOption(f"reward_offset divides a reward: above 0, not {self.reward_offset:g}")


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """The planner changes in place; with two roles the reflector lies in OUT/reflector."""
    reflector = beginning(config.reflector, policy, practice) if config.roles == "two" else policy
    tasks = list(dict.fromkeys(e.task_id for e in experts))
    episodes = [practice.conversation(e) for e in experts]
    demonstrations = sft.clone(policy, episodes, practice, config.cloning, "sft")
    examples = teach(policy, reflector, tasks, practice, config)
    for i in range(1, config.iterations + 1):
        tries, notes = play(policy, reflector, tasks, practice, config, i)
        rng = random.Random(f"{practice.seed} {i}")
        acted, wrote = planner_rows(tries, practice), reflector_rows(tries, notes, config)
        with practice.accelerator.autocast():  # at the precision of training: a difference would be a ratio
            plans = behaved(policy, acted, demonstrations, config, rng)
            words = behaved(reflector, wrote, examples, config, rng)
        for role, rows, kept in (("planner", acted, plans), ("reflector", wrote, words)):
            practice.say(f"{role}-{i}", "texts", len(rows), len(kept), sum(p.sample.cut for p in kept))
        if not optimise(policy, reflector, plans, words, practice, config, i):
            break
    if config.roles == "two":
        practice.save(reflector, practice.folder / "reflector", "retroact")


def teach(
    policy: LocalModel, reflector: LocalModel, tasks: Sequence[str], practice: Practice, config: Config
) -> list[Sample]:
    """Imitation of the reflector: of the teacher's notes, or those by rule, on the clone's failures, the ones
    that a success followed."""
    loop = reflexion.Config(trials=2, temperature=0.0, transcript_tokens=config.transcript_tokens)
    teacher: Reflector = Scribe(reflector, loop)
    if config.teacher:
        teacher = ModelReflector(agents.load_model(config.teacher), loop)
    played = practice.trials(policy, teacher, tasks, "teach", loop, temperature=config.temperature)
    helped = [n for n, _, after in ratings(*played) if after.success]
    talks = [noted(replace(n, generation=Generation(n.text))) for n in helped]  # in our own tokens
    if talks:
        return sft.clone(reflector, talks, practice, config.cloning, "sft-reflector")
    practice.say("sft-reflector", "texts", 0, 0, 0)
    if practice.accelerator.is_main_process:
        why = "the clone failed at no training task, or no note on a failure was followed by a success"
        print(f"sft-reflector: nothing to imitate, so the reflector is not trained, nor by rewards: {why}")
    return []


def play(
    policy: LocalModel,
    reflector: LocalModel,
    tasks: Sequence[str],
    practice: Practice,
    config: Config,
    i: int,
) -> tuple[list[Trajectory], list[Reflection]]:
    """Reflexion's trials on the training tasks, sampled."""
    loop = reflexion.Config(
        config.trials, temperature=config.temperature, transcript_tokens=config.transcript_tokens
    )
    writer = ModelReflector(reflector, loop)
    return practice.trials(policy, writer, tasks, f"trials-{i}", loop, temperature=config.temperature)


Row = tuple[list[Message], float]
"""A conversation whose answers the learner wrote, and what they earned."""


def planner_rows(tries: Sequence[Trajectory], practice: Practice) -> list[Row]:
    """Every try with its score: R_pi = R_k."""
    return [(practice.conversation(t), t.score) for t in tries if t.steps and t.ended != "error"]


def reflector_rows(tries: Sequence[Trajectory], notes: Sequence[Reflection], config: Config) -> list[Row]:
    """Every note that a try followed, with what it was worth: R_mu = R_{k+1} - R_k."""
    return [
        (noted(n), worth(before.score, after.score, config.reward_offset))
        for n, before, after in ratings(tries, notes)
    ]


def worth(last: float, current: float, c: float | None = None) -> float:
    """R_next - R (eq. 6), or (R_next - R)(R + c)/c as the released code has it."""
    return current - last if c is None else (current - last) * (last + c) / c


def behaved(
    model: LocalModel,
    rows: Sequence[Row],
    demonstrations: Sequence[Sample],
    config: Config,
    rng: random.Random,
) -> list[Played]:
    """Rows with what the policy that wrote them gave each token, each beside a demonstration drawn for it."""
    if not demonstrations:
        return []
    kept = [(sft.sample(model, talk, config.cloning.observations), reward) for talk, reward in rows]
    fitting = [(s, reward) for s, reward in kept if s and (config.negatives or reward > 0)]
    behaviour = token_scores(model.model, [s for s, _ in fitting], config.optim.tokens)
    return [Played(s, b, r, rng.choice(demonstrations)) for (s, r), b in zip(fitting, behaviour, strict=True)]


def optimise(
    policy: LocalModel,
    reflector: LocalModel,
    plans: list[Played],
    words: list[Played],
    practice: Practice,
    config: Config,
    i: int,
) -> bool:
    """Minimise L for each role; with one model, for both together. False where no try teaches, which is said.

    Raises:
        ProsegymError: none does in the first iteration; later, what was learnt before is kept.
    """
    if not plans:
        why = "every try broke off or is longer than the context; use shorter tasks"
        if not config.negatives:
            why = "no try earned anything; set --negatives"
        if i == 1:
            raise ProsegymError(f"iteration 1 has nothing to learn from: {why}")
        practice.accelerator.print(f"iteration {i} has nothing to learn from, and the training ends: {why}")
        return False
    objective = PolicyGradient(config.clip, config.regulariser, config.legacy_mean)
    role = "planner"
    if reflector is policy:
        plans, words, role = plans + words, [], "joint"
    practice.fit(policy.model, objective, plans, config.optim, f"{role}-{i}")
    if words:
        practice.fit(reflector.model, objective, words, config.optim, f"reflector-{i}")
    return True
