"""Training, against TRL's trainers on the same model, data, batch sizes and one CPU thread.

    pytest tests/benchmarks/bench_training.py -s

Household games by the planner (the expert) and at random (30 turns), a Llama of 1 M parameters. One epoch,
the reference's scores included for preferences, tokenization left out for both; what is compared is CPU time
of the same run (`extra_info`), printed as trajectories a CPU second. TRL gets its own best settings here:
lengths grouped, the reference computed beforehand, no logging or saving, the fastest of three micro-batches.
(Its padding-free batches need FlashAttention, which a CPU has not.)
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prosegym.baselines import house, objectives, react, retroact, sft
from prosegym.baselines.batch import Sample
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Bundle, Imitation, Pair, Preference
from prosegym.baselines.practice import Practice, only_answer, twin
from prosegym.baselines.training import Log, Optim, fit
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.agents import Agent, ExpertAgent, RandomAdmissible
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

ENV, TASKS, TURNS = "prosegym/Household-v1", 24, 30
pytestmark = pytest.mark.timeout(7200)
RATE, BETA = 1e-5, 0.1


def play(agent: Agent) -> list[Trajectory]:
    jobs = [Job(task.id) for task in make_env(ENV).unwrapped.tasks("train")[:TASKS]]  # type: ignore[attr-defined]
    return list(rollout(lambda: make_env(ENV, max_steps=TURNS), agent, jobs))


EXPERT, TRIED = play(ExpertAgent()), play(RandomAdmissible())


class Data:
    """A new model, and the episodes as its conversations."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.practice = Practice(ENV, folder, react.Config(format="bare"), {"max_steps": TURNS})
        texts = [self.practice.env.instruction, *house.texts([*EXPERT, *TRIED])]
        self.pieces = house.tokenizer(texts, 1024)
        self.policy = LocalModel(house.model("1m", self.pieces), self.pieces)
        self.expert, self.tried = ([self.practice.conversation(t) for t in ts] for ts in (EXPERT, TRIED))

    def sample(self, talk: list[Message]) -> Sample:
        found = sft.sample(self.policy, talk)
        assert found is not None
        return found

    def steps(self) -> list[Bundle]:
        """Of each expert episode, at every state, its action against another one."""
        rng = random.Random(0)
        bundles = []
        for talk, tried in zip(self.expert, self.tried, strict=True):
            others, pairs = tried[1::2], []
            for t in range(len(talk) // 2):
                told = only_answer(talk, t)
                said = rng.choice([m for m in others if m.content != told[-1].content])
                pairs.append(Pair(self.sample(told), self.sample([*told[:-1], said])))
            bundles.append(tuple(pairs))
        return bundles

    def wholes(self) -> list[Bundle]:
        """Each expert episode against the random one of its game."""
        return [(Pair(self.sample(a), self.sample(b)),) for a, b in zip(self.expert, self.tried, strict=True)]


def clocked(run: Any) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def ours(data: Data, bundles: list[Bundle], size: int, folder: Path) -> None:
    optim = Optim(RATE, batch_size=size, schedule="constant")
    items = objectives.against(data.policy.model, bundles)
    fit(data.policy.model, Preference(BETA), items, optim, folder / "ours", Log(folder))


def common(name: str, folder: Path, micro: int, size: int, **more: Any) -> Any:
    trl = pytest.importorskip("trl")
    return getattr(trl, name)(
        output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, fp16=False, max_length=None,
        gradient_checkpointing=False, logging_strategy="no", save_strategy="no", disable_tqdm=True,
        learning_rate=RATE, lr_scheduler_type="constant", num_train_epochs=1, optim="adamw_torch",
        per_device_train_batch_size=micro, gradient_accumulation_steps=size // micro, **more,
    )  # fmt: skip


def dpo_trainer(data: Data, bundles: list[Bundle], micro: int, size: int, folder: Path) -> Any:
    """TRL's trainer, with the same pairs as tokens, and the reference's scores of them."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = []
    for pair in (p for bundle in bundles for p in bundle):
        n = next(i for i, w in enumerate(pair.win.weights) if w)
        rows.append({
            "prompt_ids": list(pair.win.token_ids[:n]), "chosen_ids": list(pair.win.token_ids[n:]),
            "rejected_ids": list(pair.lose.token_ids[n:]),
            "length": len(pair.win.token_ids) + len(pair.lose.token_ids),
        })  # fmt: skip
    return trl.DPOTrainer(
        model=data.policy.model,
        args=common(
            "DPOConfig",
            folder,
            micro,
            size,
            beta=BETA,
            precompute_ref_log_probs=True,
            train_sampling_strategy="group_by_length",
            length_column_name="length",
            remove_unused_columns=False,
        ),  # fmt: skip
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=data.pieces,
    ), Dataset.from_list(rows)


def theirs(trainer: Any, rows: Any, micro: int) -> None:
    trainer.train_dataset = trainer._precompute_ref_logps(rows, "train", micro)
    trainer.train()


@pytest.mark.parametrize(("pairs", "size"), [("steps", 32), ("wholes", 8)])
def test_preferences(benchmark: Any, tmp_path: Path, pairs: str, size: int) -> None:
    peer = {}
    for micro in (1, 2, 4):
        data = Data(tmp_path)
        trainer, rows = dpo_trainer(data, getattr(data, pairs)(), micro, size, tmp_path / str(micro))
        peer[micro] = TASKS / clocked(lambda: theirs(trainer, rows, micro))  # noqa: B023
    data = Data(tmp_path)
    bundles = getattr(data, pairs)()
    items = max(1, round(size * len(bundles) / sum(map(len, bundles))))
    mine = TASKS / benchmark.pedantic(lambda: clocked(lambda: ours(data, bundles, items, tmp_path)), rounds=1)
    report(benchmark, pairs, mine, peer)


def test_imitation(benchmark: Any, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    peer = {}
    for micro in (1, 2, 4):
        data = Data(tmp_path)
        texts = [data.sample(t) for t in [*data.expert, *data.tried]]
        rows = [
            {"input_ids": list(s.token_ids), "completion_mask": [int(w) for w in s.weights]} for s in texts
        ]  # fmt: skip
        more = {"completion_only_loss": True, "train_sampling_strategy": "group_by_length"}
        trainer = trl.SFTTrainer(
            model=data.policy.model,
            args=common("SFTConfig", tmp_path, micro, 8, **more),
            train_dataset=Dataset.from_list(rows),
            processing_class=data.pieces,
        )
        peer[micro] = 2 * TASKS / clocked(trainer.train)
    data = Data(tmp_path)
    optim = Optim(RATE, batch_size=8, schedule="constant")
    run = lambda: fit(data.policy.model, Imitation(), texts, optim, tmp_path / "sft", Log(tmp_path))  # noqa: E731
    mine = 2 * TASKS / benchmark.pedantic(lambda: clocked(run), rounds=1)
    report(benchmark, "imitation", mine, peer)


def test_retroact(benchmark: Any, tmp_path: Path) -> None:
    """Where the time of one iteration goes: tries and notes, behaviour scores, updates of both roles."""
    data = Data(tmp_path)
    planner, reflector, place = data.policy, twin(data.policy), data.practice
    config = retroact.Config(trials=2)
    config = replace(config, optim=replace(config.optim, epochs=1))
    demonstrations = sft.samples(planner, data.expert)
    spent = {}

    def iteration() -> None:
        begun = time.process_time()
        tries, notes = retroact.play(planner, reflector, [e.task_id for e in EXPERT], place, config, 1)
        spent["rollout"] = time.process_time() - begun
        rng = random.Random(0)
        plans = retroact.behaved(planner, retroact.planner_rows(tries, place), demonstrations, config, rng)
        words = retroact.behaved(
            reflector, retroact.reflector_rows(tries, notes, config), demonstrations, config, rng
        )
        spent["scoring"] = time.process_time() - begun - spent["rollout"]
        retroact.optimise(planner, reflector, plans, words, place, config, 1)
        spent["update"] = time.process_time() - begun - spent["rollout"] - spent["scoring"]
        spent["rows"] = len(plans) + len(words)

    benchmark.pedantic(iteration, rounds=1)
    rows, total = spent.pop("rows"), sum(spent.values())
    shares = {name: round(seconds / total, 3) for name, seconds in spent.items()}
    benchmark.extra_info.update(rows=rows, shares=shares)
    print(f"\nretroact: {rows} rows, shares of the CPU time {shares}")


def report(benchmark: Any, what: str, mine: float, peer: dict[int, float]) -> None:
    ratio = mine / max(peer.values())
    benchmark.extra_info.update(trajectories_per_cpu_second=mine, trl=peer, ratio=ratio)
    print(f"\n{what}: {mine:.2f} trajectories a CPU second; TRL {peer}; ratio {ratio:.2f}")
