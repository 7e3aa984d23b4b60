"""The rules: what every command does and what is answered, to the letter.

The rules are those of ALFWorld's domain and grammar as TextWorld's PDDL engine plays them, its accidents
included, since agents are trained and compared on its texts. The ones that surprise:

* Only the object in hand can be examined, and only receptacles at the present place.
* A receptacle that shares the present place with another cannot be gone to: the player is there.
* Heating, cooling and cleaning need the appliance here, open or not; so does a lamp in a closed receptacle.
* A lamp can be turned on again and again, and never off.
* A paper towel roll or a teddy bear can be taken and put down nowhere: no receptacle type's `cancontain`
  names it. Once one is in the hand no other thing can be taken.
* `look` names what is on the floor: objects taken from a receptacle here that are said to be here still.
* Every article is "a", and ", and " stands before the last of two things as well.
* Commands are compared as they are, spaces at the ends apart; anything else is answered "Nothing happens.".
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import Any, Literal, TypeAlias, get_args

from prosegym.envs.alfworld import game as g
from prosegym.envs.alfworld.game import Game

Dialect = Literal["move", "put"]
"""`move X to Y` (releases since 0.4, 2024), or `put X in/on Y` (before, and the papers up to then)."""

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

State: TypeAlias = tuple[Any, ...]
"""What `House.save` returns."""

APPLIANCES = {"microwavetype": "heat", "fridgetype": "cool", "sinkbasintype": "clean"}
KNIVES = ("knifetype", "butterknifetype")

HELP = """\
Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""

ROOM = "You are in the middle of a room. Looking quickly around you, you see "


def listing(items: Sequence[str]) -> str:
    """An enumeration as the game writes it."""
    if not items:
        return "nothing"
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])}, and {items[-1]}"


