"""Experts for TextWorld: one that reads the engine's mind, and two that act on what they were shown."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
_HEADER = re.compile(r"-= (.+?) =-")


class Player(Protocol):
    """What an expert may ask of its environment."""

    def plan(self) -> list[str]:
        """A winning continuation from the engine's state."""
        ...

    def known(self) -> list[str]:
        """The admissible commands of this moment."""
        ...


class Privileged:
    """Takes the first step of TextWorld's own winning policy for the present state."""

    privileged = True

    def __init__(self, player: Player) -> None:
        self._player = player

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The policy's next command; None where there is none (a lost game; off a walkthrough)."""
        return next(iter(self._player.plan()), None)


class Explorer:
    """Walks through a house room by room, opening what is closed, and keeps a map of what it saw.

    It knows the answers it got and the admissible actions, nothing else. Subclasses say what to do where
    they see something of use.
    """

    privileged = False

    def __init__(self, player: Player) -> None:
        self._player = player
        self._exits: dict[str, dict[str, str | None]] = {}
        self._seen: dict[str, str] = {}
        """The room in which each admissible action other than a walk was last seen."""
        self._opened: set[str] = set()
        self._room: str | None = None
        self._last = ""

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action; None where all is explored and nothing helped."""
        actions = info["admissible_actions"]
        if actions is None:
            actions = self._player.known()
        self._note(observation, actions)
        if self._room is None:
            self._last = "look"
        else:
            self._last = self._choose(observation, actions) or self._explore(actions) or ""
        return self._last or None

    def did(self, action: str) -> None:
        """Say that this was done in place of the action it chose."""
        if action != self._last:
            self._opened.discard(self._mark(self._last))
        self._last = action

    def again(self) -> None:
        """Begin the game anew, with the map of the try that ended."""
        self._opened.clear()
        self._room = None
        self._last = ""

    def _choose(self, observation: str, actions: Sequence[str]) -> str | None:
        """The next step towards the goal; None to explore on."""
        raise NotImplementedError

    def _note(self, observation: str, actions: Sequence[str]) -> None:
        """Draw the map on: where this is, and what can be done here."""
        if headers := _HEADER.findall(observation):
            here = headers[-1]
            way = self._last.removeprefix("go ")
            if self._room is not None and way in OPPOSITE:
                self._exits[self._room][way] = here
                self._exits.setdefault(here, {})[OPPOSITE[way]] = self._room
            self._room = here
        if self._room is None:
            return
        exits = self._exits.setdefault(self._room, {})
        for action in [action for action, room in self._seen.items() if room == self._room]:
            del self._seen[action]
        for action in actions:
            if action.startswith("go "):
                exits.setdefault(action.removeprefix("go "), None)
            else:
                self._seen[action] = self._room

    def _explore(self, actions: Sequence[str]) -> str | None:
        """Open what is closed, else go where nobody went, else walk to the nearest room where one can."""
        assert self._room is not None
        for action in actions:
            if action.startswith(("open ", "unlock ")) and self._mark(action) not in self._opened:
                self._opened.add(self._mark(action))
                return action
        return self._walk(lambda room: None in self._exits[room].values(), actions)

    def _mark(self, action: str) -> str:
        return f"{self._room}: {action}"

    def _go_to(self, wanted: str, actions: Sequence[str]) -> str | None:
        """A step towards the room where an action was seen; None where it was not."""
        room = self._seen.get(wanted)
        return None if room is None else self._walk(lambda here: here == room, actions)

    def _walk(self, arrived: Any, actions: Sequence[str]) -> str | None:
        """The first step of a shortest known way to a room, or through an unknown exit of this one."""
        assert self._room is not None
        queue: deque[tuple[str, str | None]] = deque([(self._room, None)])
        visited = {self._room}
        while queue:
            room, first = queue.popleft()
            if arrived(room):
                if first is not None:
                    return first
                unknown = (way for way, beyond in self._exits[room].items() if beyond is None)
                return next((f"go {way}" for way in unknown if f"go {way}" in actions), None)
            for way, beyond in self._exits[room].items():
                passable = room != self._room or f"go {way}" in actions
                if beyond is not None and beyond not in visited and passable:
                    visited.add(beyond)
                    queue.append((beyond, first or f"go {way}"))
        return None


class Seeker(Explorer):
    """Explores until it sees the thing that the objective names, and takes it."""

    def __init__(self, player: Player, objective: str) -> None:
        super().__init__(player)
        self._objective = objective.split("-=")[0].lower()

    def _choose(self, observation: str, actions: Sequence[str]) -> str | None:
        takes = [action for action in (*actions, *self._seen) if action.startswith("take ")]
        named = [action for action in takes if self._is_named(_thing(action))]
        best = max(named, key=lambda action: len(_thing(action)), default="")
        return best if best in actions else self._go_to(best, actions)

    def _is_named(self, thing: str) -> bool:
        return re.search(rf"\b{re.escape(thing.lower())}\b", self._objective) is not None


def _thing(action: str) -> str:
    """The X of `take X` or `take X from Y`."""
    return action.removeprefix("take ").split(" from ")[0]


COOKING = {"fry": ("fried", "stove"), "roast": ("roasted", "oven"), "grill": ("grilled", "BBQ")}
CUTTING = {"chop": "chopped", "slice": "sliced", "dice": "diced"}
_STATES = {"raw", "uncut", "burned", *CUTTING.values(), *(state for state, _ in COOKING.values())}


class Cook(Explorer):
    """Finds and reads the cookbook, then gathers, cooks and cuts what it says, prepares the meal, eats it."""

    def __init__(self, player: Player) -> None:
        super().__init__(player)
        self._recipe: dict[str, dict[str, str]] | None = None
        """What is to be done with each ingredient: verb -> the state that it leaves."""
        self._states: dict[str, set[str]] = {}
        """What is known to have been done with each ingredient."""
        self._taken_stock = False

    def again(self) -> None:
        """Begin the game anew, with the recipe of the try that ended: things were carried off in it."""
        super().again()
        self._exits.clear()
        self._seen.clear()
        self._states.clear()
        self._taken_stock = False

    def _choose(self, observation: str, actions: Sequence[str]) -> str | None:
        self._learn(observation)
        if "eat meal" in actions:
            return "eat meal"
        if self._recipe is None:
            return "examine cookbook" if "examine cookbook" in actions else None
        held = {action.removeprefix("drop ") for action in actions if action.startswith("drop ")}
        missing = [food for food in self._recipe if food not in held]
        if not self._taken_stock:
            return self._gather(missing, held, actions) if missing else "inventory"
        for food, steps in self._recipe.items():
            for verb, state in steps.items():
                if state not in self._states.get(food, ()):
                    return self._treat(food, verb, held, actions) or self._explore(actions)
        return self._gather(missing, held, actions) if missing else self._finish(held, actions)

    def _learn(self, observation: str) -> None:
        """Read the recipe, the inventory, and what came of the last action."""
        if self._recipe is None and "Directions:" in observation:
            foods, _, directions = observation.partition("Ingredients:")[2].partition("Directions:")
            self._recipe = {food: {} for food in _lines(foods)}
            for line in _lines(directions):
                verb, _, food = line.partition(" the ")
                if food in self._recipe:
                    self._recipe[food][verb] = COOKING[verb][0] if verb in COOKING else CUTTING[verb]
        if self._recipe is None:
            return
        if self._last == "inventory":
            self._taken_stock = True
            for food in self._recipe:
                if found := re.search(rf"((?:\w+ )*){re.escape(food)}\b", observation):
                    self._states.setdefault(food, set()).update(_STATES & set(found[1].split()))
        for food, steps in self._recipe.items():
            for verb, state in steps.items():
                if self._last in (f"{verb} {food} with knife", f"cook {food} with {_appliance(verb)}"):
                    self._states.setdefault(food, set()).add(state)

    def _gather(self, missing: Sequence[str], held: set[str], actions: Sequence[str]) -> str | None:
        """Take a missing ingredient, or go where one was seen; hands that are full are emptied first."""
        assert self._recipe is not None
        for food in missing:
            take = next((a for a in actions if a.startswith("take ") and _thing(a) == food), None)
            if take is not None:
                return take
        here = [food for food in missing if f"examine {food}" in actions]
        spare = sorted(held - set(self._recipe))
        if here and spare:
            return f"drop {spare[0]}"
        for food in missing:
            if food not in here and (step := self._go_to(f"examine {food}", actions)):
                return step
        return None

    def _treat(self, food: str, verb: str, held: set[str], actions: Sequence[str]) -> str | None:
        """A step towards cooking or cutting an ingredient."""
        if food not in held:
            return self._gather([food], held, actions)
        if verb in COOKING:
            action = f"cook {food} with {_appliance(verb)}"
            return action if action in actions else self._go_to(f"examine {_appliance(verb)}", actions)
        if "knife" in held:
            return f"{verb} {food} with knife"
        if take := next((a for a in actions if a.startswith("take ") and _thing(a) == "knife"), None):
            return take
        if "examine knife" not in actions:
            return self._go_to("examine knife", actions)
        return next(f"drop {thing}" for thing in sorted(held) if thing != food)

    def _finish(self, held: set[str], actions: Sequence[str]) -> str | None:
        if "prepare meal" in actions:
            return "prepare meal"
        if "examine cookbook" not in actions:
            return self._go_to("examine cookbook", actions)
        return "drop knife" if "knife" in held else None


def _appliance(verb: str) -> str:
    return COOKING[verb][1] if verb in COOKING else ""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
