"""From a `Game` to a `game.tw-pddl` file, which TextWorld's PDDL engine plays.

ALFWorld's wrapper `AlfredDemangler` makes names of the ids. Its `AlfredTWEnv` and `alfworld-play-tw` do not
find the file, since they ask for a `traj_data.json` beside it.

Domain and grammar say the rules of `engine.py` in the terms of that engine, in the "move" dialect.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs.alfworld.compile import GOALS, TRAITS, names
from prosegym.envs.alfworld.engine import HELP, Board, House
from prosegym.envs.alfworld.experts import plan
from prosegym.envs.alfworld.game import Game
from prosegym.envs.errors import Unsupported

GAME_FILE = "game.tw-pddl"

# (action, parameters, precondition, effect). `here` is spelled out below.
_ACTIONS = [
    ("look", "?a - agent ?l - location", "(atlocation ?a ?l)", "(checked ?l)"),
    ("inventory", "?a - agent", "", "(checked ?a)"),
    ("help", "?a - agent", "", "(checked ?a)"),
    (
        "examinereceptacle",
        "?a - agent ?r - receptacle",
        "(exists (?l - location) (and (atlocation ?a ?l) (receptacleatlocation ?r ?l)))",
        "(checked ?r)",
    ),
    ("examineobject", "?a - agent ?o - object", "(holds ?a ?o)", "(checked ?o)"),
    (
        "gotolocation",
        "?a - agent ?lstart - location ?lend - location ?r - receptacle",
        "(atlocation ?a ?lstart) (receptacleatlocation ?r ?lend)",
        "(not (atlocation ?a ?lstart)) (atlocation ?a ?lend)",
    ),
    (
        "openobject",
        "?a - agent ?l - location ?r - receptacle",
        "HERE (openable ?r) (not (opened ?r))",
        "(opened ?r) (checked ?r)",
    ),
    (
        "closeobject",
        "?a - agent ?l - location ?r - receptacle",
        "HERE (openable ?r) (opened ?r)",
        "(not (opened ?r))",
    ),
    (
        "pickupobject",
        "?a - agent ?l - location ?o - object ?r - receptacle",
        "HERE OPEN (pickupable ?o) (inreceptacle ?o ?r) (not (holdsany ?a))",
        "(not (inreceptacle ?o ?r)) (not (objectatlocation ?o ?l)) (holds ?a ?o) (holdsany ?a)",
    ),
    (
        "putobject",
        "?a - agent ?l - location ?o - object ?r - receptacle ?ot - otype ?rt - rtype",
        "HERE OPEN (holds ?a ?o) (objecttype ?o ?ot) (receptacletype ?r ?rt) (cancontain ?rt ?ot)",
        "(inreceptacle ?o ?r) (objectatlocation ?o ?l) (not (holds ?a ?o)) (not (holdsany ?a))",
    ),
    (
        "cleanobject",
        "?a - agent ?l - location ?r - receptacle ?o - object",
        "HERE (holds ?a ?o) (cleanable ?o) (receptacletype ?r sinkbasintype)",
        "(isclean ?o)",
    ),
    (
        "heatobject",
        "?a - agent ?l - location ?r - receptacle ?o - object",
        "HERE (holds ?a ?o) (heatable ?o) (receptacletype ?r microwavetype)",
        "(ishot ?o) (not (iscool ?o))",
    ),
    (
        "coolobject",
        "?a - agent ?l - location ?r - receptacle ?o - object",
        "HERE (holds ?a ?o) (coolable ?o) (receptacletype ?r fridgetype)",
        "(iscool ?o) (not (ishot ?o))",
    ),
    (
        "toggleobject",
        "?a - agent ?l - location ?o - object ?r - receptacle",
        "HERE (toggleable ?o) (inreceptacle ?o ?r)",
        "(istoggled ?o)",
    ),
    (
        "sliceobject",
        "?a - agent ?l - location ?co - object ?ko - object",
        "(sliceable ?co) (or (objecttype ?ko knifetype) (objecttype ?ko butterknifetype))"
        " (atlocation ?a ?l) (objectatlocation ?co ?l) (holds ?a ?ko)",
        "(issliced ?co)",
    ),
]
_HERE = "(atlocation ?a ?l) (receptacleatlocation ?r ?l)"
_OPEN = "(or (not (openable ?r)) (opened ?r))"

_PREDICATES = """\
(atlocation ?a - agent ?l - location) (receptacleatlocation ?r - receptacle ?l - location)
(objectatlocation ?o - object ?l - location) (openable ?r - receptacle) (opened ?r - receptacle)
(inreceptacle ?o - object ?r - receptacle) (isreceptacleobject ?o - object)
(inreceptacleobject ?o - object ?outer - object) (checked ?x) (receptacletype ?r - receptacle ?t - rtype)
(cancontain ?rt - rtype ?ot - otype) (objecttype ?o - object ?t - otype) (holds ?a - agent ?o - object)
(holdsany ?a - agent) (isclean ?o - object) (cleanable ?o - object) (ishot ?o - object) (heatable ?o - object)
(iscool ?o - object) (coolable ?o - object) (pickupable ?o - object) (toggleable ?o - object)
(istoggled ?o - object) (sliceable ?o - object) (issliced ?o - object)"""

# (action, command, answer)
_COMMANDS = [
    (
        "gotolocation",
        "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]",
        "You arrive at {r.name}. #inspect#",
    ),
    ("openobject", "open {r}", "You open the {r.name}. #inspect#"),
    ("closeobject", "close {r}", "You close the {r.name}."),
    ("pickupobject", "take {o} from {r}", "You pick up the {o.name} from the {r.name}."),
    ("putobject", "move {o} to {r}", "You move the {o.name} to the {r.name}."),
    ("inventory", "inventory", "#pockets#"),
    ("examinereceptacle", "examine {r}", "#inspect#"),
    ("examineobject", "examine {o}", "#scrutinise#"),
    ("toggleobject", "use {o}", "You turn on the {o.name}."),
    ("heatobject", "heat {o} with {r}", "You heat the {o.name} using the {r.name}."),
    ("cleanobject", "clean {o} with {r}", "You clean the {o.name} using the {r.name}."),
    ("coolobject", "cool {o} with {r}", "You cool the {o.name} using the {r.name}."),
    ("sliceobject", "slice {co} with {ko}", "You sliced the {co.name} with the {ko.name}."),
    ("look", "look", "#surroundings#"),
    ("help", "help", "#manual#"),
]

_ON_THE_FLOOR = (
    "atlocation(a:agent, l:location) & objectatlocation(o:object, l:location)"
    " & receptacleatlocation(r:receptacle, l:location) & not_inreceptacle(o:object, r:receptacle)"
)
_CLEAN, _HOT, _COOL, _SLICED = (f"is{state}(o:object)" for state in ("clean", "hot", "cool", "sliced"))

# symbol -> alternatives (condition or "", text); the first whose condition holds is taken
_TEXTS: dict[str, list[tuple[str, str]]] = {
    "intro": [("", "-= Welcome to TextWorld, ALFRED! =-\n\n#surroundings#\n\n#task#")],
    "pockets": [
        (
            "holdsany(a:agent)",
            "You are carrying: [{o.indefinite + ' ' + o.name | holds(a:agent, o:object)}].",
        ),
        ("", "You are not carrying anything."),
    ],
    "inspect": [
        (
            "openable(r:receptacle) & opened(r:receptacle)",
            "The {r.name} is open. In it, you see"
            " [{o.indefinite + ' ' + o.name | inreceptacle(o:object, r:receptacle)}].",
        ),
        ("openable(r:receptacle)", "The {r.name} is closed."),
        (
            "",
            "On the {r.name}, you see"
            " [{o.indefinite + ' ' + o.name | inreceptacle(o:object, r:receptacle)}].",
        ),
    ],
    "scrutinise": [
        (
            "isreceptacleobject(o:object)",
            "This is a normal {o.name}. In it, you see"
            " [{o2.indefinite + ' ' + o2.name | inreceptacleobject(o2:object, o:object)}].",
        ),
        (f"{_CLEAN} & {_HOT} & {_SLICED}", "This is a hot and clean sliced {o.name}."),
        (f"{_CLEAN} & {_COOL} & {_SLICED}", "This is a cool and clean sliced {o.name}."),
        (f"{_CLEAN} & {_SLICED}", "This is a clean sliced {o.name}."),
        (f"{_HOT} & {_SLICED}", "This is a hot sliced {o.name}."),
        (f"{_COOL} & {_SLICED}", "This is a cool sliced {o.name}."),
        (f"{_CLEAN} & {_HOT}", "This is a hot and clean {o.name}."),
        (f"{_CLEAN} & {_COOL}", "This is a cool and clean {o.name}."),
        (_HOT, "This is a hot {o.name}."),
        (_CLEAN, "This is a clean {o.name}."),
        (_COOL, "This is a cold {o.name}."),
        ("toggleable(o:object) & istoggled(o:object)", "This {o.name} is on."),
        (f"sliceable(o:object) & {_SLICED}", "This is a sliced {o.name}."),
        ("", "There's nothing special about {o.name}."),
    ],
    "surroundings": [
        (
            "atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)",
            "You are facing the"
            " [{r.name | atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)}]."
            " Next to it, you see #floor#.",
        ),
        (
            "",
            "You are in the middle of a room. Looking quickly around you, you see #furniture#.",
        ),
    ],
    "floor": [(_ON_THE_FLOOR, f"[{{#article(o)# | {_ON_THE_FLOOR}}}]"), ("", "nothing")],
    "furniture": [
        (
            "receptacleatlocation(r:receptacle, l:location)",
            "[{#article(r)# | receptacleatlocation(r:receptacle, l:location)}]",
        ),
        ("", "nothing"),
    ],
    "article(o)": [("", "{o.indefinite} {o.name}")],
    "article(r)": [("", "{r.indefinite} {r.name or r.id}")],
    "list_empty": [("", "nothing")],
    "list_separator": [("", ", ")],
    "list_last_separator": [("", ", and ")],
    "manual": [("", "\n" + HELP)],
}


def export(game: Game, folder: Path) -> Path:
    """Write a game and its shortest walkthrough as `game.tw-pddl` in a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / GAME_FILE
    path.write_bytes(msgspec.json.encode(tw_pddl(game)))
    return path


