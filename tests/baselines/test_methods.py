"""Every method end to end on the smallest environment with the smallest model, on the CPU, in seconds."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from accelerate import Accelerator  # noqa: E402

from prosegym.baselines import (  # noqa: E402
    batch,
    best_of_n,
    contrast,
    eto,
    house,
    ipr,
    notes,
    ppo,
    react,
    reflexion,
    retroact,
    retroformer,
    rft,
    sft,
    stepagent,
    stepagent_inverse,
)
from prosegym.baselines.lm import Generation, Sampling  # noqa: E402
from prosegym.baselines.local import LocalModel  # noqa: E402
from prosegym.baselines.objectives import Pair, Preference, token_scores  # noqa: E402
from prosegym.baselines.practice import Practice, demonstrations, noted, only_answer, ratings, twin  # noqa: E402
from prosegym.baselines.train import Lora, add_adapter  # noqa: E402
from prosegym.baselines.training import Optim  # noqa: E402
from prosegym.envs import trajectory as records  # noqa: E402
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError  # noqa: E402
from prosegym.envs.trajectory import Trajectory  # noqa: E402
from prosegym.evaluation.agents import ExpertAgent, Null, Scripted  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402

torch.set_num_threads(1)
LOCKBOX = "prosegym/Lockbox-v1"
TASKS = [f"train/{c}" for c in ("red", "blue", "green", "teal", "plum", "rust", "sand", "jade")]
NONE = ("nothing differs", "wait")
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


def curve(folder: Path, phase: str = "") -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [m for m in lines if m["phase"] == phase or (not phase and "loss" in m)]


def trained(folder: Path) -> list[str]:
    """The phases that optimised something, in order."""
    return list(dict.fromkeys(str(m["phase"]) for m in curve(folder)))


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
    assert short.cut and not whole.cut
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
    old = {"dialect": "old", "reward": "progress"}
    records.write(
        tmp_path / "o.jsonl",
        [*experts, *(records.msgspec.structs.replace(e, env_kwargs=old) for e in experts)],
    )
    with pytest.warns(UserWarning, match=rf"o.jsonl:{len(experts) + 1} was played with .*'old'") as said_once:
        assert len(demonstrations(tmp_path / "o.jsonl", LOCKBOX, {})) == 2 * len(experts)
    assert len(said_once) == 1
    records.write(tmp_path / "o.jsonl", [records.msgspec.structs.replace(e, env_kwargs=old) for e in experts])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demonstrations(tmp_path / "o.jsonl", LOCKBOX, {"dialect": "old", "max_steps": 9})
    records.write(tmp_path / "s.jsonl", [records.msgspec.structs.replace(e, split="test") for e in experts])
    with pytest.warns(
        UserWarning, match=r"s.jsonl:1 is of split test: .* must not be evaluated"
    ) as said_once:
        demonstrations(tmp_path / "s.jsonl", LOCKBOX)
    assert len(said_once) == 1
    failed = [records.msgspec.structs.replace(e, success=False, score=0.5) for e in experts[:2]]
    records.write(tmp_path / "f.jsonl", [*failed, *experts[2:]])
    with pytest.warns(UserWarning, match=r"2 of 8 .*f.jsonl .*mean score is 0.50.*--successes") as said_once:
        assert len(demonstrations(tmp_path / "f.jsonl", LOCKBOX)) == 8
    assert len(said_once) == 1
    # Whose tokens a file holds is not known: only what they say is learnt.
    messages = [
        records.Message("user", "red"),
        records.Message("assistant", "open box", True, [5, 6], [-1.0, -2.0]),
    ]
    records.write(tmp_path / "t.jsonl", [records.msgspec.structs.replace(experts[0], messages=messages)])
    (read,) = demonstrations(tmp_path / "t.jsonl", LOCKBOX)
    assert read.messages == [messages[0], records.Message("assistant", "open box", True)]
    records.write(tmp_path / "e.jsonl", [])
    with pytest.raises(ProsegymError, match="no episode to learn from"):
        demonstrations(tmp_path / "e.jsonl", LOCKBOX)


# --- practice ---


@pytest.mark.parametrize("method", [eto, ipr, stepagent, stepagent_inverse])
def test_methods_of_turns_refuse_experts_with_other_conversations(
    method: Any, experts: Sequence[Trajectory], tmp_path: Path
) -> None:
    def told(e: Trajectory, *before: str, prompt: str = "") -> Trajectory:
        """With examples of one turn each in front of it."""
        first, *rest = place.conversation(e)
        shown = [records.Message("user" if i % 2 == 0 else "assistant", x) for i, x in enumerate(before)]
        begun = records.Message("user", prompt + first.content)
        return records.msgspec.structs.replace(e, messages=[*shown, begun, *rest])

    place = practice(tmp_path)
    place.turn_by_turn([*experts, told(experts[0])])
    whole = told(experts[0])
    unanswered = [*whole.messages, records.Message("user", "too long")]  # a full context ended it
    place.turn_by_turn([records.msgspec.structs.replace(whole, messages=unanswered)])
    for other in (
        told(experts[1], "The box is red.", "take red key"),
        told(experts[1], prompt="You have tried this before. "),
        records.msgspec.structs.replace(whole, task_id=TASKS[1], messages=whole.messages[:2]),
    ):
        data = [told(experts[0]), other, *experts[2:]]
        said = f"1 of 8 expert episodes .the first: {TASKS[1]}. cannot .* collect them without"
        with pytest.raises(ProsegymError, match=said):
            method.train(None, data, place, method.Config())
    assert not place.folder.exists() or not list(place.folder.iterdir())


@pytest.mark.parametrize(("method", "cloned"), [(sft, False), (rft, False), (rft, True)])
def test_cloning_warns_once_of_episodes_with_another_prompt(
    method: Any, cloned: bool, experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    """The data is a model's own, with the history cut, whose messages are whole; the other form is brief."""
    own = replace(practice(tmp_path / "own").agent, history="last:1")
    played = replace(practice(tmp_path / "own"), agent=own).play(load(scratch), [Job(TASKS[0])], "played")
    optim = Optim(1e-3, max_steps=1)
    config = sft.Config(optim) if method is sft else rft.Config(sft.Config(optim), cloned=cloned, samples=1)
    for folder, data, brief in [("a", [*experts, *played], False), ("b", [*experts, *played], True)]:
        place = practice(tmp_path / folder)
        place = replace(place, agent=replace(place.agent, brief=brief))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            method.train(load(scratch), data, place, config)
        found = [str(w.message) for w in said if "will be evaluated with its own" in str(w.message)]
        assert len(found) == brief
        assert all(f"1 of 9 episodes (the first: {TASKS[0]})" in text for text in found)


