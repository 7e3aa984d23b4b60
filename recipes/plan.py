"""A recipe's steps: each is printed before it runs, and passed over where it is done already."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prosegym.cli import main as prosegym

Step = tuple[str, str | Callable[[], None], Path | None]
"""A line for the reader, the command (or what is called), and what says that it is done already."""


def follow(about: str | None, steps: Callable[[Path, bool], Sequence[Step]]) -> int:
    """Do what the command line asks for, in the folder it names; returns the exit status.

    Args:
        about: what the recipe is, for its help.
        steps: all that is done, in order, given the folder and whether a few games and steps are enough.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo-out"))
    parser.add_argument("--quick", action="store_true", help="a few games and steps: to see that it runs")
    args = parser.parse_args()
    plan = steps(args.out, args.quick)
    began = time.monotonic()
    for number, (line, command, done) in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] {line}", flush=True)
        if done is not None and done.exists():
            print("done before")
            continue
        clock = time.monotonic()
        if not isinstance(command, str):
            command()
        else:
            print(f"$ prosegym {command}", flush=True)
            if status := prosegym(shlex.split(command)):
                print(f"stopped: that command's exit status is {status}", file=sys.stderr)
                return status
        print(f"({time.monotonic() - clock:.0f} s)")
    print(f"\nAll of it took {(time.monotonic() - began) / 60:.1f} minutes. Open {args.out}/site/index.html")
    return 0
