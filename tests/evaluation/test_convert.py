"""Round trips through the real libraries, skipped visibly where one is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from prosegym.cli import main
from prosegym.envs import trajectory as records
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation import agents, convert
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    def play(agent: agents.Agent) -> list[Trajectory]:
        jobs = [Job("train/red"), Job("valid/grün"), Job("train/teal")]
        return list(rollout(lambda: make_env("prosegym/Lockbox-v1"), agent, jobs))

    return play(agents.ExpertAgent()) + play(agents.RandomAdmissible())


@pytest.fixture
def file(played: list[Trajectory], tmp_path: Path) -> Path:
    records.write(tmp_path / "t.jsonl", played)
    return tmp_path / "t.jsonl"


def rows(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_conversation_of_an_episode_without_one(played: list[Trajectory]) -> None:
    found = convert.messages(played[0])
    assert [m.role for m in found] == ["user", "assistant"] * 2
    assert found[0].content.endswith("\n\nThe box is red.") and found[1].content == "take red key"
    assert [m.trainable for m in found] == [False, True, False, True]
    own = [Message("user", "hello"), Message("assistant", "hi", True)]
    assert convert.messages(msgspec.structs.replace(played[0], messages=own)) == own


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("prosegym/Household-v1", {}, "move OBJECT to"),
        ("prosegym/Household-v1", {"dialect": "put"}, "put OBJECT in/on"),
        ("prosegym/MiniWiki-v1", {}, " search["),
        ("prosegym/MiniWiki-v1", {"variant": "retroact"}, " Search["),
    ],
)
def test_the_first_message_tells_what_that_environment_told(
    env_id: str, kwargs: dict[str, str], words: str
) -> None:
    env = make_env(env_id, **kwargs)
    job = Job(env.unwrapped.tasks("valid")[0].id)  # type: ignore[attr-defined]
    (episode,) = rollout(lambda: make_env(env_id, **kwargs), agents.ExpertAgent(), [job], env_kwargs=kwargs)
    first = convert.messages(episode)[0].content
    assert first == f"{env.unwrapped.instruction}\n\n{episode.steps[0].observation}"  # type: ignore[attr-defined]
    assert words in first


def test_sharegpt_round_trip_keeps_roles_texts_and_loss(played: list[Trajectory]) -> None:
    mixed = [
        Message("system", "s"),
        Message("user", "ü"),
        Message("assistant", "example"),
        Message("assistant", "a", True),
    ]
    t = msgspec.structs.replace(played[0], messages=mixed)
    (row,) = convert.sharegpt([t])
    assert convert.from_sharegpt(json.loads(json.dumps(row))) == mixed
    published = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    assert convert.from_sharegpt(published) == [Message("user", "q"), Message("assistant", "a", True)]
    with pytest.raises(ProsegymError, match=r"conversations\[1\]"):
        convert.from_sharegpt(
            {"conversations": [{"from": "human", "value": "q"}, {"from": "bot", "value": "a"}]}
        )


def test_a_conversation_ends_with_its_last_answer(played: list[Trajectory]) -> None:
    """Where the model's context was full, the last observation stands behind it and was not answered."""
    talk = [Message("user", "a"), Message("assistant", "b", True), Message("user", "c")]
    other = [talk[0], Message("assistant", "d", True), *talk[2:], Message("assistant", "e", True)]
    stopped = msgspec.structs.replace(
        played[0], messages=talk, ended="truncated", error="context overflow", score=0.0
    )
    best = msgspec.structs.replace(played[0], messages=other)
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for to in (convert.openai, convert.trl):
        assert list(to([stopped])) == [{"messages": said}]
    assert convert.from_sharegpt(next(convert.sharegpt([stopped]))) == talk[:2]
    (pair,) = convert.preferences([stopped, best])
    assert pair["rejected"] == said[1:] and pair["chosen"][-1]["content"] == "e"
    assert convert.messages(best) == other