class Board:
    """What play looks up, derived from a game once and shared by every episode of it.

    Sets of objects and of receptacles are integers with a bit for each member.
    """

    __slots__ = (
        "appliance",
        "contents",
        "cold",
        "clean",
        "fits",
        "goal_objects",
        "goal_receptacles",
        "gotos",
        "here",
        "holders",
        "hot",
        "inside",
        "intro",
        "kind",
        "knives",
        "lamps",
        "lit",
        "o_index",
        "o_names",
        "openable",
        "opened",
        "phrases",
        "pickupable",
        "place_names",
        "places",
        "places_of",
        "r_index",
        "r_names",
        "sliceable",
        "sliced",
        "start",
        "subgoals",
        "takes",
        "toggleable",
        "treatable",
        "views",
    )

    def __init__(self, game: Game) -> None:
        receptacles, objects = game.receptacles, game.objects
        self.kind, self.start = game.kind, game.start
        # Games share most of their names: interned, thousands of boards keep one copy.
        self.place_names = [intern(name) for name in game.places]
        self.r_names = [intern(r.name) for r in receptacles]
        self.o_names = [intern(o.name) for o in objects]
        self.phrases = [intern(f"a {name}") for name in self.o_names]
        self.r_index = {name: i for i, name in enumerate(self.r_names)}
        self.o_index = {name: i for i, name in enumerate(self.o_names)}
        self.places = [r.place for r in receptacles]
        self.here: list[tuple[int, ...]] = [()] * len(game.places)
        self.openable = self.opened = 0
        for i, r in enumerate(receptacles):
            if r.place >= 0:
                self.here[r.place] += (i,)
            if r.openable:
                self.openable |= 1 << i
            if r.opened:
                self.opened |= 1 << i
        self.contents = [r.contents for r in receptacles]
        r_types = [game.receptacle_types[r.type] if r.type >= 0 else "" for r in receptacles]
        self.appliance = [APPLIANCES.get(name, "") for name in r_types]
        of_type = dict.fromkeys(game.object_types, 0)
        of_traits: dict[int, int] = {}
        for i, o in enumerate(objects):
            bit = 1 << i
            if o.type >= 0:
                of_type[game.object_types[o.type]] |= bit
            of_traits[o.traits] = of_traits.get(o.traits, 0) | bit
        accepted = [sum(of_type[game.object_types[n]] for n in types) for types in game.fits]
        self.fits = [accepted[r.type] if r.type >= 0 else 0 for r in receptacles]
        self.places_of = [o.places for o in objects]
        self.inside = {i: o.inside for i, o in enumerate(objects) if o.inside}

        def having(trait: int) -> int:
            return sum(members for traits, members in of_traits.items() if traits & trait)

        self.pickupable, self.holders = having(g.PICKUPABLE), having(g.HOLDER)
        self.treatable = {
            "clean": having(g.CLEANABLE),
            "cool": having(g.COOLABLE),
            "heat": having(g.HEATABLE),
        }
        self.toggleable, self.sliceable = having(g.TOGGLEABLE), having(g.SLICEABLE)
        self.clean, self.hot, self.cold = map(having, (g.IS_CLEAN, g.IS_HOT, g.IS_COOL))
        self.lit, self.sliced = having(g.IS_TOGGLED), having(g.IS_SLICED)
        self.knives = sum(of_type.get(name, 0) for name in KNIVES)
        self.goal_objects = of_type.get(game.goal_object, 0) & self.treatable.get(self.kind, -1)
        lit = self.kind == "light"
        self.goal_receptacles = [i for i, name in enumerate(r_types) if name == game.goal_target and not lit]
        self.lamps = of_type.get(game.goal_target, 0) & self.toggleable if lit else 0
        self.subgoals = {"simple": 3, "two": 6}.get(self.kind, 4)
        seen = listing([f"a {r.name}" for r in receptacles if r.place >= 0])
        self.intro = f"-= Welcome to TextWorld, ALFRED! =-\n\n{ROOM}{seen}.\n\nYour task is to: {game.task}"
        # Texts of the untouched household, each made when it is first shown.
        self.views: list[str | None] = [None] * len(receptacles)
        self.takes: list[list[str] | None] = [None] * len(receptacles)
        self.gotos: list[list[str] | None] = [None] * len(game.places)

    def goto_commands(self, place: int) -> list[str]:
        """Commands that lead from a place to another, sorted."""
        commands = self.gotos[place]
        if commands is None:
            commands = self.gotos[place] = sorted(
                {
                    intern(f"go to {name}")
                    for name, p in zip(self.r_names, self.places, strict=True)
                    if p >= 0 and p != place
                }
            )
        return commands

    def view(self, r: int, contents: tuple[int, ...]) -> str:
        """What is read of a receptacle with these contents, where it is not closed."""
        name = self.r_names[r]
        things = listing([self.phrases[o] for o in contents])
        if self.openable >> r & 1:
            return f"The {name} is open. In it, you see {things}."
        return f"On the {name}, you see {things}."

    def take_commands(self, r: int, contents: tuple[int, ...]) -> list[str]:
        """Commands that take something from a receptacle with these contents, sorted."""
        names, name, pickupable = self.o_names, self.r_names[r], self.pickupable
        return sorted([f"take {names[o]} from {name}" for o in contents if pickupable >> o & 1])


