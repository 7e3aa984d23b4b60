"""MiniWiki: what it makes, that its answers follow from their pages and from nothing else, and its experts."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prosegym.envs import panels
from prosegym.envs.core import digest
from prosegym.envs.errors import UnknownName
from prosegym.envs.questions import grammar as g
from prosegym.envs.questions.metrics import NO_ANSWER, normalize
from prosegym.envs.questions.miniwiki import COUNTS, PAGES, TYPES, generate, solve
from prosegym.envs.questions.variants import VARIANTS

SAMPLE = [(split, i) for split in COUNTS for i in range(0, 1000, 2)]


def test_task_i_is_what_it_was() -> None:
    """Any change to what is generated must raise `VERSION` and the environment's version."""
    made = [generate(split, i).sha256 for split in COUNTS for i in range(40)]
    assert digest(*made) == "7129a35513e752ff53275fabbf4e85eb06cac2fec69b5058925da6835d3f66a0"


def test_every_answer_follows_from_the_pages() -> None:
    for split, i in SAMPLE:
        question = generate(split, i)
        assert solve(question.question, question.paragraphs) == question.answers[0], question


def test_the_page_names_the_questions_about_the_country_of_a_known_countrys_capital() -> None:
    found = []
    for question in (generate(split, i) for split in ("valid", "test") for i in range(1000)):
        texts: dict[str, str] = {}
        for paragraph in question.paragraphs:
            texts[paragraph.title] = f"{texts.get(paragraph.title, '')} {paragraph.text}"
        for start, path in g.read_question(question.question).chains:
            at: str | None = start
            for relation, following in pairwise(path):
                if at and (relation, following) == ("capital", "country"):
                    found.append(f"`{question.id}`")
                at = at and g.read_fact(texts.get(at, ""), relation)
    page = (Path(__file__).parents[3] / "docs" / "envs" / "miniwiki.md").read_text("utf-8")
    told = page[page.index("A capital need not lie") :].partition("\n\n")[0]
    assert re.findall(r"`\w+/\d+`", told) == found and len(found) == 9


def test_no_answer_follows_without_each_of_its_pages() -> None:
    checked = 0
    for split, i in SAMPLE:
        question = generate(split, i)
        for title in question.supporting:
            rest = [paragraph for paragraph in question.paragraphs if paragraph.title != title]
            assert solve(question.question, rest) == NO_ANSWER, (question.question, title)
            checked += 1
    assert checked > 3000


def test_the_answer_stands_on_no_page_but_the_last_one_and_its_own() -> None:
    for split, i in SAMPLE:
        question = generate(split, i)
        if question.type.startswith(("bridge-", "inference")):
            answer = f" {normalize(question.answers[0])} "
            assert answer not in f" {normalize(question.question)} "
            for paragraph in question.paragraphs:
                if paragraph.title != question.supporting[-1]:
                    assert answer not in f" {normalize(paragraph.text)} ", question


def test_there_is_some_of_everything() -> None:
    questions = [generate("train", i) for i in range(2000)]
    kinds = Counter(question.type for question in questions)
    assert set(kinds) == set(TYPES) and min(kinds.values()) == 250
    hops = {kind: {len(q.supporting) for q in questions if q.type == kind} for kind in kinds}
    assert hops["bridge-2"] == {2} and hops["bridge-3"] == {3} and hops["bridge-4"] == {4}
    assert hops["comparison"] == {2} and hops["bridge_comparison"] == {4} and hops["inference"] == {2}
    closed = Counter(
        q.answers[0] for q in questions if q.type == "comparison" and q.answers[0] in ("yes", "no")
    )
    assert closed["yes"] > 30 and closed["no"] > 30
    assert {q.answers[0] for q in questions if q.type == "unanswerable"} == {NO_ANSWER}
    assert len({q.question for q in questions}) > 1990 and len({q.sha256 for q in questions}) == 2000
    openings = Counter(" ".join(q.question.split()[:2]) for q in questions)
    assert len(openings) > 20


def test_splits_have_no_task_in_common() -> None:
    """Names come from the same pools, so a question's words may recur; its pages and its answer do not."""
    made = {split: [generate(split, i) for i in range(400)] for split in COUNTS}
    pages = [{question.paragraphs for question in questions} for questions in made.values()]
    assert not pages[0] & pages[1] and not pages[0] & pages[2] and not pages[1] & pages[2]
    told = [
        {(q.question, q.answers) for q in qs if q.answers[0] not in ("yes", "no", NO_ANSWER)}
        for qs in made.values()
    ]
    assert not told[0] & told[1] and not told[0] & told[2] and not told[1] & told[2]


