"""The environments of the official sets, on the shared selection and on small ones made here."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import pytest

from prosegym.envs import data, panels
from prosegym.envs.errors import BadOption, CorruptData, UnknownName
from prosegym.envs.questions import corpus as corpora
from prosegym.envs.questions.data import open_split, read_manifest
from prosegym.envs.questions.metrics import normalize
from prosegym.envs.questions.panels import REFLEXION_ROWS, react500
from prosegym.envs.questions.variants import VARIANTS
from prosegym.evaluation.replay import settled_otherwise

SETS = {"HotpotQA": "hotpotqa", "2WikiMultihopQA": "2wikimultihopqa", "MuSiQue": "musique"}


def make(name: str, **arguments: Any) -> Any:
    return gymnasium.make(f"prosegym/{name}-v1", **arguments).unwrapped


def question(question_id: str, answer: str = "Ann Lee", **more: Any) -> dict[str, Any]:
    return {
        "id": question_id,
        "question": f"Who lives in {question_id}?",
        "answers": [answer],
        "supporting": ["Home", question_id],
        "paragraphs": [
            {"title": "Home", "text": f"Home is where {answer} lives."},
            {"title": question_id, "text": f"{question_id} is a house. It is old."},
            {"title": "Far", "text": "Far away."},
        ],
    } | more


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six own questions, installed as HotpotQA and as MuSiQue."""
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    records = [question(f"House {i}") for i in range(4)]
    records += [question("Closed", "yes"), question("Aliased", answers=["Ann Lee", "Annie"])]
    path = tmp_path / "train_questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for name in ("hotpotqa", "musique"):
        data.dataset(name).get(path)
    return tmp_path


def ask(env: Any, task_id: str, *actions: str) -> list[Any]:
    env.reset(options={"task_id": task_id})
    return [env.step(action) for action in actions]


def test_a_right_answer_of_articles_alone_has_full_f1(small: Path) -> None:
    # HotpotQA's script gives it F1 = 0, with EM = 1: a success with no reward.
    env = make("HotpotQA", metric="f1")
    env.reset(options={"task_id": "House 1"})
    env._question = msgspec.structs.replace(env._question, answers=("The The",))
    _, reward, *_, info = env.step("finish[the, the]")
    assert reward == 1.0 and info["success"]


def test_an_episode_of_each_variant(small: Path) -> None:
    for variant, prefix, verdict in [
        ("react", "finish", "Episode finished, reward = 1\n"),
        ("reflexion", "Finish", "Answer is CORRECT"),
        ("retroact", "Finish", "Answer is CORRECT"),
    ]:
        env = make("HotpotQA", variant=variant)
        assert env.reset(options={"task_id": "House 1"})[0] == "Question: Who lives in House 1?"
        search = "search" if variant == "react" else "Search"
        shown = env.step(f"{search}[Home]")
        assert "Home is where Ann Lee lives." in shown[0] and shown[4]["progress"] == 0.5
        assert env.step(f"{search}[Far]")[4]["progress"] == 0.5
        assert env.step(f"{search}[house 1]")[4]["progress"] == 1.0
        observation, reward, terminated, truncated, info = env.step(f"{prefix}[the Ann LEE.]")
        assert (observation, reward, terminated, truncated) == (verdict, 1.0, True, False)
        assert info["success"] and info["score"] == 1.0


@pytest.mark.parametrize(("variant", "steps"), [("react", 7), ("reflexion", 6), ("retroact", 5)])
def test_episodes_are_cut_off_after_the_published_number_of_steps(
    small: Path, variant: str, steps: int
) -> None:
    env = make("HotpotQA", variant=variant)
    ended = [step[2:4] for step in ask(env, "House 1", *["nonsense"] * steps)]
    assert ended == [(False, False)] * (steps - 1) + [(False, True)]
    assert make("HotpotQA", variant=variant, max_steps=3).max_steps == 3


def test_the_reward_is_the_declared_metric(small: Path) -> None:
    # {ann lee} of {ann lee smith}: P = 2/3, R = 1, F1 = 0.8
    for variant, metric, reward in [
        ("react", None, 0.0), ("react", "f1", 0.8), ("reflexion", "f1", 0.8), ("retroact", None, 0.8),
        ("retroact", "em", 0.0),
    ]:  # fmt: skip
        env = make("HotpotQA", variant=variant, metric=metric)
        step = ask(env, "House 1", env._variant.finish("Ann Lee Smith"))[0]
        assert step[1] == pytest.approx(reward) == step[4]["score"]
        assert not step[4]["success"] and step[4]["progress"] == 0.0 and step[2]
    assert ask(make("HotpotQA", metric="f1"), "House 1", "finish[Ann Lee Smith]")[0][0] == (
        "Episode finished, reward = 0.8\n"
    )