def tw_pddl(game: Game) -> dict[str, Any]:
    """The content of the game's file.

    Raises:
        Unsupported: the game has something that ids cannot express, such as names out of order.
    """
    walkthrough = plan(House(Board(game)))
    return {
        "pddl_domain": _domain(),
        "grammar": _grammar(game.task),
        "pddl_problem": _problem(game),
        "solvable": walkthrough is not None,
        "walkthrough": walkthrough,
    }


def _domain() -> str:
    lines = ["(define (domain alfred)", "(:requirements :adl :typing)"]
    lines += ["(:types agent location receptacle object rtype otype)", f"(:predicates {_PREDICATES})"]
    for name, parameters, precondition, effect in _ACTIONS:
        precondition = precondition.replace("HERE", _HERE).replace("OPEN", _OPEN)
        condition = f"(and {precondition})" if precondition else "()"
        lines.append(
            f"(:action {name} :parameters ({parameters}) :precondition {condition} :effect (and {effect}))"
        )
    return "\n".join([*lines, ")\n"])


def _grammar(task: str) -> str:
    texts = {
        symbol: [{"condition": when, "rhs": said} if when else {"rhs": said} for when, said in alternatives]
        for symbol, alternatives in _TEXTS.items()
    }
    texts["task"] = [{"rhs": f"Your task is to: {task}"}]
    encoded = msgspec.json.format(msgspec.json.encode(texts)).decode()
    actions = [
        f'action {name} {{\n    template :: "{command}";\n    feedback :: "{said}";\n}}\n'
        for name, command, said in _COMMANDS
    ]
    return f'grammar :: """\n{encoded}\n""";\n\n' + "\n".join(actions)


