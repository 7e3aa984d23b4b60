"""Each variant's words: hand-written episodes, and random ones against the semantics told another way.

The checks of random episodes know no state: they work out every answer from the list of earlier actions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import pytest

from prosegym.envs.questions.corpus import OwnParagraphs
from prosegym.envs.questions.records import Paragraph
from prosegym.envs.questions.variants import MAX_ECHO, VARIANTS, ReAct, Reflexion, RetroAct, sentences

PAGES = {
    "Lyra Voss": ["Lyra Voss was a dyer. She was born in Ostby. Her teacher was Emil Kant. One. Two. Three. "
                  "She died in Ostby.", "Her notes were found. They name Ostby twice, Ostby."],
    "Ostby": ["Ostby is a town on the river Lor. It has 9,000 people\nand a mill. The mill is old."],
    "Emil Kant": ["Emil Kant taught dyeing"],
    "Lor": ["Lor may refer to:", "Lor (river), a river. Lor (name), a name."],
    "Émile [sic] Kant": ["A misprint. Nothing more."],
}  # fmt: skip
CORPUS = OwnParagraphs([Paragraph(title, text) for title, texts in PAGES.items() for text in texts])


def said(variant: str, *actions: str) -> list[str]:
    session = VARIANTS[variant]()
    return [session.play(action, CORPUS).observation for action in actions]


def test_react_by_hand() -> None:
    assert said(
        "react", "search[Lyra Voss]", "lookup[ostby]", "lookup[ostby]", "lookup[Ostby]", "lookup[dyer]"
    ) == [
        "Lyra Voss was a dyer. She was born in Ostby. Her teacher was Emil Kant. One. Two.",
        "(Result 1 / 3) She was born in Ostby.",
        "(Result 2 / 3) She died in Ostby..",  # WikiEnv puts a full stop to the last piece of a line, too
        "(Result 1 / 3) She was born in Ostby.",  # another spelling is another keyword
        "(Result 1 / 1) Lyra Voss was a dyer.",
    ]


def test_react_miss_leaves_the_page_and_the_look_up_alone() -> None:
    answers = said("react", "search[Lyra Voss]", "lookup[Ostby]", "search[Lira Vos dyer]", "lookup[Ostby]")
    assert answers[2] == "Could not find Lira Vos dyer. Similar: ['Lyra Voss']."
    assert answers[3] == "(Result 2 / 3) She died in Ostby.."


def test_react_hit_restarts_the_look_up() -> None:
    answers = said("react", "search[Lyra Voss]", "lookup[Ostby]", "search[LYRA_voss]", "lookup[Ostby]")
    assert answers[3] == "(Result 1 / 3) She was born in Ostby."


def test_react_odds_and_ends() -> None:
    assert said(
        "react", "lookup[x]", "think[let me see]", "  search[Emil Kant]  ", "search[]", "lookup[]"
    ) == [
        "No more results.\n",
        "Nice thought.",
        "Emil Kant taught dyeing.",
        "Could not find . Similar: [].",
        "(Result 1 / 1) Emil Kant taught dyeing.",
    ]
    for wrong in ("Search[Ostby]", "search [Ostby]", "search[Ostby", "look", "", "FINISH[x]", "search[a] b"):
        reply = ReAct().play(wrong, CORPUS)
        assert reply.observation == f"Invalid action: {wrong}" and reply.invalid and reply.answer is None
    assert ReAct().play("finish[a[b]c]", CORPUS).answer == "a[b]c"
    assert ReAct().play("finish[]", CORPUS).answer == ""


def test_react_takes_a_disambiguation_for_a_miss_of_the_bracketed_title() -> None:
    found = said("react", "search[Ostby]", "search[Lor]", "lookup[town]")
    assert found[1].startswith("Could not find [Lor]. Similar: [") and found[2].startswith(
        "(Result 1 / 1) Ostby"
    )


def test_react_sentences() -> None:
    assert sentences("A b. C d.\n\n  E. F") == ["A b.", "C d..", "E.", "F."]
    assert sentences("") == [] and sentences(" \n ") == []


def test_reflexion_by_hand() -> None:
    assert said(
        "reflexion", "Search[Lyra Voss]", "Lookup[OSTBY]", "Lookup[Ostby]", "Lookup[Ostby]", "Lookup[zebra]"
    ) == [
        PAGES["Lyra Voss"][0],
        f"(Result 1/2) {PAGES['Lyra Voss'][0]}",
        f"(Result 2/2) {PAGES['Lyra Voss'][1]}",  # case does not make another keyword
        "No More Results",
        "No Results",
    ]


def test_reflexion_miss_closes_the_page() -> None:
    answers = said("reflexion", "Search[Ostby]", "Search[Emil]", "Lookup[a]", "Search[Ostby]", "Lookup[mill]")
    assert answers[1] == "Could not find [Emil]. Similar: ['Emil Kant', 'Lyra Voss']"
    assert answers[2] == Reflexion.NO_PAGE
    assert answers[4] == f"(Result 1/1) {PAGES['Ostby'][0]}"


def test_reflexion_look_up_goes_on_counting_on_another_page() -> None:
    assert said("reflexion", "Search[Ostby]", "Lookup[Ostby]", "Search[Lyra Voss]", "Lookup[Ostby]")[3] == (
        f"(Result 2/2) {PAGES['Lyra Voss'][1]}"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "search[Ostby]",
        "Search[]",
        "Search[Ostby] ",
        " Search[Ostby]",
        "Search [x]",
        "",
        "Think[x]",
        "Search[a\nb]",
    ],
)
def test_reflexion_refuses_what_is_not_spelled_exactly(wrong: str) -> None:
    reply = Reflexion().play(wrong, CORPUS)
    assert reply.invalid and reply.opened is None
    assert (
        reply.observation
        == "Invalid Action. Valid Actions are Lookup[<topic>] Search[<topic>] and Finish[<answer>]."
    )


def test_retroact_always_finds_and_never_looks_up() -> None:
    session = RetroAct()
    assert session.play("search[ostby]", CORPUS).observation == " ".join(PAGES["Ostby"][0].split())
    assert session.play("SEARCH[who taught dyeing]", CORPUS).observation == "Emil Kant taught dyeing"
    nearest = session.play(
        "Search[Ostbee]", CORPUS
    )  # shares no word with any page: the title's letters decide
    assert nearest.opened is not None and nearest.opened.title == "Ostby"
    for wrong in ("Lookup[Ostby]", "Search[]", "Ostby", "Finish"):
        reply = session.play(wrong, CORPUS)
        assert reply.observation == "Invalid Action. Valid Actions are Search[<entity>] and Finish[<answer>]."
        assert reply.invalid
    assert session.play("finish[Ann Lee]", CORPUS).answer == "Ann Lee"


def test_unicode_and_brackets_inside_an_action() -> None:
    page = CORPUS.page("Émile [sic] Kant")
    assert page is not None
    decomposed = "E\u0301mile [sic] kant"
    assert ReAct().play(f"search[{decomposed}]", CORPUS).opened == page
    assert Reflexion().play(f"Search[{decomposed}]", CORPUS).opened == page
    assert RetroAct().play(f"Search[{decomposed}]", CORPUS).opened == page
    assert Reflexion().play("Finish[näïve [日本] ]]", CORPUS).answer == "näïve [日本] ]"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_long_action_is_not_repeated_whole(variant: str) -> None:
    for action in ("search[" + "x" * 60_000 + "]", "Search[" + "é" * 60_000 + "]", "z" * 60_000):
        assert len(VARIANTS[variant]().play(action, CORPUS).observation) < MAX_ECHO + 200


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_state_is_not_changed_by_what_comes_after(variant: str) -> None:
    session = VARIANTS[variant]()
    for title in ("Lyra Voss", "Ostby"):
        session.play(session.search(title), CORPUS)
        look = session.look_up("Ostby") or session.search("Lyra Voss")
        session.play(look, CORPUS)
        state = session.save()
        after = [session.play(action, CORPUS) for action in (look, look, session.search("Emil Kant"), look)]
        other = VARIANTS[variant]()
        for again in (session, other):
            again.load(state)
            assert [again.play(a, CORPUS) for a in (look, look, session.search("Emil Kant"), look)] == after
        session.load(state)


# Random episodes.

WORDS = ["Ostby", "OSTBY", "a", "mill", "Kant", "zebra", "the", ".", "Lyra Voss", ""]
QUERIES = [*PAGES, "ostby", "LYRA  VOSS", "Emil", "river town", "nothing here", "Kant Émile", ""]


def page_of(query: str) -> tuple[str, list[str]] | None:
    """Title match without the corpus: equal but for case and spaces."""
    plain = " ".join(query.split()).lower()
    return next(((title, texts) for title, texts in PAGES.items() if title.lower() == plain), None)


def opens(query: str) -> tuple[str, list[str]] | None:
    page = page_of(query)
    return None if page is None or any("may refer to:" in text for text in page[1]) else page


def pieces(texts: list[str]) -> list[str]:
    found = []
    for text in texts:
        for line in text.split("\n"):
            found += [piece + "." for piece in re.split(r"\. ", line.strip())]
    return found


def react(past: Sequence[tuple[str, str]], kind: str, argument: str) -> str:
    if kind == "think":
        return "Nice thought."
    if kind == "search":
        page = page_of(argument)
        if page and opens(argument):
            return " ".join(pieces(page[1])[:5])
        shown = f"[{argument}]" if page else argument
        return f"Could not find {shown}. Similar: {CORPUS.similar(argument, 5)}."
    hits = [i for i, (k, a) in enumerate(past) if k == "search" and opens(a)]
    if not hits:
        return "No more results.\n"
    page = opens(past[hits[-1]][1])
    assert page
    times = 0
    for keyword in [a for k, a in reversed(past[hits[-1] + 1 :]) if k == "lookup"]:
        if keyword != argument:
            break
        times += 1
    found = [piece for piece in pieces(page[1]) if argument.lower() in piece.lower()]
    return (
        f"(Result {times + 1} / {len(found)}) {found[times]}" if times < len(found) else "No more results.\n"
    )


def page_at(past: Sequence[tuple[str, str]]) -> tuple[str, list[str]] | None:
    searches = [a for k, a in past if k == "Search"]
    return shows(searches[-1]) if searches else None


def shows(query: str) -> tuple[str, list[str]] | None:
    """What Reflexion's docstore opens: over given paragraphs, it knows of no disambiguation."""
    return page_of(query)


