"""The main job, on two CPU cores: games, expert episodes, SFT from scratch, one ETO iteration, a board.

    python recipes/demo.py [OUT] [--quick]

Every step is a `prosegym` command, printed before it runs; what is done is not done again, so after an
interruption the same call goes on. The settings were chosen on training and validation games alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from prosegym.cli import main as prosegym

ENV = "prosegym/TextWorld-CoinCollector-v1"
FORM = "--agent.format bare --agent.decoding trie --agent.max-tokens 24"
SFT = (
    "--observations 0.1 --optim.learning-rate 3e-3 --optim.epochs 10 --optim.batch-size 2 "
    "--optim.warmup 0.05 --optim.floor 0.1 --optim.weight-decay 0.01 --optim.tokens 4096"
)
ETO = (
    "--cloned --iterations 1 --imitation 1 --beta 0.1 --optim.learning-rate 3e-5 --optim.epochs 1 "
    "--optim.batch-size 4 --optim.tokens 8192"
)
AGENTS = {"null": "null", "random": "random", "expert": "expert", "sft": "OUT/sft", "eto": "OUT/eto"}


def steps(out: Path, episodes: int, tasks: int, more: str) -> list[tuple[str, str, Path | None]]:
    """What is done: a line for the reader, the command, and the folder that says it is done already."""
    data = f"--env {ENV} --data {out}/expert.jsonl {FORM} {more}"
    plan: list[tuple[str, str, Path | None]] = [
        (
            f"{episodes} games, each played by an expert that knows only what it has seen",
            f"collect --agent expert --env {ENV} --episodes {episodes} --out {out}/expert.jsonl",
            None,
        ),
        (
            "a small model from random weights, trained on those episodes",
            f"train sft --model scratch:350k --vocabulary 700 --context 8192 {data} {SFT} --out {out}/sft",
            None,
        ),
        (
            "one ETO iteration: explore, contrast with the expert, optimise",
            f"train eto --model {out}/sft {data} {ETO} --out {out}/eto",
            None,
        ),
    ]
    for name, agent in AGENTS.items():
        where = agent.replace("OUT", str(out))
        run = f"evaluate --agent {where} --env {ENV} --split test --tasks {tasks} --out {out}/runs/{name}"
        plan.append((f"{name} on {tasks} test games", run, None))
    plan += [
        ("is SFT better than chance?", f"compare {out}/runs/random {out}/runs/sft", None),
        ("is ETO better than SFT?", f"compare {out}/runs/sft {out}/runs/eto", None),
    ]
    for name in AGENTS:
        folder = out / "submissions" / name
        plan.append((f"submit {name}", f"submit {out}/runs/{name} --out {folder}", folder))
        plan.append((f"verify {name} by replay", f"verify {folder}", None))
    plan.append(("the board", f"board build --submissions {out}/submissions --out {out}/site", None))
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo-out"))
    parser.add_argument("--quick", action="store_true", help="a few games and steps: to see that it runs")
    args = parser.parse_args()
    episodes, tasks, more = (10, 4, "--max-steps 4") if args.quick else (100, 40, "")
    plan = steps(args.out, episodes, tasks, more)
    began = time.monotonic()
    for number, (about, command, done) in enumerate(plan, start=1):
        print(f"\n[{number}/{len(plan)}] {about}\n$ prosegym {command}", flush=True)
        if done is not None and done.exists():
            print("done before")
            continue
        clock = time.monotonic()
        if status := prosegym(shlex.split(command)):
            print(f"stopped: that command's exit status is {status}", file=sys.stderr)
            return status
        print(f"({time.monotonic() - clock:.0f} s)")
    print(f"\nAll of it took {(time.monotonic() - began) / 60:.1f} minutes. Open {args.out}/site/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