def test_openai_does_not_train_on_the_answers_of_examples(played: list[Trajectory]) -> None:
    talk = [Message("system", "s"), Message("user", "a"), Message("assistant", "shown"),
            Message("user", "b"), Message("assistant", "own", True)]  # fmt: skip

    def weights(made: list[Message]) -> list[int | None]:
        (row,) = convert.openai([msgspec.structs.replace(played[0], messages=made)])
        return [message.get("weight") for message in row["messages"]]

    assert weights(talk) == [None, None, 0, None, None]
    assert weights(talk[:4]) == [None] * 3  # which answers are the agent's own is not said
    (row,) = convert.trl([msgspec.structs.replace(played[0], messages=talk)])
    assert all(message.keys() == {"role", "content"} for message in row["messages"])


def test_a_run_is_converted_by_its_folder_and_nothing_is_no_file(
    played: list[Trajectory], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out.jsonl"
    run.mkdir()
    records.write(run / "episodes.jsonl", played)
    assert convert.convert([run], "trl", str(out)) == len(rows(out)) > 0
    alike = [msgspec.structs.replace(t, score=0.0) for t in played]
    records.write(run / "episodes.jsonl", alike)
    with pytest.raises(ProsegymError, match="no pairs: no task has two episodes.*score differently"):
        convert.convert([run], "trl-preference", str(tmp_path / "none.jsonl"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.jsonl"]


def test_a_json_file_is_one_list(file: Path, tmp_path: Path) -> None:
    """As FastChat's `json.load` reads it; any other name has a row on each line."""
    for to in convert.JSON_LINES:
        listed, lines = tmp_path / f"{to}.json", tmp_path / f"{to}.jsonl"
        count = convert.convert([file], to, str(listed))
        assert convert.convert([file], to, str(lines)) == count > 1
        assert json.loads(listed.read_text()) == rows(lines)


def test_hugging_face_datasets_read_every_json_lines_format(file: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for to in convert.JSON_LINES:
        out = tmp_path / f"{to}.jsonl"
        assert main(["convert", str(file), "--to", to, "--out", str(out)]) == 0
        loaded = datasets.load_dataset(
            "json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert loaded.to_list() == rows(out)


def test_trl_knows_the_columns(file: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    convert.convert([file], "trl", str(tmp_path / "m.jsonl"))
    convert.convert([file], "trl-preference", str(tmp_path / "p.jsonl"))
    (first, *_), pairs = rows(tmp_path / "m.jsonl"), rows(tmp_path / "p.jsonl")
    assert trl.is_conversational(first) and all(trl.is_conversational(pair) for pair in pairs)


def test_preferences_pair_the_best_with_the_worse(played: list[Trajectory]) -> None:
    pairs = list(convert.preferences(played))
    worse = [t for t in played[3:] if t.score < 1.0]
    assert len(pairs) == len(worse) > 0
    for pair, loser in zip(pairs, worse, strict=True):
        assert [m["content"] for m in pair["chosen"] if m["role"] == "assistant"][-1] == "open box"
        assert [m["content"] for m in pair["rejected"] if m["role"] == "assistant"] == loser.actions


def test_a_preference_begins_after_the_examples(played: list[Trajectory]) -> None:
    told = [Message("user", "shown"), Message("assistant", "an example's"), Message("user", "task")]
    won, lost = (
        msgspec.structs.replace(t, messages=[*told, Message("assistant", said, True)], score=score)
        for t, said, score in ((played[0], "right", 1.0), (played[0], "wrong", 0.0))
    )
    (pair,) = convert.preferences([won, lost])
    assert [m["content"] for m in pair["prompt"]] == ["shown", "an example's", "task"]
    assert [m["content"] for m in pair["chosen"] + pair["rejected"]] == ["right", "wrong"]
    other = msgspec.structs.replace(lost, messages=[Message("user", "another example"), *lost.messages[1:]])
    assert list(convert.preferences([won, other])) == []


def test_minari_round_trip(
    file: Path, played: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert main(["convert", str(file), "--to", "minari", "--out", "lockbox/expert-v0"]) == 0
    with pytest.raises(ProsegymError, match="lockbox/expert-v0 exists already; choose another --out"):
        convert.to_minari(played, "lockbox/expert-v0")
    dataset = minari.load_dataset("lockbox/expert-v0")
    assert dataset.total_episodes == 6
    for episode, t in zip(dataset.iterate_episodes(), played, strict=True):
        assert list(episode.actions) == t.actions
        assert list(episode.observations) == [*(s.observation for s in t.steps), t.final_observation]
        assert list(episode.rewards) == [s.reward for s in t.steps]
        assert bool(episode.terminations[-1]) == (t.ended == "terminated") != bool(episode.truncations[-1])
        assert list(episode.infos["progress"][1:]) == [s.progress for s in t.steps]


def test_minaris_spaces_hold_every_text(
    played: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    said = ["", "naïve 日本 🙂\n", "x" * 70_000]
    steps = [msgspec.structs.replace(played[0].steps[0], observation=text, action=text) for text in said]
    convert.to_minari([played[1], msgspec.structs.replace(played[0], steps=steps)], "lockbox/odd-v0")
    dataset = minari.load_dataset("lockbox/odd-v0")
    for episode in dataset.iterate_episodes():
        assert all(text in dataset.observation_space for text in episode.observations)
        assert all(text in dataset.action_space for text in episode.actions)
    convert.to_minari(played[:3], "lockbox/one-v0")
    convert.to_minari(played[3:], "lockbox/two-v0")
    one, two = (minari.load_dataset(f"lockbox/{name}-v0") for name in ("one", "two"))
    assert one.observation_space == two.observation_space and one.action_space == two.action_space


def test_a_stop_leaves_no_part_of_a_minari_dataset(
    played: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(minari.dataset.minari_storage.MinariStorage, "update_metadata", stopped)
        with pytest.raises(KeyboardInterrupt):
            convert.to_minari(played, "lockbox/expert-v0")
    assert convert.to_minari(played, "lockbox/expert-v0") == 6


def test_an_episode_without_a_turn_is_left_out(
    played: list[Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL has no template for no message, and Minari cannot read a dataset that holds an empty episode."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    failed = msgspec.structs.replace(played[0], steps=[], ended="error", error="the engine died", score=0.0)
    records.write(tmp_path / "t.jsonl", [played[0], failed])
    for to in ("openai", "sharegpt"):
        assert convert.convert([tmp_path / "t.jsonl"], to, str(tmp_path / "out.jsonl")) == 1
        assert len(rows(tmp_path / "out.jsonl")) == 1
    assert convert.convert([tmp_path / "t.jsonl"], "minari", "lockbox/failed-v0") == 1
    (episode,) = minari.load_dataset("lockbox/failed-v0").iterate_episodes()
    assert list(episode.actions) == played[0].actions


def test_what_cannot_be_written_is_one_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    before = set(tmp_path.iterdir())
    for out in (tmp_path / "folder", file / "x", "."):
        assert main(["convert", str(file), "--to", "openai", "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"prosegym: cannot write {out}: ") and said.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_what_is_converted_is_not_written_over(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    monkeypatch.chdir(file.parent)
    (tmp_path / "link").symlink_to(file)
    for out in (str(file), file.name, str(tmp_path / "link")):
        assert main(["convert", str(file), "--to", "sharegpt", "--out", out]) == 1
        assert "would be lost; choose another --out" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_an_id_that_minari_would_not_take(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("minari")
    for out in ("expert.jsonl", "lockbox/expert"):
        assert main(["convert", str(file), "--to", "minari", "--out", out]) == 1
        assert "give --out namespace/name-v0" in capsys.readouterr().err


def test_unknown_format_and_mixed_environments(
    file: Path, played: list[Trajectory], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(file), "--to", "sharegtp", "--out", "x"]) == 1
    assert "nearest: sharegpt" in capsys.readouterr().err
    with pytest.raises(ProsegymError, match="one environment"):
        convert.to_minari(
            [played[0], msgspec.structs.replace(played[1], env_id="prosegym/Other-v1")], "a/b-v0"
        )
    shorter = msgspec.structs.replace(played[0], env_kwargs={"max_steps": 7})
    for mixed in ([played[1], shorter], [shorter, played[1]]):
        with pytest.raises(ProsegymError, match="one environment, not one made with .*max_steps"):
            convert.to_minari(mixed, "a/b-v0")
    with pytest.raises(ProsegymError, match="unknown environment 'prosegym/Other-v1'"):
        convert.to_minari([msgspec.structs.replace(played[1], env_id="prosegym/Other-v1")], "a/b-v0")
