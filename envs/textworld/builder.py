"""Builds games asked for on standard input, one JSON line each; answers with one JSON line each.

`python -m prosegym.envs.textworld.builder --table` prints the content of `games.json` instead.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

from prosegym.envs.textworld import games


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TextWorld prints must not be taken for an answer
    parse_once()
    if sys.argv[1:] == ["--table"]:
        json.dump(games.make_table(), answers, indent=0)
        answers.write("\n")
        return
    for line in sys.stdin:
        job = json.loads(line)
        try:
            challenge, split, level, seed = job["game"]
            answer = {"content": games.make_game(challenge, split, level, seed, Path(job["path"]))}
        except Exception as error:  # whatever goes wrong in the generator is the answer
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def parse_once() -> None:
    """Have TextWorld parse each challenge's logic and grammar once in this process, not once a game.

    Parsing is most of what a small game costs to make, and making a game changes nothing of the parsed.
    """
    from textworld.generator.data import KnowledgeBase

    KnowledgeBase.load = functools.cache(KnowledgeBase.load)


if __name__ == "__main__":
    main()