def reflexion(past: Sequence[tuple[str, str]], kind: str, argument: str) -> str:
    if not argument:
        return "Invalid Action. Valid Actions are Lookup[<topic>] Search[<topic>] and Finish[<answer>]."
    past = [(k, a) for k, a in past if a]
    if kind == "Search":
        page = shows(argument)
        return page[1][0] if page else f"Could not find [{argument}]. Similar: {CORPUS.similar(argument, 10)}"
    page = page_at(past)
    if page is None:
        return Reflexion.NO_PAGE
    times = 0
    for i in reversed(range(len(past))):
        if past[i][0] == "Lookup" and page_at(past[:i]) is not None:
            if past[i][1].lower() != argument.lower():
                break
            times += 1
    found = [text for text in page[1] if argument.lower() in text.lower()]
    if not found:
        return "No Results"
    return f"(Result {times + 1}/{len(found)}) {found[times]}" if times < len(found) else "No More Results"


def retroact(past: Sequence[tuple[str, str]], kind: str, argument: str) -> str:
    if kind == "Lookup" or not argument:
        return "Invalid Action. Valid Actions are Search[<entity>] and Finish[<answer>]."
    page = page_of(argument)
    if page is None and (ranked := CORPUS.similar(argument, 1)):
        page = page_of(ranked[0])
    if page is not None:
        return " ".join(" ".join(page[1]).split())
    return ""  # which page is nearest by letters is checked by hand above


@pytest.mark.parametrize(
    ("variant", "expected", "kinds"),
    [
        ("react", react, ("search", "lookup", "lookup", "think")),
        ("reflexion", reflexion, ("Search", "Lookup", "Lookup")),
        ("retroact", retroact, ("Search", "Search", "Lookup")),
    ],
)
def test_random_episodes(
    variant: str, expected: Callable[[Sequence[tuple[str, str]], str, str], str], kinds: tuple[str, ...]
) -> None:
    draw = random.Random(7)
    checked = 0
    for _ in range(250):
        session, past = VARIANTS[variant](), []
        for _ in range(12):
            kind = draw.choice(kinds)
            argument = draw.choice(WORDS if kind.lower() == "lookup" else QUERIES)
            if kind.lower() == "lookup" and past and draw.random() < 0.5:
                argument = past[-1][1] if past[-1][0] == kind else argument
            answer = session.play(f"{kind}[{argument}]", CORPUS).observation
            wanted = expected(past, kind, argument)
            assert answer == wanted or wanted == "", (past, kind, argument)
            checked += wanted != ""
            past.append((kind, argument))
    assert checked > 2000