def test_words_in_another_order_are_no_success(small: Path) -> None:
    step = ask(make("HotpotQA", metric="f1"), "House 1", "finish[Lee Ann]")[0]
    assert step[1] == 1.0 and not step[4]["success"]


def test_yes_matches_as_a_whole_but_in_musique(small: Path) -> None:
    assert ask(make("HotpotQA", metric="f1"), "Closed", "finish[yes sir]")[0][1] == 0.0
    assert ask(make("MuSiQue", metric="f1"), "Closed", "finish[yes sir]")[0][1] == pytest.approx(2 / 3)


def test_aliases_are_right(small: Path) -> None:
    assert ask(make("HotpotQA"), "Aliased", "finish[annie]")[0][4]["success"]


def test_no_answer_scores_nothing(small: Path) -> None:
    for answer in ("finish[]", "finish[ ]", "finish[the]"):
        step = ask(make("HotpotQA", metric="f1"), "House 1", answer)[0]
        assert step[1] == 0.0 and step[2]


def test_what_cannot_be_read_is_answered_in_the_variants_words(small: Path) -> None:
    for variant, words in [
        ("react", "Invalid action"),
        ("reflexion", "Invalid Action"),
        ("retroact", "Invalid"),
    ]:
        for action in ("a\x00b", "\ud800", "x" * 100_000, "dance"):
            step = ask(make("HotpotQA", variant=variant), "House 1", action)[0]
            assert step[0].startswith(words) and step[4]["invalid_action"]


