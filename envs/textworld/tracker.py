"""What TextWorld tracks of a game's world, found faster, and with what it overlooks.

After every step TextWorld searches all facts for each way in which each of its rules applies: these are the
admissible commands, and what the game reports as done is looked for among them. Here facts are indexed by
their arguments, and texts are made once; the actions that are found, and their order, are TextWorld's own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from textworld.envs.wrappers.tw_inform7 import StateTracking
from textworld.generator.inform7 import Inform7Game
from textworld.logic import Action, GameLogic, Placeholder, Proposition, Rule, Signature, State, Variable

Names = tuple[str, ...]
"""The names of a fact's arguments, or of what a rule's placeholders stand for."""


def quicken(engine: Any) -> None:
    """Have a loaded TextWorld environment track its game's world by the classes below."""
    tracking = _tracking(engine)
    game = tracking._game
    tracking._inform7 = Words(game)
    game.world._state = World(game.world.state, game.kb.types.constants_mapping)


_KEPT = ("_moves", "_last_action", "_previous_winning_policy", "_current_winning_policy")


def save(engine: Any) -> Any:
    """The interpreter's memory and what is tracked beside it, for `load` in any engine of the same game."""
    tracking = _tracking(engine)
    kept = {name: getattr(tracking, name) for name in _KEPT}
    return engine.unwrapped._jericho.get_state(), tracking.state, tracking._game_progression.copy(), kept


def load(engine: Any, saved: Any) -> Any:
    """Go back to what `save` returned; returns the game's state of then."""
    memory, state, progression, kept = saved
    if engine.unwrapped._jericho.game_over():  # an interpreter that stopped only starts anew
        engine.reset()
    engine.unwrapped._jericho.set_state(memory)
    tracking = _tracking(engine)
    vars(tracking).update(kept, _game_progression=progression.copy())
    layer = tracking
    while layer is not None:
        layer.state = state
        layer = vars(layer).get("_wrapped_env")
    return state


def _tracking(engine: Any) -> Any:
    while not isinstance(engine, StateTracking):
        engine = engine._wrapped_env
    return engine


class World(State):  # type: ignore[misc]  # TextWorld has no types
    """TextWorld's state of a world, in which the applicable actions are found by index."""

    def __init__(self, state: State, constants: Mapping[Placeholder, Variable]) -> None:
        """The same state; `constants` are the placeholders that always stand for the same thing."""
        self._constants = constants
        self._plans = _plans(state._logic, tuple(constants.items()))
        self._tables: dict[Signature, _Table] = {}
        self._actions: dict[tuple[_Plan, Names], Action] = {}
        super().__init__(state._logic, state.facts)

    def add_fact(self, prop: Proposition) -> None:
        """Add a fact."""
        super().add_fact(prop)
        self._tables.pop(prop.signature, None)

    def remove_fact(self, prop: Proposition) -> None:
        """Remove a fact."""
        super().remove_fact(prop)
        self._tables.pop(prop.signature, None)

    def copy(self) -> World:
        """A copy, which shares what was found out about actions."""
        copy = World(self, self._constants)
        copy._tables, copy._actions = self._tables.copy(), self._actions
        return copy

    def all_applicable_actions(
        self, rules: Iterable[Rule], mapping: Mapping[Placeholder, Variable] | None = None
    ) -> Iterator[Action]:
        """Every way in which these rules apply, in TextWorld's order; `mapping` holds the constants."""
        for rule in rules:
            plan = self._plans.get(id(rule)) if mapping is self._constants else None
            if plan is None:
                yield from self.all_instantiations(rule, mapping)
            else:
                found: list[Names] = []
                self._search(plan.steps, 0, list(plan.constants), found)
                yield from [self._action(plan, names) for names in found]

    def _action(self, plan: _Plan, names: Names) -> Action:
        if (action := self._actions.get((plan, names))) is None:
            known = self._vars_by_name
            variables = {ph: known[name] for ph, name in zip(plan.slots, names, strict=True) if name in known}
            action = self._actions[plan, names] = plan.rule.instantiate({**self._constants, **variables})
        return action

    def _search(self, steps: Sequence[_Step], at: int, slots: list[str | None], found: list[Any]) -> None:
        """Add to `found` all ways to fill the slots so that the preconditions from `at` on are facts."""
        if at == len(steps):
            found.append(tuple(slots))
            return
        places = steps[at].places
        for signature in steps[at].signatures:
            if not self._facts.get(signature):
                continue
            table = self._tables.get(signature)
            if table is None:
                table = self._tables[signature] = _Table(self._facts[signature])
            for names in table.rows([slots[place] for place in places]):
                filled = []
                for place, name in zip(places, names):  # noqa: B905 (as long as each other)
                    if slots[place] is None:
                        if name in slots:  # two placeholders never stand for one thing
                            break
                        slots[place] = name
                        filled.append(place)
                    elif slots[place] != name:
                        break
                else:
                    self._search(steps, at + 1, slots, found)
                for place in filled:
                    slots[place] = None