def test_hints_are_refused_where_the_data_has_none(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    place = replace(practice(tmp_path), agent=react.Config(format="bare", max_tokens=16, hints=True))
    with pytest.raises(BadOption, match="leave out --agent.hints, or give --data that an agent with hints"):
        sft.train(load(scratch), experts, place, CLONING)
    (played,) = place.play(load(scratch), [Job(TASKS[0])], "played")
    assert "You can do one of these now" in place.conversation(played)[0].content
    place.turn_by_turn([played])
    for other in (replace(place.agent, hints=False), replace(place.agent, hints=False, remind=True)):
        with pytest.raises(ProsegymError, match="cannot be set beside .* .brief, .hints, .remind"):
            replace(place, agent=other).turn_by_turn([played])
    (bare,) = practice(tmp_path / "bare").play(load(scratch), [Job(TASKS[0])], "played")
    with pytest.raises(ProsegymError, match="cannot be set beside"):
        place.turn_by_turn([bare])


def test_an_instruction_of_ones_own_is_trained_on_and_played_with(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    form = react.Config(format="bare", max_tokens=16, instruction="Open it!")
    place = replace(practice(tmp_path), agent=form)
    (played,) = place.play(load(scratch), [Job(experts[0].task_id)], "played")
    taught = place.conversation(experts[0])
    assert taught[0].content == played.messages[0].content and taught[0].content.startswith("Open it!\n\n")


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


def test_nothing_played_is_held_while_training(cloned: Path, tmp_path: Path) -> None:
    """Keys and values may take most of the memory there is; training needs it."""
    policy, place = load(cloned), practice(tmp_path)

    def held() -> int:
        layers = policy._engine._layers  # type: ignore[union-attr]
        return sum(layer.keys is not None for layer in layers)

    place.play(policy, [Job(TASKS[0])], "played")
    assert held() == 0
    place.answers(policy, [[records.Message("user", "The box is red.")]], "answered", Sampling(max_tokens=2))
    assert held() == 0
    loop = reflexion.Config(trials=2)
    place.trials(policy, reflexion.ModelReflector(policy, loop), TASKS[:1], "tried", loop)
    assert held() == 0


def test_forced_answers_come_first_and_the_model_goes_on_from_them(cloned: Path, tmp_path: Path) -> None:
    place = practice(tmp_path)
    forced = {(TASKS[0], 2): ["take blue key", "take red key"]}
    (played,) = place.play(load(cloned), [Job(TASKS[0], 2)], "f", forced=forced)
    assert played.actions[:2] == ["take blue key", "take red key"] and len(played.steps) > 2
    assert [m.content for m in played.messages if m.role == "assistant"][:2] == forced[TASKS[0], 2]


def test_forced_answers_come_in_turn_where_the_history_leaves_turns_out(cloned: Path, tmp_path: Path) -> None:
    place = practice(tmp_path)
    place = replace(place, agent=replace(place.agent, history="last:1"))
    said = ["take blue key", "take teal key", "take plum key", "take red key"]
    forced = {(TASKS[0], t): said[:t] for t in range(5)}
    for played in place.play(load(cloned), [Job(*key) for key in forced], "f", forced=forced):
        assert played.actions[: played.attempt] == said[: played.attempt]


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
    assert pairs == [[(talk(e), talk(f))] for e, f in zip(experts, failed, strict=True)]
    assert eto.versus_expert(failed, experts, place, eto.Config()) == pairs
    half = [scored(e, 0.5) for e in experts]
    assert eto.versus_expert(half, [scored(experts[0], 0.6)], place, eto.Config()) == [
        [(talk(experts[0]), talk(half[0]))]
    ]
    assert eto.versus_expert(half, [scored(experts[0], 0.5)], place, eto.Config()) == []


def test_eto_limits_how_far_a_rejected_episode_outlasts_the_expert(
    experts: Sequence[Trajectory], tmp_path: Path
) -> None:
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(TASKS[0])]))
    (((win, lose),),) = eto.versus_expert(experts, failed, practice(tmp_path), eto.Config(extra_turns=1))
    assert (len(win), len(lose)) == (4, 6) and lose[-1].role == "assistant"


def test_eto_limits_the_agents_rejected_episodes_alone(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    """construct_preference.py cuts what was explored; an expert's episode that loses stays whole."""
    place = practice(tmp_path)
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(TASKS[0])]))
    pairs = eto.versus_expert(failed, experts[:1], place, eto.Config(extra_turns=1))
    assert pairs == [[(place.conversation(experts[0]), place.conversation(failed[0]))]]


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
    assert trained(tmp_path) == ["sft", "dpo-1", "dpo-2"]
    (data,) = curve(tmp_path, "dpo-1-data")
    assert data["pairs"] + data["left_out"] > 0 and data["cut"] == 0
    seen = curve(tmp_path, "inspection")
    assert [line["states"] for line in seen] == ([] if level == "trajectory" else [16, 16])
    assert all(0 <= line["agreement"] <= 1 for line in seen)


