"""What the official and the generated households have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from prosegym.envs.alfworld.engine import DIALECTS, Board, Dialect, House
from prosegym.envs.core import Expert, Outcome, Task, TextEnv
from prosegym.envs.errors import UnknownName

_INSTRUCTION = """\
You are in a room of a household and have a chore to do there. Each turn, answer with one action:
go to RECEPTACLE, open RECEPTACLE, close RECEPTACLE, take OBJECT from RECEPTACLE, {put},
heat OBJECT with RECEPTACLE, cool OBJECT with RECEPTACLE, clean OBJECT with RECEPTACLE, use OBJECT,
slice OBJECT with OBJECT, examine OBJECT or RECEPTACLE, look, inventory{help}.
Objects and receptacles are named with their numbers, as in "apple 1" and "fridge 1". You can carry one
object at a time. Things are heated with a microwave, cooled with a fridge and cleaned with a sinkbasin
while you carry them; lamps are turned on with "use". "Nothing happens." means that the action was not
possible."""

INSTRUCTIONS: dict[Dialect, str] = {
    "move": _INSTRUCTION.format(put="move OBJECT to RECEPTACLE", help=", help"),
    "put": _INSTRUCTION.format(put="put OBJECT in/on RECEPTACLE", help=""),
}


class HouseEnv(TextEnv):
    """A chore in a household; a subclass says where the games come from.

    Observation: what the game answers, to the letter of its own engine. The first observation names the
    receptacles of the room and the task.
    Actions: `go to R`, `open R`, `close R`, `take O from R`, `move O to R`, `heat|cool|clean O with R`,
    `use O`, `slice O with O`, `examine X`, `look`, `inventory`, `help`.
    Reward: 1 when the chore is done, else 0.
    Progress: the share of the chore's sub-goals (found, taken, heated, placed, ...) that hold.
    Termination: when the chore is done; truncation after 50 steps, as in the papers.
    """

    instruction = INSTRUCTIONS["move"]
    experts = {"search": False, "privileged": True}
    max_steps = 50

    def __init__(self, *, dialect: Dialect = "move", either_put: bool = False, **base: Any) -> None:
        """Make the environment.

        Args:
            dialect: "move" (`move X to Y`, ALFWorld since 0.4) or "put" (`put X in/on Y`, before).
            either_put: take both forms of that command, whatever the dialect; answers stay in the dialect.
            **base: the arguments of `TextEnv`.
        """
        super().__init__(**base)
        if dialect not in DIALECTS:
            raise UnknownName("dialect", dialect, DIALECTS)
        self.dialect: Dialect = dialect
        self.instruction = INSTRUCTIONS[dialect]
        self._either = either_put
        self._house: House | None = None

    @abstractmethod
    def _board(self, task: Task) -> Board:
        """The game of a task."""

    @property
    def house(self) -> House:
        """The game under way; privileged."""
        assert self._house is not None
        return self._house

    def _begin(self, task: Task) -> Outcome:
        board = self._board(task)
        if self._house is None:
            self._house = House(board, self.dialect, either=self._either)
        else:
            self._house.begin(board)
        return Outcome(board.intro, progress=self._house.progress)

    def _play(self, action: str) -> Outcome:
        house = self._house
        assert house is not None
        text = house.act(action)
        if text is None:
            return self._last._replace(observation=self.refusal, invalid=True)
        won = house.won
        return Outcome(text, 1.0 if won else 0.0, house.points / house.board.subgoals, won, won)

    def _admissible(self) -> list[str]:
        return self.house.admissible()

    def _expert(self, name: str) -> Expert:
        # Imported here because playing needs neither expert.
        from prosegym.envs.alfworld.experts import Planner, Searcher

        return Planner(self.house) if name == "privileged" else Searcher(self.dialect)

    def _save(self) -> Any:
        return self.house.save()

    def _load(self, state: Any) -> None:
        if self._house is None:
            self._house = House(state[0], self.dialect, either=self._either)
        self._house.load(state)
