"""Retroformer: a frozen actor, a reflector trained by what its notes earn (Yao et al. 2024, 2308.02151).

    collect   Reflexion's trials with the frozen actor M_a: notes y on failed tries, prompts x
    rate      r(x, y) = G_{i+1} - G_i, the return of the try after the note less that of the try before
    1. SFT    M_r on the notes with a positive rating                                        -> M_ref
    2. judge  a reward model on as many good notes as bad: good where the rating is above 0.25
    3. PPO    max E[ r(x, y) - beta log(M_r(y|x) / M_ref(y|x)) ], y sampled anew, each (x, y) by itself

Read: the released code (9e4f1b1, which does not run as it stands) and notes on the paper; the paper's own
text was not at hand. y is new in step 3, so it must be judged by a model (`rating="model"`, as the scripts
do) or by a fresh try of the actor (`rating="try"`).

Reconstructed: the temperatures at which tries are rated (the actor's is that of its released evaluation), how
many rounds of new notes PPO takes, and how often each is used: the script's 50 epochs are over its own small
batches.

Different from the code: the prompt is not trained on; notes with no positive rating are left out of step 1,
as the paper says; a judged note earns P(good), not its logit; the KL coefficient stays as it is, where the
code adapts it; notes are drawn from all tokens, not with top_p 0.9; all weights are trained unless `lora`
says otherwise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prosegym.baselines import reflexion, sft
from prosegym.baselines.batch import Sample
from prosegym.baselines.diagnosis import spread
from prosegym.baselines.lm import Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Imitation
from prosegym.baselines.ppo import Headed, Judged, Judgement, Settings, improve, judgements
from prosegym.baselines.practice import Practice, beginning, noted, ratings, twin
from prosegym.baselines.reflexion import ModelReflector, Reflection, remembered
from prosegym.baselines.training import Optim
from prosegym.envs.errors import ProsegymError, at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.rollout import Job


@dataclass(frozen=True)
class Config:
    """Of the released scripts; the number of tries is the paper's as reported."""

    cloning: Optim = Optim(1.41e-5, epochs=3, batch_size=16, schedule="linear", warmup=0.0)
    judging: Optim = Optim(5e-5, epochs=3, batch_size=8, schedule="linear", warmup=0.0)
    optim: Optim = Optim(1e-5, epochs=4, batch_size=8, schedule="constant", warmup=0.0)
    """Of PPO."""
    ppo: Settings = Settings()
    reflector: str = ""
    """Name or path of the model that M_r begins as; empty is the actor's. (Code: longchat-7b, not GPT-3.)"""
    trials: int = 3
    """Tries at a training task while collecting."""
    rounds: int = 4
    """Of new notes in PPO."""
    rating: Literal["model", "try"] = "model"
    """What says how much a new note is worth: the reward model, or a fresh try of the actor."""
    threshold: float = 0.25
    """Rating above which a note is good, for the reward model."""
    temperature: float = 0.0
    """Of the actor, whose tries rate the notes: above 0, a rating holds its luck, too."""
    note_temperature: float = 1.0
    """Of the notes in training."""
    max_tokens: int = 250
    """Longest note."""
    transcript_tokens: int = 3000
    """Longest account of a try, from which a note is written."""

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds)
        at_least(2, trials=self.trials)


Rated = tuple[Reflection, Trajectory, Trajectory]
"""A note, the try it is about, and the try after it."""


def train(policy: LocalModel, experts: Sequence[Trajectory], practice: Practice, config: Config) -> None:
    """The policy is the actor and stays as it is; the reflector lies in OUT/reflector."""
    reflector = beginning(config.reflector, policy, practice)
    rated = collect(policy, reflector, experts, practice, config)
    clone(reflector, rated, practice, config)
    reward_model = judge(reflector, rated, practice, config) if config.rating == "model" else None
    reference = twin(reflector)
    critic = Headed(reflector.model)
    for i in range(1, config.rounds + 1):
        new = write(reflector, rated, practice, config, i)
        notes = [n.sample for n in new]
        if reward_model is not None:
            bad = judgements(reward_model, notes, config.judging.tokens)
            rewards = [1 / (1 + math.exp(x)) for x in bad]  # P(good): the numbers are logits of bad
        else:
            rewards = try_out(policy, new, practice, config, i)
        practice.tell("reward", i, {**spread(f"round {i}", rewards), "notes": len(rewards)})
        improve(critic, notes, rewards, reference.model, practice, config.ppo, config.optim, f"ppo-{i}")
    practice.save(reflector, practice.folder / "reflector", "retroformer")


