"""Notes by rule on failed episodes: each statement is looked for in the episode, and nothing else is in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch")

from prosegym.baselines import notes  # noqa: E402
from prosegym.baselines.notes import episode, household, rooms, shop, sql, wiki  # noqa: E402
from prosegym.envs.trajectory import Trajectory  # noqa: E402
from prosegym.evaluation.agents import Agent, RandomAdmissible, Scripted  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402

COUNT = 8


def failed(
    env_id: str, agent: Agent | None = None, tasks: Sequence[str] = (), **kwargs: object
) -> list[Trajectory]:
    known = make_env(env_id, **kwargs).unwrapped.tasks("train")  # type: ignore[attr-defined]
    chosen = tasks or [known[i * len(known) // COUNT].id for i in range(COUNT)]
    played = rollout(
        lambda: make_env(env_id, **kwargs), agent or RandomAdmissible(), [Job(t) for t in chosen]
    )
    found = [t for t in played if not t.success]
    assert len(found) > 2
    return found


def answers(t: Trajectory) -> list[str]:
    return [s.observation for s in t.steps[1:]] + [t.final_observation]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def shown(t: Trajectory) -> str:
    return "\n".join([s.observation + "\n" + s.action for s in t.steps] + [t.final_observation])


def own_words() -> set[str]:
    """Every word of every string in the readers: what a note may say beside the episode's own words."""
    found: set[str] = set()
    for path in Path(notes.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= words(node.value)
    return found


def check(episodes: Sequence[Trajectory]) -> None:
    """A note has a plan, and no word that is neither the episode's nor ours; a count is ours, too."""
    for t in episodes:
        said = notes.note(t)
        assert "Plan: " in said and said.endswith(".")
        extra = {w for w in words(said) - words(shown(t)) - own_words() if not w.isdigit()}
        assert not extra, (extra, said)
        assert "progress" not in said


def some(found: Sequence[Sequence[object]]) -> None:
    assert any(found), "the statement is never made: the check shows nothing"


def test_household() -> None:
    episodes = failed("prosegym/Household-v1", max_steps=20)
    check(episodes)
    facts = [household.read(t) for t in episodes]
    for t, f in zip(episodes, facts, strict=True):
        assert f is not None
        every, first = answers(t), t.steps[0].observation
        assert f" {f.chore.thing} " in first and f.chore.target in first
        for thing, place in [*f.goods, *f.lamps]:
            assert any(thing in o and place in o for o in every)
            assert thing.split()[0] in (f.chore.thing, f.chore.target)
        for place in f.vain:
            texts = [o for o in every if re.search(rf"(On the|The) {place}(,| is open)", o)]
            assert texts and f"a {f.chore.thing} " not in texts[0]
        for place in f.left:
            assert f"a {place}" in first
            assert not any(re.search(rf"(On the {place}, you|The {place} is open\.)", o) for o in every)
    for name in ("goods", "vain", "left"):
        some([getattr(f, name) for f in facts])


def test_household_plans_with_what_it_saw() -> None:
    """Task 5 of train: two pillows lie on armchair 1; the bed is the goal."""
    task = make_env("prosegym/Household-v1").unwrapped.tasks("train")[5].id  # type: ignore[attr-defined]
    acts = ["go to armchair 1", "take pillow 2 from armchair 1", "take bed 1 from armchair 1"]
    (t,) = rollout(
        lambda: make_env("prosegym/Household-v1", max_steps=3), Scripted({task: acts}), [Job(task)]
    )
    assert notes.note(t) == (
        "I saw pillow 2 in armchair 1. I saw pillow 1 in armchair 1. "
        "Plan: take pillow 2 from armchair 1, bring it to the bed."
    )


def test_an_expert_told_what_a_try_showed_goes_there_at_once() -> None:
    from prosegym.envs.alfworld.experts import Searcher

    env = make_env("prosegym/Household-v1")
    (first,) = failed("prosegym/Household-v1", max_steps=20)[:1]
    known = household.contents(first)
    assert known
    expert = Searcher("move", known)
    observation, info = env.reset(options={"task_id": first.task_id})
    looked = []
    while not info.get("success") and len(looked) < 50:
        action = expert.act(observation, info)
        assert action is not None
        looked.append(action)
        observation, _, _, _, info = env.step(action)
    chore = household.read(first).chore  # type: ignore[union-attr]
    useful = {r for r, things in known.items() if any(t.startswith(f"{chore.thing} ") for t in things)}
    vain = {r for r in known if r not in useful and not r.startswith(chore.target)}
    for action in looked:
        goal = action.removeprefix("go to ")
        assert goal not in vain or goal.split()[0] in ("sinkbasin", "microwave", "fridge")


@pytest.mark.parametrize("game", ["Cooking", "CoinCollector", "TreasureHunter"])
def test_rooms(game: str) -> None:
    pytest.importorskip("textworld")
    episodes = failed(f"prosegym/TextWorld-{game}-v1", max_steps=20)
    check(episodes)
    facts = [rooms.read(t) for t in episodes]
    for t, f in zip(episodes, facts, strict=True):
        texts = [t.steps[0].observation, *answers(t)]
        for room in f.rooms:
            assert any(f"-= {room} =-" in o for o in texts)
        here = ""
        for action, text in zip(["", *t.actions], texts, strict=True):
            for room, way in f.exits:
                assert not (here == room and action == f"go {way}")
            here = next((r for r in f.rooms if f"-= {r} =-" in text), here)
        for room, way in f.exits:
            assert any(f"-= {room} =-" in o and way in o for o in texts)
        for line in [*f.ingredients, *f.directions, *f.done]:
            assert any("Recipe #1" in o and line in o for o in texts)
        if f.lost:
            assert t.actions[-1] == f.lost and "You lost" in t.final_observation
    some([f.exits for f in facts])
    if game == "Cooking":
        some([f.directions for f in facts])
        some([f.lost for f in facts])


def told_in(*turns: tuple[str, str], first: str = "-= Kitchen =-", refused: Sequence[str] = ()) -> Trajectory:
    """An episode of these actions, each with its answer."""
    (t,) = rollout(
        lambda: make_env("prosegym/Lockbox-v1"), Scripted({"train/red": ["a"] * 6}), [Job("train/red")]
    )
    steps = [
        msgspec.structs.replace(s, action=action, observation=before, invalid=action in refused)
        for s, (action, _), before in zip(t.steps, turns, [first, *(x for _, x in turns)], strict=False)
    ]
    return msgspec.structs.replace(t, steps=steps, final_observation=turns[-1][1])


RECIPE = "Ingredients:\n  egg\n\nDirections:\n  dice the egg\n  fry the egg\n  prepare meal\n"
COOKBOOK = ("examine cookbook", RECIPE)


def test_a_recipe_is_followed_from_its_beginning() -> None:
    """The next try begins where nothing has been done."""
    assert rooms._direction("cook egg with stove") == "fry egg"
    assert rooms._direction("cook the egg in the oven") == "roast egg"
    assert rooms._direction("dice red apple using knife") == "dice red apple"
    t = told_in(COOKBOOK, ("dice egg with knife", "You dice the egg."), ("prepare meal", "You can't."))
    t = msgspec.structs.replace(t, steps=[*t.steps[:2], msgspec.structs.replace(t.steps[2], invalid=True)])
    facts = rooms.read(t)
    assert facts.done == ["dice the egg"]
    assert facts.directions == ["dice the egg", "fry the egg", "prepare meal"]


LOST = "You burned the egg!\n\n*** You lost! ***"


@pytest.mark.parametrize(
    ("first", "turns", "left"),
    [
        ("-= Kitchen =-", [("cook egg with stove", LOST)], ["dice the egg", "prepare meal"]),
        ("On the table you see a fried egg.", [], ["dice the egg", "prepare meal"]),
        ("", [("inventory", "You are carrying: a fried diced egg.")], ["prepare meal"]),
        ("", [("cook egg in stove", "You fried the egg."), ("inventory", "a fried egg")], None),
        ("", [("cook egg in stove", "You fried the egg."), ("cook egg with stove", LOST)], None),
    ],
)
def test_what_is_so_from_the_start_is_not_done(
    first: str, turns: list[tuple[str, str]], left: list[str] | None
) -> None:
    """An egg that was fried before I cooked anything burns; one that I fried is raw in the next try."""
    facts = rooms.read(told_in(COOKBOOK, *turns, first=first))
    assert facts.directions == (left or ["dice the egg", "fry the egg", "prepare meal"])


@pytest.mark.parametrize("action", ["go east", "east", "E", "go e", "go east."])
def test_a_walk_is_a_walk_however_it_is_spelled(action: str) -> None:
    first = "-= Hall =-\nThere is an exit to the east and to the north."
    facts = rooms.read(told_in((action, "-= Yard =-"), first=first))
    assert facts.exits == [("Hall", "north")]


def test_shop() -> None:
    episodes = failed("prosegym/MiniShop-v1", max_steps=12)
    check(episodes)
    facts = [shop.read(t) for t in episodes]
    for t, f in zip(episodes, facts, strict=True):
        every, instruction = answers(t), t.steps[0].observation
        assert [f"search[{x}]" for x in f.searched] == [a for a in t.actions if a.startswith("search[")]
        for product, price in f.prices.items():
            assert any(product in o and (f"${price:,.2f}" in o or f"${price}" in o) for o in every), (
                product,
                price,
            )
        for product in f.opened:
            assert f"click[{product.lower()}]" in t.actions
        for option in [*f.wanted, *f.chosen]:
            assert any(f" {option} " in o and "Buy Now" in o for o in every)
        assert all(option in instruction for option in f.wanted)
        assert all(f"click[{option}]" in t.actions for option in f.chosen)
        assert (f.bought != "") == ("click[buy now]" in t.actions)
        assert f.limit is None or f"price lower than {f.limit:.2f}" in instruction
    for name in ("prices", "opened", "wanted", "bought", "chosen"):
        some([getattr(f, name) for f in facts])


def test_options_are_asked_for_in_two_ways() -> None:
    assert shop._asks("a bag with size: small, and pack: pack of 6, and price", "small")
    assert shop._asks("i want teal for the color and 7.5 for the shoe size", "7.5")
    assert not shop._asks("a bag with pack: pack of 6", "pack")
    assert not shop._asks("i want teal for the color", "color")


def test_a_purchase_is_one_however_it_is_spelled() -> None:
    item = " [SEP] ".join(["a", "< Prev", "colour", "beige", "Shirt", *"abcd", "Buy Now"])
    t = told_in(
        ("search[Shirts]", "b [SEP] ABCDE12345 [SEP] Shirt [SEP] $3.00"),
        ("click[abcde12345]", item),
        ("click[Beige]", item),
        ("click[FGHIJ67890]", item),
        ("click[Buy Now]", "Thank you for shopping with us!"),
        refused=["click[FGHIJ67890]"],
    )
    f = shop.read(t)
    assert (f.opened, f.chosen, f.bought) == (["ABCDE12345"], ["beige"], "ABCDE12345")


def test_what_was_refused_is_no_page() -> None:
    t = told_in(
        ("Search[Ada]", "Ada met Bob."),
        ("look up Ada", "Invalid action: look up Ada"),
        ("finish", "Invalid action: finish"),
        first="Question: Who is it?",
        refused=["look up Ada", "finish"],
    )
    f = wiki.read(t)
    assert (f.opened, f.left, f.answers) == (["Ada"], ["Bob"], [])


def wrong_searches(tasks: Sequence[str], env_id: str) -> Scripted:
    """Opens the page the question names, searches for one there is not, and gives a wrong answer."""
    acts = {}
    for task in tasks:
        env = make_env(env_id)
        told, _ = env.reset(options={"task_id": task})
        name = re.findall(r"(?:[A-Z]\w+ ?)+", told.partition("Question: ")[2].partition(" ")[2])[0].strip()
        acts[task] = [f"search[{name}]", "search[qqq]", "lookup[born]", "finish[qqq]"]
    return Scripted(acts)


def test_wiki() -> None:
    env_id = "prosegym/MiniWiki-v1"
    tasks = [t.id for t in make_env(env_id).unwrapped.tasks("train")[:COUNT]]  # type: ignore[attr-defined]
    episodes = failed(env_id, wrong_searches(tasks, env_id), tasks)
    check(episodes)
    facts = [wiki.read(t) for t in episodes]
    for t, f in zip(episodes, facts, strict=True):
        told = dict(zip(t.actions, answers(t), strict=True))
        assert all("Could not find" not in told[f"search[{x}]"] for x in f.opened)
        assert f.absent == ["qqq"] and f.looked == ["born"] and f.answers == ["qqq"]
        for name in f.left:
            assert name in shown(t) and f"search[{name}]" not in t.actions
        assert "My answer qqq was not right." in notes.note(t)
    for name in ("opened", "left"):
        some([getattr(f, name) for f in facts])


def test_sql() -> None:
    env_id = "prosegym/MiniSQL-v1"
    tasks = [t.id for t in make_env(env_id).unwrapped.tasks("train")[:COUNT]]  # type: ignore[attr-defined]
    acts = {}
    for task in tasks:
        env = make_env(env_id)
        env.reset(options={"task_id": task})
        table = re.findall(r"'(\w+)'", env.step("SHOW TABLES")[0])[0]
        acts[task] = ["SHOW TABLES", f"DESCRIBE {table}", f"SELECT qqq FROM {table}", "SELECT 1", "submit"]
    episodes = failed(env_id, Scripted(acts), tasks)
    check(episodes)
    for t in episodes:
        f, told = sql.read(t), dict(zip(t.actions, answers(t), strict=True))
        assert all(f"'{table}'" in told["SHOW TABLES"] for table in f.tables) and f.tables
        assert f.described == [t.actions[1].split()[1]] and f.last == "SELECT 1" and f.submitted
        assert len(f.errors) == 1 and f.errors[0] in told[t.actions[2]]
        said, others = notes.note(t), f.tables[1:]
        assert not others or f"I did not look into {', '.join(others)}." in said


def test_environments_without_a_reader_have_the_general_one() -> None:
    """The key is red, the box blue; the box stays shut, "sing" is refused."""
    actions = ["take red key", "open box", "sing", "sing", "open box", "open box"]
    (t,) = rollout(
        lambda: make_env("prosegym/Lockbox-v1"), Scripted({"train/blue": actions}), [Job("train/blue")]
    )
    said = notes.note(t)
    assert said == episode.note(t)
    assert "These were refused: sing." in said and "more than once: open box" in said
    assert "did nothing about them: blue. " in said and said.endswith(", and not what was refused.")


def test_every_reader_is_for_an_environment_that_exists() -> None:
    from prosegym.envs import ENVS

    names = {name.rpartition("/")[2].rpartition("-v")[0] for name in ENVS}
    assert set(notes.READERS) <= names