def _ids(names: list[str]) -> list[str]:
    """Ids whose alphabetical order and numbering give these names back."""
    ids = []
    for n, name in enumerate(names):
        kind, _, _ = name.rpartition(" ")
        base = kind.removesuffix("basin")
        ids.append(f"{base}_bar_{n:04d}" + (f"_bar_{kind}" if base != kind else ""))
    return ids


def _problem(game: Game) -> str:
    o_ids, r_ids = _ids([o.name for o in game.objects]), _ids([r.name for r in game.receptacles])
    l_ids = _ids(list(game.places))
    called = names([*o_ids, *r_ids, *l_ids])
    for ids, wanted in ((o_ids, game.objects), (r_ids, game.receptacles)):
        if sorted(ids) != ids or [called[i] for i in ids] != [thing.name for thing in wanted]:
            raise Unsupported("this game's names cannot be written as ids")
    facts = [f"(atlocation agent1 {l_ids[game.start]})"]
    for r, r_id in zip(game.receptacles, r_ids, strict=True):
        facts += [f"(receptacleatlocation {r_id} {l_ids[r.place]})"] if r.place >= 0 else []
        facts += [f"(receptacletype {r_id} {game.receptacle_types[r.type]})"] if r.type >= 0 else []
        facts += [f"(openable {r_id})"] if r.openable else []
        facts += [f"(opened {r_id})"] if r.opened else []
        facts += [f"(inreceptacle {o_ids[o]} {r_id})" for o in r.contents]
    for o, o_id in zip(game.objects, o_ids, strict=True):
        facts += [f"(objecttype {o_id} {game.object_types[o.type]})"] if o.type >= 0 else []
        facts += [f"(objectatlocation {o_id} {l_ids[place]})" for place in o.places]
        facts += [f"({trait} {o_id})" for trait, bit in TRAITS.items() if o.traits & bit]
        facts += [f"(inreceptacleobject {o_ids[inner]} {o_id})" for inner in o.inside]
    for kind, taken in zip(game.receptacle_types, game.fits, strict=True):
        facts += [f"(cancontain {kind} {game.object_types[o]})" for o in taken]
    # The domain names these types, so they must exist in every problem.
    otypes = sorted({*game.object_types, game.goal_object, "knifetype", "butterknifetype"})
    rtypes = sorted({*game.receptacle_types, "sinkbasintype", "microwavetype", "fridgetype"})
    if game.kind == "light":
        otypes = sorted({*otypes, game.goal_target})
    else:
        rtypes = sorted({*rtypes, game.goal_target})
    declared = [("agent1", "agent")]
    for names_, type_ in (
        (otypes, "otype"),
        (rtypes, "rtype"),
        (o_ids, "object"),
        (r_ids, "receptacle"),
        (l_ids, "location"),
    ):
        declared += [(name, type_) for name in names_]
    objects = "\n".join(f"{name} - {type_}" for name, type_ in declared)
    return (
        f"(define (problem household)\n(:domain alfred)\n(:objects\n{objects}\n)\n"
        f"(:init\n{chr(10).join(facts)}\n)\n(:goal {_goal(game)})\n)\n"
    )


def _goal(game: Game) -> str:
    """The goal in the words that the six task types have."""
    order = {"light": (game.goal_target, game.goal_object), "two": (game.goal_object, game.goal_target) * 2}
    types = iter(order.get(game.kind, (game.goal_object, game.goal_target)))
    return re.sub(r"\*", lambda _: next(types), GOALS[game.kind])
