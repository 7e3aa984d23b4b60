"""How generated games compare with the official ones: `python -m prosegym.envs.alfworld.statistics`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from prosegym.envs.alfworld.engine import Board, House
from prosegym.envs.alfworld.experts import plan
from prosegym.envs.alfworld.game import Game


class Summary(NamedTuple):
    """Figures over a set of games; all but the last two are means."""

    games: int
    receptacles: float
    openable: float
    objects: float
    empty: float
    """Share of receptacles with nothing in them."""
    goal_objects: float
    """Objects of the goal's type."""
    plan: float
    """Actions of a shortest plan."""
    unsolvable: int
    words: frozenset[str]
    """Every word of first observations, plans and contents, numbers apart."""


def summarise(games: Iterable[Game]) -> Summary:
    """The figures of these games."""
    words: set[str] = set()
    number = unsolvable = receptacles = openable = objects = empty = goals = length = 0
    for game in games:
        number += 1
        house = House(Board(game))
        commands = plan(house)
        if commands is None:
            unsolvable += 1
            commands = []
        receptacles += len(game.receptacles)
        openable += sum(r.openable for r in game.receptacles)
        objects += sum(len(r.contents) for r in game.receptacles)
        empty += sum(not r.contents for r in game.receptacles)
        goals += sum(o.type >= 0 and game.object_types[o.type] == game.goal_object for o in game.objects)
        length += len(commands)
        text = " ".join([house.board.intro, *commands, *house.board.phrases])
        stripped = {word.strip(".,:!=-").lower() for word in text.split()}
        words.update(word for word in stripped if word and not word.isdigit())
    number = max(number, 1)
    return Summary(
        number,
        receptacles / number,
        openable / number,
        objects / number,
        empty / max(receptacles, 1),
        goals / number,
        length / number,
        unsolvable,
        frozenset(words),
    )


def report(count: int = 3000) -> str:
    """A table: official train games beside generated ones, of all levels and of each."""
    from prosegym.envs.alfworld import generator, official

    pack = official.open_pack()
    train = [task_id for task_id in pack.entries if task_id.startswith("train/")]
    levels = range(len(generator.LEVELS))
    columns = {
        "ALFWorld train": summarise(pack.game(task_id) for task_id in train),
        "Household train": summarise(generator.generate("train", i) for i in range(count)),
    } | {
        generator.LEVELS[level]: summarise(
            generator.generate("train", i) for i in range(count) if generator.level_of(i) == level
        )
        for level in levels
    }
    official_words = columns["ALFWorld train"].words
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for field in Summary._fields[:-1]:
        values = [column._asdict()[field] for column in columns.values()]
        lines.append(
            f"| {field} | "
            + " | ".join(f"{v:g}" if isinstance(v, int) else f"{v:.2f}" for v in values)
            + " |"
        )
    shared = [f"{len(c.words)} ({len(c.words & official_words)})" for c in columns.values()]
    lines.append("| words (of them in ALFWorld train) | " + " | ".join(shared) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
