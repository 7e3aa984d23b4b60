"""Every method end to end on the smallest environment with the smallest model, on the CPU, in seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from prosegym.baselines import best_of_n, eto, house, react, rft, sft, stepagent  # noqa: E402
from prosegym.baselines.local import LocalModel  # noqa: E402
from prosegym.baselines.practice import Practice, demonstrations, only_answer  # noqa: E402
from prosegym.baselines.training import Optim  # noqa: E402
from prosegym.envs import trajectory as records  # noqa: E402
from prosegym.envs.errors import CorruptData, ProsegymError  # noqa: E402
from prosegym.envs.trajectory import Trajectory  # noqa: E402
from prosegym.evaluation.agents import ExpertAgent, Null, Scripted  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402

torch.set_num_threads(1)
LOCKBOX = "prosegym/Lockbox-v1"
TASKS = [f"train/{c}" for c in ("red", "blue", "green", "teal", "plum", "rust", "sand", "jade")]
CLONING = sft.Config(Optim(learning_rate=5e-3, epochs=60, batch_size=2))


@pytest.fixture(scope="module")
def experts() -> list[Trajectory]:
    return list(rollout(lambda: make_env(LOCKBOX), ExpertAgent(), [Job(t) for t in TASKS]))


@pytest.fixture(scope="module")
def scratch(experts: Sequence[Trajectory], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return house.scratch(tmp_path_factory.mktemp("house"), "tiny", house.texts(experts), vocabulary=330)


def practice(folder: Path) -> Practice:
    return Practice(LOCKBOX, folder, react.Config(format="bare", max_tokens=16))


def wins(policy: LocalModel, place: Practice) -> float:
    played = place.play(policy, [Job(t) for t in TASKS], "check")
    return sum(t.success for t in played) / len(played)


@pytest.fixture(scope="module")
def cloned(experts: Sequence[Trajectory], scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cloned")
    policy = LocalModel.load(str(scratch), device="cpu")
    sft.train(policy, experts, practice(folder), CLONING)
    policy.model.save_pretrained(folder / "model")
    policy.tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def load(folder: Path) -> LocalModel:
    return LocalModel.load(str(folder), device="cpu")


# --- SFT ---


def test_sft_memorises_its_demonstrations(cloned: Path, scratch: Path, tmp_path: Path) -> None:
    assert wins(load(scratch), practice(tmp_path / "before")) == 0
    assert wins(load(cloned), practice(tmp_path / "after")) == 1


def test_samples_train_on_answers_alone(experts: Sequence[Trajectory], scratch: Path, tmp_path: Path) -> None:
    policy = load(scratch)
    sample = sft.samples(policy, [practice(tmp_path).conversation(experts[0])])[0]
    written = [i for i, w in zip(sample.token_ids, sample.weights, strict=True) if w]
    assert policy.tokenizer.decode(written) == "take red key<|end|>open box<|end|>"
    weighted = sft.samples(policy, [practice(tmp_path).conversation(experts[0])], observations=0.25)[0]
    assert set(weighted.weights) == {0.25, 1.0} and weighted.token_ids == sample.token_ids


def test_changing_an_observation_changes_no_weight(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    talk = place.conversation(experts[0])
    other = [
        records.Message(m.role, m.content.replace("key", "fob")) if m.role == "user" else m for m in talk
    ]
    a, b = sft.samples(policy, [talk, other])
    assert [i for i, w in zip(a.token_ids, a.weights, strict=True) if w] == [
        i for i, w in zip(b.token_ids, b.weights, strict=True) if w
    ]


def test_an_episode_longer_than_the_context_is_cut_after_an_answer(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    talk = place.conversation(experts[0])
    whole = sft.samples(policy, [talk])[0]
    policy.max_context = len(whole.token_ids) - 1
    short = sft.samples(policy, [talk])[0]
    assert policy.tokenizer.decode(list(short.token_ids)).endswith("take red key<|end|>")
    assert short.token_ids == whole.token_ids[: len(short.token_ids)]
    policy.max_context = 3
    with pytest.raises(ProsegymError, match="fits the context of 3 tokens"):
        sft.samples(policy, [talk])


def test_data_of_another_environment_is_refused(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    records.write(tmp_path / "d.jsonl", experts)
    assert demonstrations(tmp_path / "d.jsonl", LOCKBOX) == experts
    with pytest.raises(CorruptData, match="d.jsonl:1 is an episode of prosegym/Lockbox-v1, not of x"):
        demonstrations(tmp_path / "d.jsonl", "x")
    records.write(tmp_path / "e.jsonl", [])
    with pytest.raises(ProsegymError, match="no episode to learn from"):
        demonstrations(tmp_path / "e.jsonl", LOCKBOX)


# --- practice ---


def test_play_goes_on_where_it_was_cut_and_plays_nothing_twice(cloned: Path, tmp_path: Path) -> None:
    policy, place = load(cloned), practice(tmp_path)
    jobs = [Job(t) for t in TASKS]
    first = place.play(policy, jobs, "a", temperature=1.0)
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:50])
    again = place.play(policy, jobs, "a", temperature=1.0)
    assert [t.actions for t in again] == [t.actions for t in first]
    assert (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)[:3] == lines[:3]
    assert [t.task_id for t in again] == TASKS


def test_forced_answers_come_first_and_the_model_goes_on_from_them(cloned: Path, tmp_path: Path) -> None:
    place = practice(tmp_path)
    forced = {(TASKS[0], 2): ["take blue key", "take red key"]}
    (played,) = place.play(load(cloned), [Job(TASKS[0], 2)], "f", forced=forced)
    assert played.actions[:2] == ["take blue key", "take red key"] and len(played.steps) > 2
    assert [m.content for m in played.messages if m.role == "assistant"][:2] == forced[TASKS[0], 2]


# --- ETO ---


def scored(t: Trajectory, score: float) -> Trajectory:
    return (
        records.decode(records.encode(t).replace(b'"success":true', b'"success":false'))
        if score < 0
        else (records.msgspec.structs.replace(t, score=score))
    )


def test_eto_pairs_by_strict_inequality_and_flips(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    place = practice(tmp_path)
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(t) for t in TASKS]))
    talk = place.conversation
    assert eto.versus_expert(experts, experts, place, eto.Config()) == []
    pairs = eto.versus_expert(experts, failed, place, eto.Config())
    assert pairs == [(talk(e), talk(f)) for e, f in zip(experts, failed, strict=True)]
    assert eto.versus_expert(failed, experts, place, eto.Config()) == pairs
    half = [scored(e, 0.5) for e in experts]
    assert eto.versus_expert(half, [scored(experts[0], 0.6)], place, eto.Config()) == [
        (talk(experts[0]), talk(half[0]))
    ]
    assert eto.versus_expert(half, [scored(experts[0], 0.5)], place, eto.Config()) == []


def test_eto_limits_how_far_a_rejected_episode_outlasts_the_expert(
    experts: Sequence[Trajectory], tmp_path: Path
) -> None:
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(TASKS[0])]))
    ((win, lose),) = eto.versus_expert(experts, failed, practice(tmp_path), eto.Config(extra_turns=1))
    assert (len(win), len(lose)) == (4, 6) and lose[-1].role == "assistant"


def test_eto_self_play_pairs_the_best_with_the_worst(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    place = practice(tmp_path)
    tries = [scored(experts[0], s) for s in (0.2, 0.9, 0.0)] + [scored(experts[1], 0.4)] * 2
    assert len(eto.versus_itself(tries, place)) == 1  # the second task's tries score the same


def test_a_step_pair_trains_on_one_answer_given_the_experts_conversation(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, talk = load(scratch), practice(tmp_path).conversation(experts[0])
    sample = sft.sample(policy, only_answer(talk, 1))
    assert sample is not None
    whole = sft.sample(policy, talk)
    assert whole is not None and sample.token_ids == whole.token_ids
    written = [i for i, w in zip(sample.token_ids, sample.weights, strict=True) if w]
    assert policy.tokenizer.decode(written) == "open box<|end|>"


HALF = replace(CLONING, optim=replace(CLONING.optim, epochs=10))
DPO = Optim(learning_rate=1e-3, epochs=4, batch_size=8, schedule="constant", warmup=0.1)


@pytest.mark.parametrize("level", ["trajectory", "step", "mixture"])
def test_eto_end_to_end(level: str, experts: Sequence[Trajectory], scratch: Path, tmp_path: Path) -> None:
    policy = load(scratch)
    config = eto.Config(HALF, iterations=2, optim=DPO, later_rate=1e-3, imitation=1.0, level=level)  # type: ignore[arg-type]
    eto.train(policy, experts, practice(tmp_path), config)
    after = {n: p.clone() for n, p in policy.model.named_parameters()}
    again = load(scratch)
    eto.train(again, experts, practice(tmp_path), config)  # every phase is finished: only loaded
    assert all(torch.equal(after[n], p) for n, p in again.model.named_parameters())
    phases = {line.split('"phase": "')[1].split('"')[0] for line in (tmp_path / "metrics.jsonl").open()}
    assert phases == {"sft", "dpo-1", "dpo-2"}


def test_eto_without_pairs_says_so(experts: Sequence[Trajectory], cloned: Path, tmp_path: Path) -> None:
    tiny = replace(CLONING, optim=Optim(learning_rate=1e-6, epochs=1, batch_size=8))
    with pytest.raises(ProsegymError, match="every exploration scored as its expert did"):
        eto.train(load(cloned), experts, practice(tmp_path), eto.Config(cloning=tiny))


# --- RFT and Best-of-N ---


def test_rft_keeps_new_successes_alone(experts: Sequence[Trajectory]) -> None:
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(t) for t in TASKS]))
    detour = list(
        rollout(
            lambda: make_env(LOCKBOX),
            Scripted({TASKS[0]: ["open box", "take red key", "open box"]}),
            [Job(TASKS[0])],
        )
    )
    assert detour[0].success
    assert rft.accepted(experts, [*experts, *failed, *detour, *detour]) == detour


def test_rft_end_to_end_starts_again_from_the_base(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy = load(scratch)
    rft.train(policy, experts, practice(tmp_path), rft.Config(HALF, samples=2))
    assert wins(policy, practice(tmp_path)) > 0
    curve = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    first = {p: next(m["loss"] for m in curve if m["phase"] == p) for p in ("sft", "rft")}
    assert first["rft"] == pytest.approx(first["sft"], abs=1.0) and first["rft"] > 3


def test_best_of_n_takes_each_tasks_best(cloned: Path, tmp_path: Path) -> None:
    hot = best_of_n.Config(samples=5, temperature=3.0)
    best = best_of_n.solve(load(cloned), TASKS, practice(tmp_path), hot)
    tries = list(records.read(tmp_path / "best-of-n.jsonl"))
    assert [t.task_id for t in best] == TASKS and len(tries) == 40
    assert [t.score for t in best] == [max(x.score for x in tries if x.task_id == t) for t in TASKS]


# --- StepAgent ---


def test_inspection_asks_at_every_expert_state_and_keeps_where_they_differ(
    experts: Sequence[Trajectory], scratch: Path, cloned: Path, tmp_path: Path
) -> None:
    config = stepagent.Config(temperature=0.0)
    place = practice(tmp_path)
    assert stepagent.inspect(load(cloned), experts, place, config, 1) == []
    steps = stepagent.inspect(load(scratch), experts, place, config, 2)
    assert [len(s) for s in steps] == [2] * 8
    win, lose = steps[0][1]
    assert win[:-1] == lose[:-1] and win[-1].content == "open box" and not win[1].trainable
    agreement = [json.loads(line)["agreement"] for line in (tmp_path / "metrics.jsonl").open()]
    assert agreement == [1.0, 0.0]


def test_stepagent_end_to_end_agrees_more_with_the_expert(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy = load(scratch)
    optim = Optim(3e-3, epochs=30, batch_size=4, schedule="constant", warmup=0.1)
    stepagent.train(
        policy,
        experts,
        practice(tmp_path),
        stepagent.Config(HALF, cycles=2, optim=optim, imitation=1.0, temperature=0.0),
    )
    curve = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    first, second = (m["agreement"] for m in curve if m["phase"] == "inspection")
    assert second > first
    with pytest.raises(ProsegymError, match="answers as the expert does in every state"):
        stepagent.reflect(policy, None, [], practice(tmp_path), stepagent.Config(), 3)


def test_stepagent_against_the_clone_keeps_one_reference(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    optim = Optim(1e-3, epochs=1, batch_size=8)
    config = stepagent.Config(HALF, cycles=2, optim=optim, reference="clone")
    stepagent.train(load(scratch), experts, practice(tmp_path), config)
    moved = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    starts = {m["phase"]: m for m in moved if m["step"] == 1 and m["phase"].startswith("reflect")}
    assert starts["reflect-1"]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # the reference itself
    assert starts["reflect-2"]["loss"] != pytest.approx(math.log(2), abs=1e-4)  # already moved away from it


def test_step_contrast_of_a_one_turn_episode_is_the_trajectory_contrast(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, talk = load(scratch), practice(tmp_path).conversation(experts[0])[:2]
    assert sft.sample(policy, only_answer(talk, 0)) == sft.sample(policy, talk)