@pytest.mark.parametrize(
    ("config", "wrong", "told"),
    [
        (eto.Config, {"iterations": 0}, "iterations must be at least 1, not 0"),
        (eto.Config, {"self_play": 1}, "at least 2, not 1"),
        (eto.Config, {"self_play": 2, "level": "step"}, "leave out level step"),
        (ipr.Config, {"iterations": 0}, "iterations"),
        (ipr.Config, {"continuations": 0}, "continuations"),
        (rft.Config, {"samples": 0}, "samples"),
        (best_of_n.Config, {"samples": 0}, "samples"),
        (stepagent.Config, {"cycles": 0}, "cycles"),
        (stepagent_inverse.Config, {"cycles": 0}, "cycles"),
        (retroformer.Config, {"rounds": 0}, "rounds"),
        (retroformer.Config, {"trials": 1}, "trials must be at least 2, not 1"),
        (retroact.Config, {"iterations": 0}, "iterations"),
    ],
)
def test_settings_that_teach_nothing_are_refused(config: Any, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        config(**wrong)


def test_eto_without_pairs_says_so(experts: Sequence[Trajectory], cloned: Path, tmp_path: Path) -> None:
    tiny = replace(CLONING, optim=Optim(learning_rate=1e-6, epochs=1, batch_size=8))
    with pytest.raises(ProsegymError, match="every exploration scored as its expert did"):
        eto.train(load(cloned), experts, practice(tmp_path), eto.Config(cloning=tiny))
    alike = "every task's explorations scored alike; use more or harder tasks, or a higher temperature"
    with pytest.raises(ProsegymError, match=alike):  # the likeliest answers twice; no expert takes part
        eto.train(load(cloned), experts, practice(tmp_path / "self"), eto.Config(self_play=2))


def test_explorations_without_an_answer_are_not_taken_for_equal_scores(
    experts: Sequence[Trajectory], cloned: Path, tmp_path: Path
) -> None:
    """A context that the first prompt fills; what is said was the mend of another fault."""
    short = load(cloned)
    short.max_context = 8
    with pytest.raises(ProsegymError, match=f"none of {len(TASKS)} explorations has an answer .* context"):
        eto.train(short, experts, practice(tmp_path / "eto"), eto.Config(cloned=True))
    with pytest.raises(ProsegymError, match="explorations has an answer"):
        ipr.train(short, experts, practice(tmp_path / "ipr"), ipr.Config(cloned=True))
    with pytest.raises(ProsegymError, match="iteration 1 has no pairs: as far as the context of 8"):
        stepagent.train(short, experts, practice(tmp_path / "step"), stepagent.Config(cloned=True))


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
    first = {p: curve(tmp_path, p)[0]["loss"] for p in ("sft", "rft")}
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
    assert [m["agreement"] for m in curve(tmp_path, "inspection")] == [1.0, 0.0]


def test_stepagent_end_to_end_agrees_more_with_the_expert(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy = load(scratch)
    optim = Optim(3e-3, epochs=30, batch_size=8, schedule="constant", warmup=0.1)
    stepagent.train(
        policy,
        experts,
        practice(tmp_path),
        stepagent.Config(HALF, cycles=2, optim=optim, imitation=1.0, temperature=0.0),
    )
    first, second = (m["agreement"] for m in curve(tmp_path, "inspection"))
    assert second > first


@pytest.mark.parametrize("method", [eto, ipr, stepagent])
def test_a_later_iteration_without_pairs_ends_the_training(
    method: Any,
    experts: Sequence[Trajectory],
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rounds_of: list[int] = []

    def prefer(policy: LocalModel, reference: Any, tasks: Any, *rest: Any) -> bool:
        rounds_of.append(rest[-2])
        if len(rounds_of) == 1:
            return True
        return contrast.prefer(policy, reference, [], *rest)

    monkeypatch.setattr(method, "prefer", prefer)
    rounds = {"cycles": 5} if method is stepagent else {"iterations": 5}
    method.train(load(scratch), experts, practice(tmp_path), method.Config(cloned=True, **rounds))
    assert rounds_of == [1, 2]
    assert "iteration 2 has no pairs" in capsys.readouterr().out
    with pytest.raises(ProsegymError, match="iteration 1 has no pairs"):
        method.train(load(scratch), experts, practice(tmp_path / "b"), method.Config(cloned=True, **rounds))


def test_stepagent_against_the_clone_keeps_one_reference(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    optim = Optim(1e-3, epochs=1, batch_size=8)
    config = stepagent.Config(HALF, cycles=2, optim=optim, reference="clone")
    stepagent.train(load(scratch), experts, practice(tmp_path), config)
    first, second = (curve(tmp_path, f"reflect-{i}")[0]["loss"] for i in (1, 2))
    assert first == pytest.approx(math.log(2), abs=1e-4)  # the reference itself
    assert second != pytest.approx(math.log(2), abs=1e-4)  # already moved away from it


def test_step_contrast_of_a_one_turn_episode_is_the_trajectory_contrast(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, talk = load(scratch), practice(tmp_path).conversation(experts[0])[:2]
    assert sft.sample(policy, only_answer(talk, 0)) == sft.sample(policy, talk)


# --- RetroAct ---


def test_a_reflectors_reward_is_the_difference_and_telescopes() -> None:
    """R = .2, .5, .4: .3 and -.1, which sum to .4 - .2. The code's form with c = 1: .3 * 1.2 = .36."""
    scores = [0.2, 0.5, 0.4]
    worth = [retroact.worth(a, b) for a, b in zip(scores, scores[1:], strict=False)]
    assert worth == pytest.approx([0.3, -0.1]) and sum(worth) == pytest.approx(0.4 - 0.2)
    assert retroact.worth(0.2, 0.5) == -retroact.worth(0.5, 0.2)
    assert retroact.worth(0.2, 0.5, c=1.0) == pytest.approx(0.36)
    with pytest.raises(BadOption, match="reward_offset divides a reward: above 0, not 0"):
        retroact.Config(reward_offset=0.0)


def test_retroact_says_why_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    for config, why in (
        (retroact.Config(), "every try broke off"),
        (retroact.Config(negatives=False), "set --negatives"),
    ):
        with pytest.raises(ProsegymError, match=f"iteration 1 has nothing to learn from: .*{why}"):
            retroact.optimise(None, None, [], [], practice(tmp_path), config, 1)  # type: ignore[arg-type]


def test_retroact_keeps_what_it_learnt_where_a_later_iteration_earns_nothing(
    experts: Sequence[Trajectory],
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    played = Practice.trials

    def trials(self: Practice, *args: Any, **kwargs: Any) -> tuple[list[Trajectory], object]:
        tries, written = played(self, *args, **kwargs)
        score = float("trials-1" in args)
        return [records.msgspec.structs.replace(t, score=score) for t in tries], written

    monkeypatch.setattr(Practice, "trials", trials)
    config = retroact.Config(HALF, RL, trials=1, iterations=3, negatives=False)
    retroact.train(load(scratch), experts[:2], practice(tmp_path), config)
    assert trained(tmp_path) == ["sft", "planner-1"]
    assert (tmp_path / "reflector" / "agent.json").exists()
    assert "iteration 2 has nothing to learn from, and the training ends" in capsys.readouterr().out


RL = Optim(1e-3, epochs=1, batch_size=4)


def win_second_tries(monkeypatch: pytest.MonkeyPatch, tasks: Sequence[str]) -> None:
    """Where expert reflections are written, second tries win at these tasks, whatever the policy does, and
    get half the score at the others."""
    played = Practice.trials

    def trials(self: Practice, *args: Any, **kwargs: Any) -> tuple[list[Trajectory], object]:
        tries, written = played(self, *args, **kwargs)
        if "teach" not in args:
            return tries, written
        return [second(t) if t.trial else t for t in tries], written

    def second(t: Trajectory) -> Trajectory:
        won = t.task_id in tasks
        return records.msgspec.structs.replace(t, score=1.0 if won else 0.5, success=won)

    monkeypatch.setattr(Practice, "trials", trials)


@pytest.mark.parametrize("roles", ["one", "two"])
def test_retroact_end_to_end(
    roles: str,
    experts: Sequence[Trajectory],
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    win_second_tries(monkeypatch, TASKS)
    config = retroact.Config(HALF, RL, trials=2, roles=roles)  # type: ignore[arg-type]
    policy = load(scratch)
    retroact.train(policy, experts, practice(tmp_path), config)
    expected = ["planner-1", "reflector-1"] if roles == "two" else ["joint-1"]
    assert trained(tmp_path) == ["sft", "sft-reflector", *expected]
    assert (tmp_path / "reflector" / "agent.json").exists() == (roles == "two")
    for role in ("planner", "reflector"):
        (line,) = curve(tmp_path, f"{role}-1-data")
        assert line["texts"] > 0 and line["left_out"] == line["cut"] == 0
    after = {n: p.clone() for n, p in policy.model.named_parameters()}
    again = load(scratch)
    retroact.train(again, experts, practice(tmp_path), config)  # every phase is read back
    assert all(torch.equal(after[n], p) for n, p in again.model.named_parameters())


def test_a_teacher_on_an_endpoint_writes_the_expert_reflections(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of our own says the same of every failure; what a success followed is learnt."""
    pytest.importorskip("openai")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say({"object": "list", "data": [{"id": "tiny", "object": "model"}]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request["messages"][0]["content"])
            said = {"role": "assistant", "content": "take the key of its colour first"}
            choice = {"index": 0, "finish_reason": "stop", "message": said}
            self.say(
                {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
            )

        def say(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    config = retroact.Config(HALF, RL, trials=2, teacher=url)
    policy, place = load(scratch), practice(tmp_path)
    reflector = twin(policy)
    helped = TASKS[1:]
    win_second_tries(monkeypatch, helped)
    examples = retroact.teach(policy, reflector, TASKS, place, config)
    server.shutdown()
    assert len(asked) == len(TASKS) and len(examples) == len(helped)
    assert "The rules" in asked[0]  # our own prompt, with the failed try
    written = [i for i, w in zip(examples[0].token_ids, examples[0].weights, strict=True) if w]
    assert policy.tokenizer.decode(written) == "take the key of its colour first<|end|>"
    first, *_, last = curve(tmp_path, "sft-reflector")
    assert last["loss"] < first["loss"] / 2


def test_retroact_says_where_the_reflector_has_nothing_to_imitate(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = load(scratch)
    weights = {k: v.clone() for k, v in policy.model.state_dict().items()}
    assert retroact.teach(policy, policy, [], practice(tmp_path), retroact.Config()) == []
    said = "the reflector is not trained, nor by rewards: the clone failed at no training task"
    assert said in capsys.readouterr().out
    assert all(torch.equal(weights[k], v) for k, v in policy.model.state_dict().items())


def test_retroact_on_policy_begins_at_ratio_one(
    experts: Sequence[Trajectory], cloned: Path, tmp_path: Path
) -> None:
    policy, place = load(cloned), practice(tmp_path)
    demonstrations = sft.samples(policy, [place.conversation(e) for e in experts])
    rows = retroact.behaved(
        policy, [(place.conversation(experts[0]), 1.0)], demonstrations, retroact.Config(), Random(0)
    )
    _, metrics = retroact.PolicyGradient(0.3, 1.0).loss(policy.model, rows)
    assert metrics["clip_share"] == 0 and metrics["reward"] == 1
    dropped = retroact.behaved(
        policy,
        [(place.conversation(experts[0]), 0.0)],
        demonstrations,
        retroact.Config(negatives=False),
        Random(0),
    )
    assert dropped == []


def test_tries_of_a_cut_phase_are_played_from_its_beginning(
    cloned: Path, scratch: Path, tmp_path: Path
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    loop = reflexion.Config(trials=2)
    scribe = notes.Scribe(policy, loop)
    tries, written = place.trials(policy, scribe, TASKS[:2], "t", loop, temperature=1.0)
    assert len(tries) == 4 and len(written) == 2
    assert tries[2].memory == [written[0].text]
    (tmp_path / "t.notes.jsonl").unlink()
    again, _ = place.trials(policy, scribe, TASKS[:2], "t", loop, temperature=1.0)
    assert [t.actions for t in again] == [t.actions for t in tries]


def test_answers_are_kept_and_not_asked_for_again(scratch: Path, tmp_path: Path) -> None:
    """Another machine would write others, and refuse to go on with what was trained on these."""
    policy, place = load(scratch), practice(tmp_path)
    states = [[records.Message("user", colour)] for colour in ("red", "blue")]
    first = place.answers(policy, states, "inspect-1", place.freely(1.0))
    assert place.answers(load(scratch), states, "inspect-1", place.freely(0.0)) == first
    assert place.answers(policy, states, "inspect-2", place.freely(1.0)) != first


def test_an_answer_without_a_token_teaches_nothing(scratch: Path) -> None:
    """A stop string from the first token on: the end that the template adds was never written."""
    talk = [records.Message("user", "red"), react.as_written(Generation(""))]
    assert load(scratch).chat.encode(talk).trainable.count(True) == 0
    assert react.as_written(Generation("open box")).token_ids is records.msgspec.UNSET


# --- Retroformer ---


def rate(score_before: float, score_after: float, experts: Sequence[Trajectory]) -> retroformer.Rated:
    prompt = [records.Message("user", "What went wrong?")]
    written = reflexion.Reflection(
        TASKS[0], 0, 0, prompt, Generation("take red key"), score_before, "take red key"
    )
    return written, scored(experts[0], score_before), scored(experts[0], score_after)


def test_ratings_are_antisymmetric(experts: Sequence[Trajectory]) -> None:
    assert retroformer.rating(rate(0.25, 0.75, experts)) == 0.5
    assert retroformer.rating(rate(0.75, 0.25, experts)) == -0.5


def test_the_reward_model_tells_good_notes_from_bad(
    scratch: Path, experts: Sequence[Trajectory], tmp_path: Path
) -> None:
    reflector, place = load(scratch), practice(tmp_path)
    good, bad = rate(0.0, 1.0, experts), rate(0.5, 0.5, experts)
    other = dataclasses.replace(bad[0], text="open box", generation=Generation("open box"))
    config = retroformer.Config(judging=Optim(5e-3, epochs=40, batch_size=2))
    model = retroformer.judge(reflector, [good, (other, *bad[1:])], place, config)
    texts = sft.samples(reflector, [noted(good[0]), noted(other)])
    is_good, is_bad = (1 / (1 + math.exp(x)) for x in retroformer.judgements(model, texts))
    assert is_good > 0.9 and is_bad < 0.1


def test_the_judge_reads_as_many_notes_of_either_kind_from_every_trial(
    scratch: Path, experts: Sequence[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad notes are collected trial by trial: the first four of eight would all be on first tries."""
    read: list[Sequence[ppo.Judged]] = []
    monkeypatch.setattr(Practice, "fit", lambda self, model, objective, items, *_: read.append(items))
    reflector, bad = load(scratch), rate(0.0, 0.0, experts)
    notes = [dataclasses.replace(bad[0], generation=Generation(f"open box {i}")) for i in range(8)]
    rated = [*([rate(0.0, 1.0, experts)] * 4), *((note, *bad[1:]) for note in notes)]
    for seed in range(3):
        place = dataclasses.replace(practice(tmp_path), seed=seed)
        retroformer.judge(reflector, rated, place, retroformer.Config())
        retroformer.judge(reflector, rated, place, retroformer.Config())
    assert all([j.good for j in items] == [True] * 4 + [False] * 4 for items in read)
    drawn = [{j.sample.token_ids for j in items[4:]} for items in read]
    assert all(len(d) == 4 for d in drawn) and drawn[::2] == drawn[1::2]  # each once, the same again
    late = {s.token_ids for s in sft.samples(reflector, [noted(note) for note in notes[4:]])}
    assert all(d & late for d in drawn)


def test_new_notes_are_drawn_and_remembered_as_those_that_were_collected(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reflector, drawn = load(scratch), []

    def generate(requests: Sequence[object], sampling: Sampling) -> list[Generation]:
        drawn.append(sampling)
        return [Generation("<think>It stayed shut.</think> take red key")] * len(requests)

    monkeypatch.setattr(reflector, "generate", generate)
    place = Practice(
        LOCKBOX, tmp_path, react.Config("react", top_p=0.5)
    )  # the actor's, which ends at a label
    writer = reflexion.ModelReflector(reflector, reflexion.Config(temperature=1.0, max_tokens=8))
    (collected,) = writer.reflect([reflexion.Failure("", experts[0])])
    config = retroformer.Config(max_tokens=8)
    (new,) = retroformer.write(reflector, [rate(0.0, 1.0, experts)], place, config, 1)
    assert drawn[0] == drawn[1] and new.text == collected.text == "take red key"


def test_a_fresh_try_remembers_as_much_as_a_collected_one(
    experts: Sequence[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reflexion keeps the last three notes; so does the try that rates a fourth one."""
    place, jobs = practice(tmp_path), []
    before = records.msgspec.structs.replace(experts[0], memory=["a", "b", "c"])
    monkeypatch.setattr(
        Practice, "play", lambda self, model, asked, *_, **__: jobs.extend(asked) or experts[:2]
    )
    new = [retroformer.New(before, text, sft.Sample((), ())) for text in ("d", "")]
    retroformer.try_out(None, new, place, retroformer.Config(), 1)  # type: ignore[arg-type]
    assert [job.memory for job in jobs] == [("b", "c", "d"), ("a", "b", "c")]


@pytest.mark.parametrize("rating", ["model", "try"])
def test_retroformer_end_to_end_leaves_the_actor_alone(
    rating: str,
    experts: Sequence[Trajectory],
    cloned: Path,
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = passes_asked_for(monkeypatch)
    quick = Optim(1e-3, epochs=1, batch_size=4, tokens=2048)
    config = retroformer.Config(quick, quick, quick, trials=2, rounds=2, rating=rating, max_tokens=8)  # type: ignore[arg-type]
    actor = load(scratch)  # fails every task, so that every task gets a note
    before = {n: p.clone() for n, p in actor.model.named_parameters()}
    retroformer.train(actor, experts, practice(tmp_path), config)
    assert all(torch.equal(before[n], p) for n, p in actor.model.named_parameters())
    reflector = load(tmp_path / "reflector")
    moved = any(not torch.equal(before[n], p) for n, p in reflector.model.named_parameters())
    assert moved == (rating == "model")  # no try of this actor earns anything: all notes are worth the same
    phases = trained(tmp_path)
    assert phases[-2:] == ["ppo-1", "ppo-2"] and ("judge" in phases) == (rating == "model")
    assert len(curve(tmp_path, "reward")) == 2
    assert asked == [2048] * (6 if rating == "model" else 4)
    for phase in ("sft-reflector", "ppo-1", *(["judge"] if rating == "model" else [])):
        (line,) = curve(tmp_path, f"{phase}-data")
        assert line["texts"] + line["left_out"] == (0 if phase == "sft-reflector" else len(TASKS))


def test_a_reflector_may_begin_as_another_model_than_the_actor(
    experts: Sequence[Trajectory], cloned: Path, scratch: Path, tmp_path: Path
) -> None:
    quick = Optim(1e-3, epochs=1, batch_size=4)
    config = retroformer.Config(
        quick, quick, quick, reflector=str(cloned), trials=2, rounds=1, rating="try", max_tokens=8
    )
    retroformer.train(load(scratch), experts, practice(tmp_path), config)
    # No try of this actor earns anything: all notes are worth the same, so it stays what it began as.
    begun, ended = (dict(load(x).model.named_parameters()) for x in (cloned, tmp_path / "reflector"))
    assert all(torch.equal(begun[name], ended[name]) for name in begun)
    with pytest.raises(BadOption, match="has no reflector of its own"):
        retroact.Config(reflector=str(cloned), roles="one")
    with pytest.raises(BadOption, match="is an endpoint; only a local model can be trained"):
        retroact.train(
            load(scratch), experts, practice(tmp_path), retroact.Config(reflector="http://127.0.0.1:9/v1")
        )


def test_retroformer_without_failures_says_so(
    experts: Sequence[Trajectory], cloned: Path, tmp_path: Path
) -> None:
    config = retroformer.Config(trials=2, temperature=0.0)
    with pytest.raises(ProsegymError, match="no task was failed"):
        retroformer.train(load(cloned), experts, practice(tmp_path), config)


def test_retroformer_says_what_broke_every_second_try_off(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    """The account of the try fills the reflector's context: no note is written."""
    short = load(scratch)
    short.max_context = 64
    place = practice(tmp_path)
    config = retroformer.Config(trials=2)
    with pytest.raises(ProsegymError, match="no note can be rated: tries broke off .*transcript_tokens"):
        retroformer.collect(load(scratch), short, experts, place, config)


# --- IPR ---


def test_ipr_with_whole_episodes_alone_is_eto(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    """t = 0, thresholds 0: the pairs are ETO's, whichever side is the better one."""
    place = practice(tmp_path)
    failed = list(rollout(lambda: make_env(LOCKBOX), Null(), [Job(t) for t in TASKS]))
    best = {e.task_id: e for e in experts}
    tried = {(f.task_id, 0): f for f in failed}
    wholes = ipr.pair(best, tried, {}, place, ipr.Config(tau=0, outcome=0))
    assert list(wholes.values()) == eto.versus_expert(experts, failed, place, eto.Config())
    worse = {f.task_id: f for f in failed}
    assert ipr.pair(worse, {(e.task_id, 0): e for e in experts}, {}, place, ipr.Config()) == wholes


def test_ipr_pairs_where_step_reward_and_outcome_agree(experts: Sequence[Trajectory], tmp_path: Path) -> None:
    place, config = practice(tmp_path), ipr.Config(tau=0.5)
    (failed,) = rollout(lambda: make_env(LOCKBOX), Null(), [Job(TASKS[0])])
    best, tried = {TASKS[0]: experts[0]}, {(TASKS[0], 1): failed}
    for rewards, count in [((1.0, 0.4), 1), ((1.0, 0.5), 0), ((0.0, 1.0), 0)]:
        found = ipr.pair(best, tried, {(TASKS[0], 1): rewards}, place, config)
        assert len(found[TASKS[0]]) == count
    found = ipr.pair(best, tried, {(TASKS[0], 1): (1.0, 0.0)}, place, config)
    win, _ = found[TASKS[0]][0]
    assert [m.trainable for m in win if m.role == "assistant"] == [False, True]


def test_iprs_defaults_are_those_of_its_script() -> None:
    """run_pipeline.sh: batch 48 twice; cosine after 3 % in cloning, constant after 10 % in refinement."""
    config = ipr.Config()
    told = [
        (o.learning_rate, o.epochs, o.batch_size, o.schedule, o.warmup)
        for o in (config.cloning.optim, config.optim)
    ]
    assert told == [(2e-5, 3, 48, "cosine", 0.03), (3e-6, 3, 48, "constant", 0.1)]


def test_ipr_end_to_end(experts: Sequence[Trajectory], scratch: Path, tmp_path: Path) -> None:
    optim = Optim(1e-3, epochs=1, batch_size=8)
    config = ipr.Config(HALF, iterations=1, optim=optim, continuations=2)
    policy = load(scratch)
    ipr.train(policy, experts[:4], practice(tmp_path), config)
    assert trained(tmp_path) == ["sft", "refine-1"]
    for t in records.read(tmp_path / "go-on-1.jsonl"):
        expert = next(e for e in experts if e.task_id == t.task_id)
        assert t.actions[: t.attempt] == expert.actions[: t.attempt]


def test_step_rewards_are_means_of_the_scorers_continuations(
    experts: Sequence[Trajectory], cloned: Path, tmp_path: Path
) -> None:
    """After the right key the clone opens the box (1); after the wrong key it opens and it stays shut (0)."""
    place = practice(tmp_path)
    wrong = list(
        rollout(
            lambda: make_env(LOCKBOX),
            Scripted({TASKS[0]: ["take blue key"] + ["open box"] * 5}),
            [Job(TASKS[0])],
        )
    )
    best, tried = {TASKS[0]: experts[0]}, {(TASKS[0], 0): wrong[0]}
    rewards = ipr.step_rewards(load(cloned), best, tried, place, ipr.Config(continuations=4), 1)
    expert, agent = rewards[TASKS[0], 0]
    assert expert >= 0.75 and agent <= 0.25


def test_a_crash_rates_nothing(
    experts: Sequence[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, replaced = practice(tmp_path), records.msgspec.structs.replace
    crash = replaced(experts[0], score=0.0, ended="error", trial=1)
    item = rate(0.5, 0.0, experts)
    assert ratings([item[1], replaced(crash, ended="terminated")], [item[0]]) != []
    assert ratings([item[1], crash], [item[0]]) == []
    played = [crash, experts[0], experts[0], crash]
    monkeypatch.setattr(Practice, "play", lambda self, model, jobs, *_, **__: played[: len(jobs)])
    new = retroformer.New(item[1], "take red key", sft.Sample((), ()))
    assert retroformer.try_out(None, [new] * 2, place, retroformer.Config(), 1) == [0.0, 0.5]  # type: ignore[arg-type]
    (failed,) = rollout(lambda: make_env(LOCKBOX), Null(), [Job(TASKS[0])])
    best, tried = {TASKS[0]: experts[0]}, {(TASKS[0], 0): failed}
    config = ipr.Config(continuations=2)
    assert ipr.step_rewards(None, best, tried, place, config, 1) == {(TASKS[0], 0): (1.0, 1.0)}  # type: ignore[arg-type]
    played[1] = crash
    assert ipr.step_rewards(None, best, tried, place, config, 1) == {}  # type: ignore[arg-type]


# --- StepAgent, inverse ---


def test_the_discriminator_rewards_what_looks_like_the_expert(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    config = stepagent_inverse.Config(discriminator=Optim(5e-3, epochs=15, batch_size=8))
    expert, agent = stepagent_inverse.inspect(policy, experts, place, config, 1)
    assert len(expert) == len(agent) == 16
    discriminator = stepagent_inverse.Headed(twin(policy).model)
    stepagent_inverse.tell_apart(discriminator, expert, agent, place, config, 1)
    theirs = stepagent_inverse.reward(discriminator, expert, place, config, 1)
    mine = stepagent_inverse.reward(discriminator, agent, place, config, 2)
    assert min(theirs) > max(mine) >= 0


def test_stepagent_inverse_end_to_end(experts: Sequence[Trajectory], scratch: Path, tmp_path: Path) -> None:
    quick = Optim(1e-3, epochs=1, batch_size=8)
    config = stepagent_inverse.Config(HALF, cycles=2, discriminator=quick, optim=quick)
    policy = load(scratch)
    stepagent_inverse.train(policy, experts, practice(tmp_path), config)
    assert trained(tmp_path) == ["sft", "discriminator-1", "ppo-1", "discriminator-2", "ppo-2"]
    assert [line["states"] for line in curve(tmp_path, "inspection")] == [16, 16]
    counted = [curve(tmp_path, f"{phase}-1-data")[0] for phase in ("discriminator", "ppo")]
    assert [x["texts"] + x["left_out"] for x in counted] == [32, 16]
    first, second = (curve(tmp_path, f"ppo-{i}-reference")[0]["kl"] for i in (1, 2))
    assert first == pytest.approx(0, abs=1e-6) and abs(second) > 1e-5  # the reference is the clone


# --- what all share ---


def passes_asked_for(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """A list that gets the tokens of one pass whenever texts are scored."""
    asked: list[int | None] = []
    cut = batch.cut
    monkeypatch.setattr(batch, "cut", lambda m, s, tokens: asked.append(tokens) or cut(m, s, tokens))
    return asked


def test_texts_are_scored_in_passes_of_the_size_that_was_asked_for(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, place, asked = load(scratch), practice(tmp_path), passes_asked_for(monkeypatch)
    talks = [place.conversation(e) for e in experts]
    texts = sft.samples(policy, talks)
    small = Optim(1e-4, epochs=1, batch_size=8, tokens=64)
    retroact.behaved(policy, [(talks[0], 1.0)], texts, retroact.Config(optim=small), Random(0))
    critic, config = ppo.Headed(policy.model), stepagent_inverse.Config(discriminator=small)
    stepagent_inverse.reward(critic, texts, place, config, 1)
    ppo.improve(critic, texts, [1.0] * 8, policy.model, place, ppo.Settings(), small, "ppo-1")
    assert asked == [64] * 4


def test_a_twin_answers_as_its_model_does_within_the_same_bounds(scratch: Path) -> None:
    given = load(scratch)
    policy = LocalModel(
        given.model,
        given.tokenizer,
        max_context=99,
        max_batch=3,
        cache_gb=0.3,
        static_shapes=True,
        draft=False,
    )
    other = twin(policy)
    for what in ("max_context", "max_batch", "cache_bytes", "static_shapes", "draft"):
        assert getattr(other, what) == getattr(policy, what), what


def test_a_twin_shares_what_is_frozen_and_keeps_what_was_trained(scratch: Path) -> None:
    """With an adapter, a reference is a second adapter: no weight of the base is held twice."""
    policy = load(scratch)
    add_adapter(policy, Lora(rank=4))
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.normal_()  # an adapter that was trained: disabling it would be another model
    sample = sft.Sample((20, 21, 22, 23), (0.0, 1.0, 1.0, 1.0))
    before = token_scores(policy.model, [sample])
    reference = twin(policy)
    own = dict(policy.model.named_parameters())
    for name, p in reference.model.named_parameters():
        assert (p.data_ptr() == own[name].data_ptr()) == ("lora" not in name)
    with torch.no_grad():
        for name, p in own.items():
            if "lora" in name:
                p.add_(0.5)
    assert token_scores(reference.model, [sample]) == before != token_scores(policy.model, [sample])
    assert token_scores(policy.model, [sample]) == token_scores(policy.model, [sample])


def test_eto_with_an_adapter_starts_each_iteration_at_its_own_reference(
    experts: Sequence[Trajectory], cloned: Path, scratch: Path, tmp_path: Path
) -> None:
    policy = load(scratch)
    add_adapter(policy, Lora(rank=4, dropout=0.5))
    base = {n: p.clone() for n, p in policy.model.named_parameters() if "lora" not in n}
    config = eto.Config(replace(CLONING, optim=replace(CLONING.optim, epochs=2)), optim=DPO, later_rate=1e-3)
    eto.train(policy, experts, practice(tmp_path), config)
    for i in (1, 2):
        assert curve(tmp_path, f"dpo-{i}")[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert all(torch.equal(base[n], p) for n, p in policy.model.named_parameters() if n in base)


def test_a_reference_and_what_a_policy_gave_have_the_precision_of_training(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step there is no margin and every ratio is 1, in mixed precision, too."""
    monkeypatch.setattr(Accelerator, "autocast", lambda self: torch.autocast("cpu", torch.bfloat16))
    still = Optim(1e-9, batch_size=8, schedule="constant", warmup=0.0)
    a, b = (practice(tmp_path).conversation(e) for e in experts[:2])
    policy, place = load(scratch), practice(tmp_path / "dpo")
    assert contrast.prefer(policy, policy.model, [[(a, b)]], Preference(1.0), place, still, "dpo", 1, NONE)
    assert curve(tmp_path / "dpo")[0]["margin"] == pytest.approx(0, abs=1e-5)
    words = retroformer.Config(still, still, still, trials=2, rounds=1, rating="try", max_tokens=8)
    retroformer.train(policy, experts, practice(tmp_path / "words"), words)
    steps = stepagent_inverse.Config(cloned=True, cycles=1, discriminator=still, optim=still)
    stepagent_inverse.train(policy, experts, practice(tmp_path / "steps"), steps)
    for folder in ("words", "steps"):
        assert curve(tmp_path / folder, "ppo-1")[0]["kl_from_old"] == pytest.approx(0, abs=2e-6)
    both = retroact.Config(sft.Config(still), still, trials=2, clip=1e-4)
    win_second_tries(monkeypatch, TASKS)
    retroact.train(policy, experts, practice(tmp_path / "both"), both)
    for phase in ("planner-1", "reflector-1"):
        assert curve(tmp_path / "both", phase)[0]["clip_share"] < 0.05  # other batches round otherwise


def test_episodes_that_do_not_fit_are_counted_and_said(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    lengths = [len(s.token_ids) for s in sft.samples(policy, [place.conversation(e) for e in experts])]
    config = replace(CLONING, optim=replace(CLONING.optim, epochs=1), longest=max(lengths) - 1)
    sft.train(policy, experts, place, config)
    cut = sum(n == max(lengths) for n in lengths)
    assert curve(tmp_path, "sft-data") == [
        {"phase": "sft-data", "step": 1, "texts": 8, "left_out": 0, "cut": cut}
    ]
    assert f"sft: {cut} of 8 texts are cut after the last answer that fits" in capsys.readouterr().out


def test_episodes_broken_off_by_a_full_context_are_counted(scratch: Path, tmp_path: Path) -> None:
    policy, place = load(scratch), practice(tmp_path)
    policy.max_context = 120
    place.play(policy, [Job(t) for t in TASKS], "explore")
    (line,) = curve(tmp_path, "explore-played")
    assert line["context"] == line["episodes"] == 8


def test_pairs_whose_sides_are_the_same_or_too_long_are_left_out(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    a, b = (place.conversation(e) for e in experts[:2])
    optim = Optim(1e-4, batch_size=2)

    def prefer(pairs: list[list[contrast.Contrast]], phase: str, i: int) -> bool:
        return contrast.prefer(policy, policy.model, pairs, Preference(0.1), place, optim, phase, i, NONE)

    said = "the two texts of each of 1 are the same or have no answer"
    with pytest.raises(ProsegymError, match=f"iteration 1 has no pairs: .* {said}; use a longer context"):
        prefer([[(a, a)]], "same", 1)
    assert curve(tmp_path, "same-1-data")[0]["left_out"] == 1
    with pytest.raises(ProsegymError, match="iteration 1 has no pairs: nothing differs; wait"):
        prefer([], "none", 1)
    assert prefer([[(a, b)], [(b, b)]], "one", 1)
    assert curve(tmp_path, "one-1-data")[0]["pairs"] == 1
    capsys.readouterr()
    assert not prefer([[(a, a)]], "same", 2)  # what the first iteration taught is not lost
    assert f"{said}; the training ends here" in capsys.readouterr().out


def test_the_pairs_of_a_task_are_one_item_and_a_batch_counts_pairs(
    experts: Sequence[Trajectory], scratch: Path, tmp_path: Path
) -> None:
    policy, place = load(scratch), practice(tmp_path)
    a, b = (place.conversation(e) for e in experts[:2])
    contrast.prefer(
        policy,
        policy.model,
        [[(a, b)] * 4, [(b, a)] * 4],
        Preference(0.1),
        place,
        Optim(1e-4, batch_size=4),
        "p",
        1,
        NONE,
    )
    assert [m["pairs"] for m in curve(tmp_path, "p-1")] == [4, 4]
    pairs = [Pair(sft.sample(policy, a), sft.sample(policy, b))] * 4  # type: ignore[arg-type]
    win, lose = len(pairs[0].win.token_ids), len(pairs[0].lose.token_ids)
    assert len(contrast._bundles(pairs, win + 4 * lose, shared=True)) == 1
    assert [len(x) for x in contrast._bundles(pairs, 2 * (win + lose), shared=False)] == [2, 2]