def test_pages_are_well_formed() -> None:
    for split, i in SAMPLE[:300]:
        question = generate(split, i)
        titles = list(dict.fromkeys(paragraph.title for paragraph in question.paragraphs))
        assert len(titles) == PAGES and set(question.supporting) <= set(titles)
        assert len({title.casefold() for title in titles}) == PAGES
        for paragraph in question.paragraphs:
            assert paragraph.text.endswith(".") and "%" not in paragraph.text and "\n" not in paragraph.text
            subjects = (paragraph.title, "He ", "She ", "It ")
            assert all(any(s in sentence for s in subjects) for sentence in paragraph.text[:-1].split(". "))


def test_every_wording_has_its_keyword_and_is_read_back() -> None:
    for relation, wordings in g.WORDINGS.items():
        for wording in wordings:
            for subject in ("Ann Lee", "It"):
                sentence = wording % (subject, "Some Value")
                assert g.KEYWORDS[relation] in sentence
                for text in (sentence, f"Before. {sentence} After.", f"(Result 1 / 2) {sentence}"):
                    assert g.read_fact(text, relation) == "Some Value"
            for other in g.WORDINGS:
                if other != relation:
                    assert g.read_fact(wording % ("Ann Lee", "Some Value"), other) is None


@pytest.mark.parametrize("relation", g.NOUNS)
def test_every_way_to_ask_is_read_back(relation: str) -> None:
    for noun in g.NOUNS[relation]:
        for inner, path in [
            ("Ann Lee", ()),
            ("the mother of Ann Lee", ("mother",)),
            ("Ann Lee's mother", ("mother",)),
        ]:
            for template in (*g.WHAT, *g.WHO):
                plan = g.read_question(template % (noun % inner))
                assert plan.chains == [("Ann Lee", (*path, relation))]
            for template in g.ASKED.get(relation, ()):
                assert g.read_question(template % inner).chains == [("Ann Lee", (*path, relation))]
    with pytest.raises(ValueError, match="not a MiniWiki question"):
        g.read_question("Why?")


def test_an_inference_question_names_no_relation_that_a_page_states() -> None:
    plan = g.read_question("Who is the maternal grandfather of Ann Lee?")
    assert plan.chains == [("Ann Lee", ("mother", "father"))]
    assert not any(
        word in wording for word in g.INFERRED for forms in g.WORDINGS.values() for wording in forms
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_experts_answer_everything(variant: str) -> None:
    env = gymnasium.make("prosegym/MiniWiki-v1", variant=variant).unwrapped
    for name in ("searcher", "oracle"):
        for i in range(240):
            observation, info = env.reset(options={"task_id": f"test/{i}"})
            expert, done = env.expert(name), False
            while not done:
                observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
                assert not info["invalid_action"]
                done = terminated or truncated
            assert info["success"], (name, i)


def test_the_honest_expert_sees_nothing_but_observations() -> None:
    env = gymnasium.make("prosegym/MiniWiki-v1").unwrapped
    first, info = env.reset(options={"task_id": "test/0"})
    expert = env.expert("searcher")
    env.reset(options={"task_id": "test/2"})  # another task under its feet changes nothing of its plan
    start = g.read_question(first.removeprefix("Question: ")).chains[0][0]
    assert expert.act(first, info) == f"search[{start}]"


PIECES = st.sampled_from(
    ["search[", "Search[", "lookup[", "Lookup[", "finish[", "Finish[", "think[", "]", " ", "Ann"]
)


@pytest.mark.parametrize("variant", VARIANTS)
@given(actions=st.lists(st.lists(PIECES | st.text(max_size=8), max_size=5).map("".join), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_action_breaks_an_episode(variant: str, actions: list[str]) -> None:
    env = FUZZED.setdefault(variant, gymnasium.make("prosegym/MiniWiki-v1", variant=variant).unwrapped)
    _, info = env.reset(options={"task_id": "test/1"})
    for action in actions:
        before = info
        observation, reward, terminated, truncated, info = env.step(action)
        assert isinstance(observation, str) and len(observation) < 5000
        assert 0.0 <= info["score"] <= 1.0 and before["progress"] <= info["progress"] <= 1.0
        assert reward == (info["score"] if terminated or truncated else 0.0)
        if info["invalid_action"]:
            assert info["progress"] == before["progress"] and not terminated
        if terminated or truncated:
            break


FUZZED: dict[str, Any] = {}


def test_task_ids() -> None:
    env = gymnasium.make("prosegym/MiniWiki-v1").unwrapped
    assert env.task("train/99999").id == "train/99999"
    for wrong in (
        "train/100000",
        "train/-1",
        "train/01",
        "train/",
        "train",
        "dev/0",
        "test/1000",
        "train/1e3",
        "train/²",
    ):
        with pytest.raises(UnknownName, match="there are train/0 to train/99999, "):
            env.task(wrong)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_panels(split: str) -> None:
    env = gymnasium.make("prosegym/MiniWiki-v1").unwrapped
    panel = panels.of_split("prosegym/MiniWiki-v1", split)
    assert len(panels.tasks_of(panel, env)) == 200
    assert {task.task_type for task in panels.tasks_of(panel, env)} == set(TYPES)