def collect(
    actor: LocalModel,
    reflector: LocalModel,
    experts: Sequence[Trajectory],
    practice: Practice,
    config: Config,
) -> list[Rated]:
    """Reflexion's trials on the training tasks; every note that was followed by a try."""
    loop = reflexion.Config(
        config.trials,
        temperature=config.note_temperature,
        max_tokens=config.max_tokens,
        transcript_tokens=config.transcript_tokens,
    )
    tasks = list(dict.fromkeys(e.task_id for e in experts))
    writer = ModelReflector(reflector, loop)
    tries, notes = practice.trials(actor, writer, tasks, "collect", loop, temperature=config.temperature)
    if not (rated := ratings(tries, notes)):
        failed = next((t.error for t in tries if t.error), "")
        why = f"tries broke off ({failed})" if failed else "use harder tasks"
        raise ProsegymError(f"no task was failed and tried again, so no note can be rated: {why}")
    return rated


def rating(item: Rated) -> float:
    """r(x, y) = G_{i+1} - G_i."""
    _, before, after = item
    return after.score - before.score


def clone(reflector: LocalModel, rated: Sequence[Rated], practice: Practice, config: Config) -> None:
    """Step 1: imitate the notes that helped; without any, M_ref is the model as it came."""
    helped = [noted(r[0]) for r in rated if rating(r) > 0]
    texts = sft.samples(reflector, helped)
    practice.say("sft-reflector", "texts", len(helped), len(texts), sum(s.cut for s in texts))
    if texts:
        practice.fit(reflector.model, Imitation(), texts, config.cloning, "sft-reflector")


def judge(reflector: LocalModel, rated: Sequence[Rated], practice: Practice, config: Config) -> Headed:
    """Step 2: a copy of the reflector learns which notes are good; as many of either as of the rarer.

    Of the more frequent kind they are drawn, by the run's seed. Where there are no good ones, or no bad ones,
    it learns from all of the others.
    """
    model = Headed(twin(reflector).model, speaks=False)
    texts = [(sft.sample(reflector, noted(r[0])), rating(r) > config.threshold) for r in rated]
    good = [Judged(s, True) for s, is_good in texts if s and is_good]
    bad = [Judged(s, False) for s, is_good in texts if s and not is_good]
    count, rng = min(len(good), len(bad)) or len(texts), random.Random(practice.seed)
    both = [j for kind in (good, bad) for j in rng.sample(kind, min(count, len(kind)))]
    practice.say("judge", "texts", len(texts), len(both), sum(j.sample.cut for j in both))
    practice.fit(model, Judgement(), both, config.judging, "judge")
    return model


class New(NamedTuple):
    """A note written anew on a try."""

    before: Trajectory
    text: str
    """What is remembered."""
    sample: Sample


def write(
    reflector: LocalModel, rated: Sequence[Rated], practice: Practice, config: Config, i: int
) -> list[New]:
    """y ~ M_r(.|x) for every prompt that was collected."""
    prompts = [r[0].prompt for r in rated]
    sampling = Sampling(config.note_temperature, max_tokens=config.max_tokens)  # as those that were collected
    answers = practice.answers(reflector, prompts, f"notes-{i}", sampling)
    new = []
    for (_, before, _), prompt, answer in zip(rated, prompts, answers, strict=True):
        if (sample := sft.sample(reflector, [*prompt, answer])) and sample.trained:
            new.append(New(before, remembered(answer.content), sample))
    practice.say(f"ppo-{i}", "texts", len(answers), len(new), sum(n.sample.cut for n in new))
    return new


def try_out(actor: LocalModel, new: Sequence[New], practice: Practice, config: Config, i: int) -> list[float]:
    """The rating of new notes by fresh tries of the frozen actor; 0 where one breaks off with an error."""
    kept = reflexion.Config().memory
    memories = [(*n.before.memory, *([n.text] if n.text else []))[-kept:] for n in new]
    jobs = [Job(n.before.task_id, k, memory=memories[k]) for k, n in enumerate(new)]
    played = practice.play(actor, jobs, f"tries-{i}", temperature=config.temperature)
    ended = zip(new, played, strict=True)
    return [0.0 if after.ended == "error" else after.score - n.before.score for n, after in ended]