class _Table:
    """The facts of one signature: all in order, and by each of their arguments."""

    def __init__(self, facts: Iterable[Proposition]) -> None:
        self._all = sorted(tuple(argument.name for argument in fact.arguments) for fact in facts)
        self._by: list[dict[str, list[Names]]] = [{} for _ in self._all[0]]
        for names in self._all:
            for having, name in zip(self._by, names, strict=True):
                having.setdefault(name, []).append(names)

    def rows(self, wanted: Sequence[str | None]) -> Sequence[Names]:
        """In order, no fewer facts than have these arguments; None may be any."""
        rows: Sequence[Names] = self._all
        for having, name in zip(self._by, wanted, strict=True):
            if name is not None:
                some = having.get(name, ())
                if len(some) < len(rows):
                    rows = some
        return rows


class _Step(NamedTuple):
    """A precondition of a rule."""

    signatures: tuple[Signature, ...]
    """What its facts may be: its types and all their subtypes."""
    places: tuple[int, ...]
    """The slots of its parameters."""


class _Plan:
    """How a rule's applications are searched."""

    def __init__(self, rule: Rule, constants: Mapping[Placeholder, Variable], types: Any) -> None:
        self.rule = rule
        bound = [ph for predicate in rule.preconditions for ph in predicate.parameters]
        self.slots = tuple(dict.fromkeys([*constants, *bound]))
        """The placeholders to be filled."""
        self.constants = [constants[ph].name if ph in constants else None for ph in self.slots]
        """What fills them from the beginning."""
        self.steps = [
            _Step(
                tuple(
                    Signature(predicate.name, [t.name for t in subtypes])
                    for subtypes in types.multi_subtypes([types.get(t) for t in predicate.signature.types])
                ),
                tuple(map(self.slots.index, predicate.parameters)),
            )
            for predicate in rule.preconditions
        ]


@functools.lru_cache(128)
def _plans(logic: GameLogic, constants: tuple[tuple[Placeholder, Variable], ...]) -> dict[int, _Plan]:
    """The plans of a logic's rules, by their `id`; games of one kind share a logic.

    A rule with a placeholder that stands in no precondition has none: the search knows preconditions only.
    """
    plans = [_Plan(rule, dict(constants), logic.types) for rule in logic.rules.values()]
    return {id(plan.rule): plan for plan in plans if set(plan.rule.placeholders) <= set(plan.slots)}


class Words(Inform7Game):  # type: ignore[misc]
    """TextWorld's texts of a game's actions, each made once; what it overlooks in the game's reports is seen.

    Left alone, the facts, the admissible commands and the policy are from then on those of another world.

    * Taking a thing that lies on or in another is removing it from there in its logic. The game reports so
      for `take X` and `take X from Y`, but for `get X`, `pick up X` and `take X and Z` it reports a taking.
    * Drinking is "drinking carried thing" in the game's report, and "drinking" in its logic.
    * `enter DOOR` and `go through DOOR` are "entering DOOR" in the game's report; its logic knows directions.
    """

    def __init__(self, game: Any) -> None:
        """Of this game."""
        super().__init__(game)
        self._commands: dict[Action, str] = {}
        self._events: dict[Action, str] = {}

    def gen_commands_from_actions(self, actions: Iterable[Action]) -> list[str]:
        """The commands that do these actions."""
        actions = list(actions)
        for action in actions:
            if action not in self._commands:
                self._commands[action] = super().gen_commands_from_actions([action])[0]
        return [self._commands[action] for action in actions]

    def detect_action(self, i7_event: str, actions: Iterable[Action]) -> Action | None:
        """Which of these actions the game reports as done; None where it is none of them."""
        event = i7_event.lower().replace("drinking carried thing ", "drinking ", 1)
        actions = list(actions)
        if (found := self._reported(event, actions)) is not None:
            return found
        if event.startswith("entering "):
            # Only an open door is entered, and the action that closes it knows its two rooms.
            closing = self._reported(event.replace("entering", "closing", 1), actions)
            rooms = {place for place in closing.variables if place.type == "r"} if closing else set()
            for action in actions:
                if rooms and action.name.startswith("go/") and rooms <= set(action.variables):
                    return action
        elif event.startswith("taking the "):
            removing = event.replace("taking", "removing", 1) + " from the "
            for action in actions:
                if self._event(action).startswith(removing):
                    return action
        return None

    def _reported(self, event: str, actions: Sequence[Action]) -> Action | None:
        """The action of the most preconditions, and the first of those, that the game reports so."""
        same = [action for action in actions if self._event(action) == event]
        return max(same, key=lambda action: len(action.preconditions), default=None)

    def _event(self, action: Action) -> str:
        """How the game reports an action, in small letters."""
        if action not in self._events:
            event = self.kb.inform7_events[action.name]
            self._events[action] = event.format(**self._get_name_mapping(action)).lower()
        return self._events[action]
