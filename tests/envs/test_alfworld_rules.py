"""The rules and the compiler, on games made here: no official data needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prosegym.envs.alfworld.compile import UnknownGoal, compile_game, names, parse
from prosegym.envs.alfworld.engine import HELP, Board, House, listing
from prosegym.envs.alfworld.experts import Searcher, plan
from prosegym.envs.errors import CorruptData

FACTS = """
(atLocation agent1 loc_bar_0)
(receptacleAtLocation Cabinet_bar_1 loc_bar_1) (receptacleType Cabinet_bar_1 CabinetType) (openable Cabinet_bar_1)
(receptacleAtLocation Cabinet_bar_2 loc_bar_1) (receptacleType Cabinet_bar_2 CabinetType)
(receptacleAtLocation CounterTop_bar_1 loc_bar_2) (receptacleType CounterTop_bar_1 CounterTopType)
(receptacleAtLocation Fridge_bar_1 loc_bar_3) (receptacleType Fridge_bar_1 FridgeType) (openable Fridge_bar_1)
(receptacleAtLocation Microwave_bar_1 loc_bar_4) (receptacleType Microwave_bar_1 MicrowaveType) (openable Microwave_bar_1)
(receptacleAtLocation Sink_bar_1_bar_SinkBasin loc_bar_5) (receptacleType Sink_bar_1_bar_SinkBasin SinkBasinType)
(objectType Apple_bar_1 AppleType) (inReceptacle Apple_bar_1 CounterTop_bar_1) (objectAtLocation Apple_bar_1 loc_bar_2)
(pickupable Apple_bar_1) (cleanable Apple_bar_1) (heatable Apple_bar_1) (coolable Apple_bar_1) (sliceable Apple_bar_1)
(objectType Apple_bar_2 AppleType) (inReceptacle Apple_bar_2 Cabinet_bar_1) (objectAtLocation Apple_bar_2 loc_bar_1)
(pickupable Apple_bar_2) (heatable Apple_bar_2)
(objectType Knife_bar_1 KnifeType) (inReceptacle Knife_bar_1 CounterTop_bar_1) (objectAtLocation Knife_bar_1 loc_bar_2)
(pickupable Knife_bar_1)
(objectType DeskLamp_bar_1 DeskLampType) (inReceptacle DeskLamp_bar_1 Cabinet_bar_1) (toggleable DeskLamp_bar_1)
(objectType Bowl_bar_1 BowlType) (inReceptacle Bowl_bar_1 CounterTop_bar_1) (pickupable Bowl_bar_1)
(isReceptacleObject Bowl_bar_1) (objectType Egg_bar_1 EggType) (inReceptacleObject Egg_bar_1 Bowl_bar_1)
(canContain CounterTopType AppleType) (canContain FridgeType AppleType) (canContain CabinetType AppleType)
(canContain CounterTopType KnifeType) (canContain MicrowaveType AppleType)
"""
HEAT_AND_PLACE = """(and (exists (?r - receptacle) (exists (?o - object) (and (heatable ?o) (objectType ?o AppleType)
    (receptacleType ?r FridgeType) (isHot ?o) (inReceptacle ?o ?r)))))"""
LOOK = """(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot DeskLampType)
    (toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)))
    (exists (?o - object ?a - agent) (and (objectType ?o AppleType) (holds ?a ?o))))"""


def source(
    facts: str = FACTS, goal: str = HEAT_AND_PLACE, task: str = "put a hot apple in fridge."
) -> dict[str, Any]:
    problem = (
        f"(define (problem p)\n(:domain alfred)\n(:objects agent1 - agent)\n(:init {facts})\n(:goal {goal}))"
    )
    return {"pddl_domain": "", "grammar": f'"rhs": "Your task is to: {task}"', "pddl_problem": problem}


@pytest.fixture
def board() -> Board:
    return Board(compile_game(source()))


def play(house: House, *commands: str) -> list[str | None]:
    return [house.act(command) for command in commands]


def test_names_count_down_and_follow_the_kind() -> None:
    ids = ["drawer_bar_c", "drawer_bar_a", "sink_bar_1_bar_sinkbasin", "sink_bar_1", "agent1", "drawer_bar_b"]
    assert names(ids) == {
        "drawer_bar_a": "drawer 3", "drawer_bar_b": "drawer 2", "drawer_bar_c": "drawer 1",
        "sink_bar_1": "sink 1", "sink_bar_1_bar_sinkbasin": "sinkbasin 1", "agent1": "agent1 ",
    }  # fmt: skip


def test_listing() -> None:
    assert [listing(["a x", "a y", "a z"][:n]) for n in range(4)] == [
        "nothing",
        "a x",
        "a x, and a y",
        "a x, a y, and a z",
    ]


def test_beginning(board: Board) -> None:
    house = House(board)
    assert board.intro == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, "
        "you see a cabinet 2, a cabinet 1, a countertop 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: put a hot apple in fridge."
    )
    assert (
        house.act("look") == "You are in the middle of a room. Looking quickly around you, you see nothing."
    )
    assert house.act("inventory") == "You are not carrying anything." and house.act("help") == HELP
    assert house.admissible() == sorted(house.admissible())
    assert house.admissible()[:3] == ["go to cabinet 1", "go to cabinet 2", "go to countertop 1"]


def test_several_lamps_on_one_receptacle_are_sorted_too() -> None:
    lamps = "".join(
        f"(objectType DeskLamp_bar_{n} DeskLampType) (inReceptacle DeskLamp_bar_{n} CounterTop_bar_1) "
        f"(objectAtLocation DeskLamp_bar_{n} loc_bar_2) (toggleable DeskLamp_bar_{n}) "
        for n in (2, 3, 4)
    )
    house = House(Board(compile_game(source(FACTS + lamps))))
    house.act("go to countertop 1")
    assert house.admissible() == sorted(house.admissible())
    assert [a for a in house.admissible() if a.startswith("use")] == [f"use desklamp {n}" for n in (1, 2, 3)]


def test_neighbours_at_one_place(board: Board) -> None:
    house = House(board)
    assert house.act("go to cabinet 2") == "You arrive at cabinet 2. The cabinet 2 is closed."
    assert house.act("go to cabinet 1") is None
    assert house.act("look") == "You are facing the cabinet 2, and cabinet 1. Next to it, you see nothing."
    assert house.act("examine cabinet 1") == "On the cabinet 1, you see nothing."
    assert house.act("use desklamp 1") == "You turn on the desklamp 1."  # through a closed door
    assert house.act("use desklamp 1") == "You turn on the desklamp 1."  # and never off
    assert house.act("take apple 1 from cabinet 2") is None
    assert house.act("open cabinet 2") == (
        "You open the cabinet 2. The cabinet 2 is open. In it, you see a apple 1, and a desklamp 1."
    )
    assert play(house, "open cabinet 2", "close cabinet 1", "open cabinet 1") == [None] * 3
    assert house.act("close cabinet 2") == "You close the cabinet 2."


def test_taken_things_lie_on_the_floor(board: Board) -> None:
    house = House(board)
    play(
        house, "go to cabinet 2", "open cabinet 2", "take apple 1 from cabinet 2", "move apple 1 to cabinet 1"
    )
    assert house.act("look") == "You are facing the cabinet 2, and cabinet 1. Next to it, you see a apple 1."
    play(house, "take apple 1 from cabinet 1", "move apple 1 to cabinet 2")
    assert house.act("look") == "You are facing the cabinet 2, and cabinet 1. Next to it, you see a apple 1."


def test_treatment_and_its_words(board: Board) -> None:
    house = House(board)
    play(house, "go to countertop 1", "take apple 2 from countertop 1")
    assert house.act("examine apple 2") == "There's nothing special about apple 2."
    assert house.act("examine apple 1") is None and house.act("examine knife 1") is None
    play(house, "go to fridge 1")
    assert house.act("heat apple 2 with fridge 1") is None
    assert house.act("cool apple 2 with fridge 1") == "You cool the apple 2 using the fridge 1."
    assert house.act("examine apple 2") == "This is a cold apple 2."
    play(house, "go to sinkbasin 1", "clean apple 2 with sinkbasin 1")
    assert house.act("examine apple 2") == "This is a cool and clean apple 2."
    play(house, "go to microwave 1", "heat apple 2 with microwave 1")
    assert house.act("examine apple 2") == "This is a hot and clean apple 2."
    play(house, "go to countertop 1", "move apple 2 to countertop 1", "take knife 1 from countertop 1")
    assert house.act("slice apple 2 with knife 1") == "You sliced the apple 2 with the knife 1."
    assert house.act("slice apple 1 with knife 1") is None
    play(house, "move knife 1 to countertop 1", "take apple 2 from countertop 1")
    assert house.act("examine apple 2") == "This is a hot and clean sliced apple 2."
    assert house.act("inventory") == "You are carrying: a apple 2."
    assert house.act("move apple 2 to sinkbasin 1") is None
    play(house, "move apple 2 to countertop 1", "take bowl 1 from countertop 1")
    assert house.act("examine bowl 1") == "This is a normal bowl 1. In it, you see a egg 1."
    assert house.act("move bowl 1 to countertop 1") is None  # nothing says that it can be put there


def test_what_is_sliced_and_cold_is_called_cool(board: Board) -> None:
    """`examineObject.feedback` of alfred.twl2: iscool & issliced is "a cool sliced", iscool alone "a cold"."""
    house = House(board)
    play(house, "go to countertop 1", "take knife 1 from countertop 1", "slice apple 2 with knife 1")
    play(house, "move knife 1 to countertop 1", "take apple 2 from countertop 1")
    play(house, "go to fridge 1", "cool apple 2 with fridge 1")
    assert house.act("examine apple 2") == "This is a cool sliced apple 2."


def test_winning_and_progress(board: Board) -> None:
    house = House(board)
    way = plan(house)
    assert way is not None and len(way) == 7
    seen = []
    for command in way:
        assert not house.won and command in house.admissible()
        house.act(command)
        seen.append(house.progress)
    assert house.won and seen == [0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 1.0]
    house.act("take apple 2 from fridge 1")
    assert not house.won and house.progress == 0.75


def test_light() -> None:
    house = House(Board(compile_game(source(goal=LOOK, task="examine the apple with the desklamp."))))
    assert plan(house) == [
        "go to cabinet 2",
        "open cabinet 2",
        "take apple 1 from cabinet 2",
        "use desklamp 1",
    ]
    play(house, "go to countertop 1", "take apple 2 from countertop 1", "go to cabinet 1", "use desklamp 1")
    assert house.won and house.progress == 1.0
    house.act("go to fridge 1")
    assert not house.won and house.progress == 0.75
    assert plan(house) == ["go to cabinet 2"]


def test_commands_are_exact(board: Board) -> None:
    house = House(board)
    for command in (
        "Go to fridge 1",
        "go  to fridge 1",
        "go to fridge",
        "go to  fridge 1",
        "goto fridge 1",
        "",
        "go",
    ):
        assert house.act(command) is None
    assert house.act(" go to fridge 1\n") is not None


def test_dialects(board: Board) -> None:
    new, old = House(board), House(board, "put")
    both = House(board, "put", either=True)
    first = "On the countertop 1, you see a apple 2, a bowl 1, and a knife 1."
    assert new.act("go to countertop 1") == f"You arrive at countertop 1. {first}"
    assert old.act("go to countertop 1") == both.act("go to countertop 1") == f"You arrive at loc 4. {first}"
    for house in (new, old, both):
        house.act("take apple 2 from countertop 1")
    assert "move apple 2 to countertop 1" in new.admissible() and "help" in new.admissible()
    assert "put apple 2 in/on countertop 1" in old.admissible() and "help" not in old.admissible()
    assert old.admissible() == sorted(old.admissible())
    assert old.act("move apple 2 to countertop 1") is None and old.act("help") is None
    assert new.act("put apple 2 in/on countertop 1") is None
    assert new.act("move apple 2 to countertop 1") == "You move the apple 2 to the countertop 1."
    assert both.act("move apple 2 to countertop 1") == "You put the apple 2 in/on the countertop 1."
    assert old.act("put apple 2 in/on countertop 1") == "You put the apple 2 in/on the countertop 1."


def test_saved_states_do_not_change(board: Board) -> None:
    house = House(board)
    play(house, "go to countertop 1", "take apple 2 from countertop 1")
    state, admissible = house.save(), house.admissible()
    for _ in range(2):
        play(
            house,
            "go to microwave 1",
            "heat apple 2 with microwave 1",
            "open microwave 1",
            "move apple 2 to microwave 1",
        )
        assert house.admissible() != admissible
        other = House(board)
        other.load(state)
        house.load(state)
        assert house.admissible() == other.admissible() == admissible
        assert house.act("inventory") == "You are carrying: a apple 2." and house.progress == 0.5


def test_searcher_on_neighbours_and_both_dialects(board: Board) -> None:
    for dialect in ("move", "put"):
        house, expert = House(board, dialect), Searcher(dialect)  # type: ignore[arg-type]
        text = board.intro
        for _ in range(30):
            action = expert.act(text, {})
            assert action is not None
            text = house.act(action) or "Nothing happens."
            if house.won:
                break
        assert house.won


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(pddl_problem=s["pddl_problem"].replace("(isReceptacleObject ", "(isMagic ")), "unknown predicate 'ismagic'"),
        (lambda s: s.update(pddl_problem=s["pddl_problem"].replace("(openable ", "(openable x ", 1)), "2 arguments"),
        (lambda s: s.update(pddl_problem=s["pddl_problem"].replace("(atLocation agent1 loc_bar_0)", "")), "at 0 places"),
        (lambda s: s.update(pddl_problem=s["pddl_problem"].split("(:goal")[0]), "no goal"),
        (lambda s: s.update(grammar="nothing"), "no task line"),
        (lambda s: s.pop("grammar"), "no grammar"),
    ],
)  # fmt: skip
def test_bad_games_say_what_is_wrong(change: Any, message: str) -> None:
    data = source()
    change(data)
    with pytest.raises(CorruptData, match=f"here: .*{message}"):
        compile_game(data, "here")


def test_other_task_types_are_told_apart() -> None:
    sliced = HEAT_AND_PLACE.replace("(isHot ?o)", "(isHot ?o) (isSliced ?o)")
    with pytest.raises(UnknownGoal, match="six task types"):
        compile_game(source(goal=sliced))


def test_files_that_are_no_games() -> None:
    text = json.dumps(source()).encode()
    assert compile_game(parse(text, "game.tw-pddl")) == compile_game(source())
    for bad in (text[:-20], b"[]", b"\x00", b"{}"):
        with pytest.raises(CorruptData, match="game.tw-pddl"):
            compile_game(parse(bad, "game.tw-pddl"), "game.tw-pddl")


def test_digest_is_of_what_matters() -> None:
    same = source(FACTS + "(objectType Window_bar_1 WindowType) (objectAtLocation Window_bar_1 loc_bar_1)")
    assert compile_game(same).sha256() == compile_game(source()).sha256()
    other = source(FACTS.replace("(openable Cabinet_bar_1)", ""))
    assert compile_game(other).sha256() != compile_game(source()).sha256()