class House:
    """A game under way."""

    __slots__ = (
        "board",
        "clean",
        "cold",
        "contents",
        "dialect",
        "either",
        "found",
        "gone",
        "held",
        "hot",
        "lit",
        "moved",
        "opened",
        "place",
        "points",
        "sliced",
        "won",
    )

    def __init__(self, board: Board, dialect: Dialect = "move", *, either: bool = False) -> None:
        """Begin a game.

        Args:
            board: the game.
            dialect: how it speaks and which commands it knows.
            either: take both forms of the command that puts an object down.
        """
        self.dialect = dialect
        self.either = either
        self.begin(board)

    def begin(self, board: Board) -> None:
        """Begin a game anew, or another one."""
        self.board = board
        self.place = board.start
        self.held = -1
        self.opened, self.clean, self.hot, self.cold = board.opened, board.clean, board.hot, board.cold
        self.lit, self.sliced = board.lit, board.sliced
        self.contents = board.contents.copy()
        # Facts that changed since the beginning: (object, place) -> whether it is said to be there.
        self.moved: dict[tuple[int, int], bool] = {}
        # (object, receptacle) pairs: taken from there and not put back there.
        self.gone: set[tuple[int, int]] = set()
        self.found = 0
        self._judge()

    def save(self) -> State:
        """The state, as something that later play does not change."""
        return (
            self.board,
            self.place,
            self.held,
            (self.opened, self.clean, self.hot, self.cold, self.lit, self.sliced),
            self.contents.copy(),
            self.moved.copy(),
            self.gone.copy(),
            self.found,
            self.won,
            self.points,
        )

    def load(self, state: State) -> None:
        """Go back to a state that `save` returned."""
        self.board, self.place, self.held, sets, contents, moved, gone, self.found, self.won, self.points = (
            state
        )
        self.opened, self.clean, self.hot, self.cold, self.lit, self.sliced = sets
        self.contents, self.moved, self.gone = contents.copy(), moved.copy(), gone.copy()

    @property
    def progress(self) -> float:
        """Share of the task's sub-goals reached."""
        return float(self.points / self.board.subgoals)

    # What is said.

    def look(self) -> str:
        """The answer to `look`."""
        board, place = self.board, self.place
        here = board.here[place]
        if not here:
            return f"{ROOM}nothing."
        floor = [
            board.phrases[o]
            for o, r in sorted(self.gone)
            if board.places[r] == place and self._said_at(o, place)
        ]
        facing = listing([board.r_names[r] for r in here])
        return f"You are facing the {facing}. Next to it, you see {listing(floor)}."

    def _said_at(self, o: int, place: int) -> bool:
        changed = self.moved.get((o, place))
        return place in self.board.places_of[o] if changed is None else changed

    def _view(self, r: int) -> str:
        """What is read of a receptacle; what lies there counts as found."""
        board = self.board
        if board.openable >> r & 1 and not self.opened >> r & 1:
            return f"The {board.r_names[r]} is closed."
        contents = self.contents[r]
        found = self.found
        for o in contents:
            if board.goal_objects >> o & 1:
                found |= 1 << o
        if found != self.found:
            self.found = found
            self._judge()
        if contents is not board.contents[r]:
            return board.view(r, contents)
        text = board.views[r]
        if text is None:
            text = board.views[r] = board.view(r, contents)
        return text

    def _examine_held(self) -> str:
        board, o = self.board, self.held
        name = board.o_names[o]
        if board.holders >> o & 1:
            things = [board.phrases[inner] for inner in board.inside.get(o, ())]
            return f"This is a normal {name}. In it, you see {listing(things)}."
        clean, hot, cold = self.clean >> o & 1, self.hot >> o & 1, self.cold >> o & 1
        sliced = self.sliced >> o & 1
        # Cold alone is another word, below.
        warmth = "hot" if hot else "cool" if cold and (clean or sliced) else ""
        words = " and ".join(word for word in (warmth, "clean" if clean else "") if word)
        if words:
            return f"This is a {words} {'sliced ' if sliced else ''}{name}."
        if cold:
            return f"This is a cold {name}."
        if board.toggleable & self.lit & 1 << o:
            return f"This {name} is on."
        if board.sliceable >> o & 1 and sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    # What is done.

    def act(self, command: str) -> str | None:
        """Do a command; the answer, or None where it is not one that the present state admits."""
        board = self.board
        command = command.strip()
        verb, _, rest = command.partition(" ")
        if verb == "go":
            if not rest.startswith("to "):
                return None
            r = board.r_index.get(rest[3:], -1)
            if r < 0 or board.places[r] < 0 or board.places[r] == self.place:
                return None
            self.place = place = board.places[r]
            if board.lamps:
                self._judge()
            arrived = board.r_names[r] if self.dialect == "move" else board.place_names[place]
            return f"You arrive at {arrived}. {self._view(r)}"
        if verb == "take":
            return self._take(rest)
        if verb == "move" or verb == "put":
            return self._put(verb, rest)
        if verb == "open" or verb == "close":
            r = self._here(rest)
            if r < 0 or not board.openable >> r & 1 or (self.opened >> r & 1) == (verb == "open"):
                return None
            self.opened ^= 1 << r
            if verb == "close":
                return f"You close the {rest}."
            return f"You open the {rest}. {self._view(r)}"
        if verb == "examine":
            if rest in board.r_index:
                r = self._here(rest)
                return self._view(r) if r >= 0 else None
            held = self.held
            return self._examine_held() if held >= 0 and rest == board.o_names[held] else None
        if verb == "heat" or verb == "clean" or verb == "cool":
            return self._treat(verb, rest)
        if verb == "use":
            return self._use(rest)
        if verb == "slice":
            return self._slice(rest)
        if command == "look":
            return self.look()
        if command == "inventory":
            if self.held < 0:
                return "You are not carrying anything."
            return f"You are carrying: {board.phrases[self.held]}."
        if command == "help" and self.dialect == "move":
            return HELP
        return None

    def _here(self, name: str) -> int:
        """The receptacle of that name at the present place, or -1."""
        r = self.board.r_index.get(name, -1)
        return r if r >= 0 and self.board.places[r] == self.place else -1

    def _accessible(self, r: int) -> bool:
        return not self.board.openable >> r & 1 or bool(self.opened >> r & 1)

    def _take(self, rest: str) -> str | None:
        board = self.board
        thing, _, source = rest.partition(" from ")
        o, r = board.o_index.get(thing, -1), self._here(source)
        if self.held >= 0 or o < 0 or r < 0:
            return None
        if not board.pickupable >> o & 1 or o not in self.contents[r] or not self._accessible(r):
            return None
        self.contents[r] = tuple([x for x in self.contents[r] if x != o])
        self.gone.add((o, r))
        self.moved[o, self.place] = False
        self.held = o
        self.found |= board.goal_objects & 1 << o  # it may never have been listed
        self._judge()
        return f"You pick up the {thing} from the {source}."

    def _put(self, verb: str, rest: str) -> str | None:
        if verb != self.dialect and not self.either:
            return None
        board = self.board
        thing, _, target = rest.partition(" to " if verb == "move" else " in/on ")
        o, r = self.held, self._here(target)
        if o < 0 or thing != board.o_names[o] or r < 0:
            return None
        if not board.fits[r] >> o & 1 or not self._accessible(r):
            return None
        self.contents[r] = tuple(sorted({*self.contents[r], o}))
        self.gone.discard((o, r))
        self.moved[o, self.place] = True
        self.held = -1
        self._judge()
        if self.dialect == "move":
            return f"You move the {thing} to the {target}."
        return f"You put the {thing} in/on the {target}."

    def _treat(self, verb: str, rest: str) -> str | None:
        board, o = self.board, self.held
        thing, _, appliance = rest.partition(" with ")
        r = self._here(appliance)
        if o < 0 or thing != board.o_names[o] or r < 0 or board.appliance[r] != verb:
            return None
        bit = 1 << o
        if not board.treatable[verb] & bit:
            return None
        if verb == "heat":
            self.hot, self.cold = self.hot | bit, self.cold & ~bit
        elif verb == "cool":
            self.cold, self.hot = self.cold | bit, self.hot & ~bit
        else:
            self.clean |= bit
        self._judge()
        return f"You {verb} the {thing} using the {appliance}."

    def _use(self, thing: str) -> str | None:
        board = self.board
        o = board.o_index.get(thing, -1)
        if o < 0 or not board.toggleable >> o & 1:
            return None
        if not any(o in self.contents[r] for r in board.here[self.place]):
            return None
        self.lit |= 1 << o
        self._judge()
        return f"You turn on the {thing}."

    def _slice(self, rest: str) -> str | None:
        board = self.board
        thing, _, knife = rest.partition(" with ")
        o, k = board.o_index.get(thing, -1), self.held
        if o < 0 or k < 0 or knife != board.o_names[k] or not board.knives >> k & 1:
            return None
        if not board.sliceable >> o & 1 or not self._said_at(o, self.place):
            return None
        self.sliced |= 1 << o
        return f"You sliced the {thing} with the {knife}."

    # What could be done.

    def admissible(self) -> list[str]:
        """Every command that the present state admits, sorted."""
        board, held = self.board, self.held
        here = board.here[self.place]
        opens: list[str] = []
        closes: list[str] = []
        takes: list[str] = []
        puts: list[str] = []
        uses: list[str] = []
        treats: dict[str, list[str]] = {"clean": [], "cool": [], "heat": []}
        examines = [f"examine {board.r_names[r]}" for r in here]
        for r in here:
            name, contents = board.r_names[r], self.contents[r]
            accessible = True
            if board.openable >> r & 1:
                accessible = bool(self.opened >> r & 1)
                (closes if accessible else opens).append(name)
            for o in contents:
                if board.toggleable >> o & 1:
                    uses.append(f"use {board.o_names[o]}")
            if held < 0:
                if accessible:
                    takes += self._take_commands(r)
                continue
            thing = board.o_names[held]
            if accessible and board.fits[r] >> held & 1:
                puts.append(
                    f"move {thing} to {name}" if self.dialect == "move" else f"put {thing} in/on {name}"
                )
            verb = board.appliance[r]
            if verb and board.treatable[verb] >> held & 1:
                treats[verb].append(f"{verb} {thing} with {name}")
        slices = []
        if held >= 0:
            examines.append(f"examine {board.o_names[held]}")
            if board.knives >> held & 1:
                knife = board.o_names[held]
                slices = [
                    f"slice {name} with {knife}"
                    for o, name in enumerate(board.o_names)
                    if board.sliceable >> o & 1 and self._said_at(o, self.place)
                ]
        if len(examines) > 1:
            for group in (opens, closes, examines, puts, takes, slices, *treats.values()):
                group.sort()
        if len(uses) > 1:
            uses = sorted(set(uses))
        move = self.dialect == "move"
        return [
            *treats["clean"],
            *(f"close {name}" for name in closes),
            *treats["cool"],
            *examines,
            *board.goto_commands(self.place),
            *treats["heat"],
            *(_PLAIN if move else _PLAIN_PUT),
            *(puts if move else ()),
            *(f"open {name}" for name in opens),
            *(() if move else puts),
            *slices,
            *takes,
            *uses,
        ]

    def _take_commands(self, r: int) -> list[str]:
        board, contents = self.board, self.contents[r]
        if contents is not board.contents[r]:
            return board.take_commands(r, contents)
        commands = board.takes[r]
        if commands is None:
            commands = board.takes[r] = board.take_commands(r, contents)
        return commands

    # How far the task is done.

    def _judge(self) -> None:
        """Work out `won`, and `points`: how many of the task's sub-goals have been reached.

        One object: found, taken, treated (where the task says so), placed; each of them while the later
        ones hold, so that taking it out of reach again undoes them. Two: the same for each, without
        treatment. Light: found, taken, lamp turned on, both together.
        """
        board, kind = self.board, self.board.kind
        holding = self.held >= 0 and bool(board.goal_objects >> self.held & 1)
        if kind == "light":
            lamps = board.lamps & self.lit
            self.won = (
                bool(lamps)
                and holding
                and any(lamps >> o & 1 for r in board.here[self.place] for o in self.contents[r])
            )
            self.points = (self.found != 0) + holding + bool(lamps) + self.won
            return
        if kind == "two":
            placed = 0
            for r in board.goal_receptacles:
                placed = max(placed, sum(board.goal_objects >> o & 1 for o in self.contents[r]))
            placed = min(placed, 2)
            self.won = placed == 2
            found = max(min(self.found.bit_count(), 2), placed)
            self.points = found + min(placed + holding, 2) + placed
            return
        treated = board.goal_objects
        if kind != "simple":
            treated &= self.hot if kind == "heat" else self.cold if kind == "cool" else self.clean
        self.won = bool(treated) and any(
            treated >> o & 1 for r in board.goal_receptacles for o in self.contents[r]
        )
        if self.won:
            self.points = board.subgoals
        elif holding:
            self.points = 2 + (kind != "simple" and treated >> self.held & 1)
        else:
            self.points = int(self.found != 0)


_PLAIN = ("help", "inventory", "look")
_PLAIN_PUT = ("inventory", "look")