def test_the_instruction_tells_the_variants_actions(small: Path) -> None:
    for variant in VARIANTS:
        env = make("HotpotQA", variant=variant)
        assert env._variant.search("entity") in env.instruction
        assert ("ookup[" in env.instruction) == (variant != "retroact")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"variant": "ReAct"}, UnknownName, "variant.*react"),
        ({"metric": "bleu"}, UnknownName, "metric.*em"),
        ({"corpus": "no/such/file"}, BadOption, "no corpus"),
        ({"corpus": "."}, BadOption, "no corpus"),
        ({"corpus": "live", "corpus_sha256": "0" * 64}, BadOption, "corpus_sha256"),
        ({"corpus_sha256": "0" * 64}, BadOption, "corpus_sha256"),
    ],
)
def test_wrong_arguments(small: Path, arguments: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        make("HotpotQA", **arguments)


def test_a_missing_question_says_how_many_are_there_and_how_to_get_all(small: Path) -> None:
    with pytest.raises(UnknownName, match=r"6 installed.*prosegym data get hotpotqa.*'House 9'.*House"):
        make("HotpotQA").task("House 9")
    with pytest.raises(UnknownName, match="installed"):
        panels.tasks_of(panels.load("HotpotQA-v1/dev"), make("HotpotQA"))


def test_the_corpus_of_a_split(small: Path) -> None:
    env = make("HotpotQA", corpus="split")
    steps = ask(env, "House 1", "search[House 3]", "search[house old 2]")
    assert steps[0][0] == "House 3 is a house. It is old.." and steps[0][4]["progress"] == 0.0
    assert steps[1][0].startswith("Could not find house old 2. Similar: ['House 2', 'House ")
    assert ask(make("HotpotQA"), "House 1", "search[House 3]")[0][0].startswith("Could not find")


def test_the_digest_of_a_splits_corpus_is_of_what_is_searched(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(**houses: int) -> None:
        shutil.rmtree(small / "given", ignore_errors=True)
        (small / "given").mkdir()
        for split, count in houses.items():
            lines = [json.dumps(question(f"{split} {i}")) + "\n" for i in range(count)]
            (small / "given" / f"hotpotqa_{split}.jsonl").write_text("".join(lines))
        data.dataset("hotpotqa").get(small / "given")

    install(train=2, dev=3)
    with monkeypatch.context() as patch:
        patch.setattr(corpora, "build", None)  # is not needed to know it
        known = make("HotpotQA", corpus="split").conditions()
        assert make("HotpotQA", corpus="split", split="dev").conditions() == known
    right = known["corpus_sha256"]
    pinned = make("HotpotQA", corpus="split", corpus_sha256=right)
    for task_id, other in (("train 0", "train 1"), ("dev 0", "dev 2")):
        assert ask(pinned, task_id, f"search[{other}]")[0][0] == f"{other} is a house. It is old.."
    for houses in ({"train": 2, "dev": 4}, {"train": 3, "dev": 3}):
        install(**houses)
        other = make("HotpotQA", corpus="split")
        assert settled_otherwise(other, known).startswith(f"played with corpus_sha256 '{right}', here is ")
        with pytest.raises(BadOption, match=rf"has digest .*, not {right[:16]}\.\.\.; install what"):
            pinned.reset(options={"task_id": "dev 0"})
    install(dev=3)  # of which none is set aside for training
    assert not make("HotpotQA").tasks("train") and make("HotpotQA", corpus="split").conditions()


def test_a_corpus_file_and_its_digest(small: Path) -> None:
    path = small / "corpus.jsonl"
    path.write_text('{"title": "House 1", "text": "Painted."}\n{"title": "Moon", "text": "Bright. Far."}\n')
    env = make("HotpotQA", corpus=str(path))
    assert [step[0] for step in ask(env, "House 1", "search[moon]", "search[House 1]", "search[Home]")] == [
        "Bright. Far..", "Painted..", "Could not find Home. Similar: [].",
    ]  # fmt: skip
    right = env.conditions()["corpus_sha256"]
    assert right == env._corpus.sha256
    assert ask(make("HotpotQA", corpus=str(path), corpus_sha256=right), "House 1", "search[moon]")
    with pytest.raises(BadOption, match="digest"):
        make("HotpotQA", corpus=str(path), corpus_sha256="0" * 64).reset(seed=1)
    path.write_text('{"title": "Sun", "text": "Hot."}\n')  # changed: built anew
    assert ask(make("HotpotQA", corpus=str(path)), "House 1", "search[sun]")[0][0] == "Hot.."
    path.write_text('{"title": "Sun"}\n')
    with pytest.raises(CorruptData, match=r"corpus\.jsonl:1.*text"):
        make("HotpotQA", corpus=str(path)).reset(seed=1)


def test_a_run_records_what_this_machine_settled(small: Path) -> None:
    assert make("HotpotQA").conditions() == {"aliases": 0, "train_held_out": False}


def test_installing_again_is_noticed(small: Path) -> None:
    env = make("HotpotQA")
    env.reset(options={"task_id": "House 1"})
    path = small / "train_again.jsonl"
    path.write_text(json.dumps(question("House 1", "Bob")) + "\n")
    data.dataset("hotpotqa").get(path)
    assert len(env.tasks("train")) == 1
    assert ask(env, "House 1", "finish[Bob]")[0][4]["success"]


def test_react_500_as_a_panel(small: Path) -> None:
    env = make("HotpotQA")
    panel = react500(env, ["House 2", "House 0"])
    assert panel.task_ids == ["House 2", "House 0"] and panel.name == "HotpotQA-v1/react500"
    saved = panels.save(panel, small)
    assert panels.tasks_of(panels.load(saved), env) == [env.task("House 2"), env.task("House 0")]


@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_supporting_title_is_reachable(installed: Any, name: str, variant: str) -> None:
    installed(SETS[name])
    env = make(name, variant=variant, max_steps=50)
    for split in env.splits:
        for task in env.tasks(split):
            env.reset(options={"task_id": task.id})
            stored = open_split(SETS[name], split).question(task.id)
            for title in stored.supporting:
                info = env.step(env._variant.search(title))[4]
                assert not info["invalid_action"]
            assert info["progress"] == 1.0, task.id


@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
def test_the_answer_is_shown_only_where_a_page_says_it(installed: Any, name: str) -> None:
    installed(SETS[name])
    draw = random.Random(3)
    for variant in VARIANTS:
        env = make(name, variant=variant)
        for task in draw.sample(list(env.tasks("dev")), 40):
            stored = open_split(SETS[name], "dev").question(task.id)
            pages = {normalize(text) for p in stored.paragraphs for text in (p.title, p.text)}
            answer = normalize(stored.answers[0])
            if any(answer in page for page in pages) or answer in normalize(stored.question):
                continue
            env.reset(options={"task_id": task.id})
            shown = [
                env.step(action) for action in ("dance", env._variant.search("who"), env._variant.finish("x"))
            ]
            assert all(f" {answer} " not in f" {normalize(str(step[0]))} " for step in shown)


@pytest.mark.data
def test_committed_panels_are_those_of_the_data(installed: Any) -> None:
    for name, panel_names in [
        ("HotpotQA", ("dev", "reflexion100")), ("2WikiMultihopQA", ("dev",)), ("MuSiQue", ("dev",)),
    ]:  # fmt: skip
        installed(SETS[name])
        env = make(name)
        for panel_name in panel_names:
            panel = panels.load(f"{name}-v1/{panel_name}")
            assert [task.id for task in panels.tasks_of(panel, env)] == panel.task_ids
    assert panels.load("HotpotQA-v1/reflexion100").task_ids == list(REFLEXION_ROWS.values())
    assert read_manifest("hotpotqa").react500 == []


@pytest.mark.data
def test_the_corpus_of_the_shared_split(installed: Any) -> None:
    installed("hotpotqa")
    env = make("HotpotQA", corpus="split", split="dev", max_steps=50)
    for task in list(env.tasks("dev"))[:60]:
        env.reset(options={"task_id": task.id})
        for title in open_split("hotpotqa", "dev").question(task.id).supporting:
            info = env.step(f"search[{title}]")[4]
        assert info["progress"] == 1.0
    assert env._corpus.similar("Gesellschaft Haftung", 3)[0] == "Gesellschaft mit beschränkter Haftung"
