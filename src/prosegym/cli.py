"""The `prosegym` command: argument parsing and printing only."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from prosegym.envs import ENVS, look_around
from prosegym.envs.errors import UNREADABLE, BadOption, ProsegymError, UnknownName, at_least

if TYPE_CHECKING:
    from prosegym.envs.core import TextEnv
    from prosegym.evaluation.agents import Agent
    from prosegym.evaluation.metrics import Summary
    from prosegym.evaluation.runs import Run

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 (done), 1 (failed, with one line that says why), 130 (stopped by Ctrl-C) or
    143 (by SIGTERM; where a person ends it so, as with `serve`, 0). Wrong usage ends the process with 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        return _guarded(lambda: _train(arguments[1], arguments[2:]), resumes=True)
    args = _parser().parse_args(arguments)
    command: Command = args.command
    return _guarded(lambda: command(args), resumes=args.resumes)


def _guarded(command: Callable[[], int], *, resumes: bool) -> int:
    """Whatever ends it, one line says so; `resumes`: whether the same command goes on with what is there."""
    stopped = 128 + signal.SIGINT

    def terminate(*_: object) -> None:
        nonlocal stopped
        stopped = 128 + signal.SIGTERM
        raise KeyboardInterrupt

    before: Any = None
    with suppress(ValueError):  # in a thread, which no signal reaches
        before = signal.signal(signal.SIGTERM, terminate)
    try:
        return command()
    except ProsegymError as error:
        print(f"prosegym: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        usual = "what was finished is kept, the same command goes on" if resumes else "nothing was written"
        print(f"\nprosegym: stopped; {str(stop) or usual}", file=sys.stderr)
        return stopped
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing to say and nobody to say it to
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"prosegym: {error.filename}: {error.strerror}; see to its rights and its disk", file=sys.stderr
        )
        return 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    import prosegym

    parser = argparse.ArgumentParser(prog="prosegym", description=prosegym.__doc__)
    parser.add_argument("--version", action="version", version=f"prosegym {prosegym.__version__}")
    parser.set_defaults(resumes=False)
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def verb(
        name: str, command: Command, about: str, *, of: Any = verbs, as_json: bool = True
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = of.add_parser(name, help=about, description=about)
        added.set_defaults(command=command)
        if as_json:
            added.add_argument("--json", action="store_true", help="print JSON, for machines")
        return added

    def family(name: str, about: str) -> Any:
        """A word that commands follow."""
        return verbs.add_parser(name, help=about).add_subparsers(required=True, metavar="COMMAND")

    verb("list", _list, "list the environments, agents, data sets and panels")

    info = verb("info", _info, "say what an environment is, its splits, experts and panels")
    info.add_argument("env", metavar="ID")

    play = verb("play", _play, "play an environment in the terminal", as_json=False)
    play.add_argument("env", metavar="ID")
    play.add_argument("--split")
    play.add_argument("--task", help="task id (default: one drawn with --seed)")
    play.add_argument("--seed", type=int)
    _env_arguments(play)

    data = family("data", "get official data")
    get = verb("get", _data_get, "fetch an official data set, or take it from a file you have", of=data)
    get.set_defaults(resumes=True)
    get.add_argument("name", metavar="NAME")
    get.add_argument("--from", dest="source", type=Path, metavar="PATH", help="archive or folder")
    verb("list", _data_list, "list the data sets", of=data)

    collect = verb("collect", _collect, "play tasks and write the trajectories to a file")
    collect.set_defaults(resumes=True)
    _agent_arguments(collect)
    collect.add_argument("--env", required=True, metavar="ID")
    collect.add_argument("--split", default="train")
    collect.add_argument("--episodes", type=int, default=1000)
    collect.add_argument("--successes", action="store_true", help="keep successful episodes only")
    collect.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    _env_arguments(collect)

    convert = verb("convert", _convert, "write trajectories in another project's format")
    convert.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl|RUN")
    convert.add_argument("--to", required=True, help="openai, trl, trl-preference, sharegpt, minari")
    convert.add_argument(
        "--out", required=True, help="file (.json: one list, else JSON Lines); for minari the dataset's id"
    )

    train = verbs.add_parser(
        "train",
        help="train an agent by a method",
        description="train an agent by a method; `prosegym train METHOD --help` tells its settings",
        epilog=_methods(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("method", metavar="METHOD")  # what follows it never comes here: see `main`
    train.set_defaults(command=lambda args: _train(args.method, []))

    evaluate = verb("evaluate", _evaluate, "play a panel with an agent and keep every episode")
    evaluate.set_defaults(resumes=True)
    _agent_arguments(evaluate)
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--env", metavar="ID")
    what.add_argument("--panel", help="a panel's name (`prosegym list`) or file")
    what.add_argument("--suite", help="a suite's name: every panel of it, each in a folder below RUN")
    evaluate.add_argument("--split", help="with --env: the split whose panel is played (default: the last)")
    evaluate.add_argument("--tasks", type=int, help="play only the first N tasks: another panel, named so")
    evaluate.add_argument("--attempts", type=int, default=1)
    evaluate.add_argument("--workers", type=int, default=0, help="processes (default: this one alone)")
    evaluate.add_argument("--ray", type=int, default=0, metavar="ACTORS", help="actors on a Ray cluster")
    evaluate.add_argument("--ray-gpus", type=float, default=0.0, help="share of a GPU that each actor takes")
    evaluate.add_argument("--step-limit", type=float, help="seconds, with --workers (default: 60)")
    evaluate.add_argument(
        "--episode-limit", type=float, help="seconds, with --workers or --ray (default: 1800)"
    )
    evaluate.add_argument("--out", type=Path, required=True, metavar="RUN")
    _env_arguments(evaluate)

    compare = verb("compare", _compare, "compare two runs on the same panel, paired by task")
    compare.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    compare.add_argument("--floor", type=Path, metavar="RUN", help="with --ceiling: scores between the two")
    compare.add_argument("--ceiling", type=Path, metavar="RUN", help="usually the expert's run")

    table = verb(
        "table", _table_of, "write a table of agents on one panel in Markdown, an agent's runs together"
    )
    table.add_argument(
        "agents", nargs="+", metavar="NAME=RUN[,RUN...]", help="the others are compared with the first"
    )

    replay = verb("replay", _replay, "play a run's actions again and compare every observation")
    replay.add_argument("run", type=Path, metavar="RUN")

    view = verb("view", _view, "open a local page of a run, or of two side by side", as_json=False)
    view.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    view.add_argument("--port", type=int, default=0, help="default: a free one")
    view.add_argument("--no-browser", action="store_true", help="print the address only")

    plot = verb("plot", _plot, "draw runs and trainings: success, profile, cost, learning curves")
    plot.add_argument("folders", nargs="+", type=Path, metavar="RUN")
    plot.add_argument("--out", type=Path, required=True, metavar="DIR", help="PNG and SVG files are put here")

    submit = verb("submit", _submit, "make a submission folder from runs")
    submit.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    submit.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    submit.add_argument("--card", type=Path, metavar="FILE.json", help="the model card's fields")
    submit.add_argument("--name", help="the agent's name on the board")
    submit.add_argument("--track", help="zero-shot, few-shot, trained, retry or reference")
    submit.add_argument(
        "--trained-on", action="append", default=[], type=Path, metavar="FILE.jsonl|RUN",
        help="trajectories it was trained on: checked against the panels",
    )  # fmt: skip
    submit.add_argument("--xz", action="store_true", help="compress the episodes")

    verify = verb("verify", _verify, "replay a submission and recompute every number")
    verify.add_argument("folder", type=Path, metavar="FOLDER")
    verify.add_argument("--workers", type=int, help="processes (default: one a processor)")

    board = family("board", "build the leaderboard")
    build = verb("build", _board_build, "build the static site from the verified submissions", of=board)
    build.add_argument("--submissions", type=Path, default=Path("submissions"))
    build.add_argument("--out", type=Path, required=True, metavar="SITE")

    ledger = family("ledger", "the public record of rows")
    check = verb("check", _ledger_check, "check that every entry is chained to the one before", of=ledger)
    check.add_argument("file", type=Path, nargs="?", default=Path("submissions/ledger.jsonl"))
    check.add_argument(
        "--head", metavar="SHA256", help="an entry that must be there: `ledger` in the board's latest.json"
    )

    panel = family("panel", "make, show and compare panels")
    show = verb("show", _panel_show, "print a panel's tasks", of=panel)
    show.add_argument("panel")
    diff = verb("diff", _panel_diff, "say what two panels differ in", of=panel)
    diff.add_argument("panels", nargs=2, metavar="PANEL")
    make = verb("make", _panel_make, "write a panel of a split's first tasks", of=panel)
    make.add_argument("--env", required=True, metavar="ID")
    make.add_argument("--split", required=True)
    make.add_argument("--count", type=int)
    make.add_argument("--name", default="", help="what the panel is called (default: the split)")
    _env_arguments(make)
    make.add_argument("--about", default="first tasks of the split")
    make.add_argument("--out", type=Path, required=True, metavar="FOLDER")

    serve = verb("serve", _serve, "serve an environment in OpenEnv's protocol", as_json=False)
    serve.add_argument("--env", required=True, metavar="ID")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--sessions", type=int, default=64, help="most clients at once (default: 64)")
    _env_arguments(serve)

    verb("doctor", _doctor, "say what works on this machine and how to mend what does not")
    return parser


def _env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reward", help="reward mode: sparse, progress, potential, expert")
    parser.add_argument(
        "--env-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the environment (JSON value)",
    )


def _agent_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--agent",
        required=True,
        help="null, random, expert[:NAME], house, novice, react, reflexion, or a trained DIR",
    )
    parser.add_argument("--model", help="a model's name, folder or endpoint URL, for react and reflexion")
    parser.add_argument(
        "--agent-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the agent (JSON value)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64, help="episodes that are live at once")


# Reading arguments


def _pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE arguments; a value that is not JSON is a text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ProsegymError(f"{pair!r} is not NAME=VALUE")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            found[name.replace("-", "_")] = value
    return found


def _env_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    kwargs = _pairs(args.env_arg)
    if "split" in kwargs and "split" in args:  # which alone says whose tasks are played
        fixed = getattr(args, "panel", None) or getattr(args, "suite", None)
        mend = "a panel or a suite has its own: leave it out" if fixed else f"give --split {kwargs['split']}"
        raise BadOption(f"the split is no --env-arg here; {mend}")
    if args.reward is not None:
        kwargs["reward"] = args.reward
    return kwargs


def _agent(args: argparse.Namespace, processes: int = 1) -> Agent:
    """The agent; `processes` is in how many it is made, which share an endpoint's requests a minute."""
    from prosegym.evaluation.agents import built_in

    plain = _plain(args)
    numbered = (Path(args.agent) / "sb3.json").is_file()
    if (plain or numbered) and (args.model or args.agent_arg):
        raise BadOption(f"agent {args.agent} takes neither --model nor --agent-arg; leave them out")
    if plain:
        return built_in(args.agent)
    if numbered:
        return _baselines("sb3").NumberedPolicy(args.agent)  # type: ignore[no-any-return]
    settings = _pairs(args.agent_arg)
    if isinstance(limit := settings.get("per_minute"), (int, float)):
        settings["per_minute"] = limit / processes
    return _baselines("agents").load(args.agent, args.model, settings=settings)  # type: ignore[no-any-return]


def _plain(args: argparse.Namespace) -> bool:
    from prosegym.evaluation.agents import BUILT_IN

    return args.agent.partition(":")[0] in BUILT_IN


def _maker(args: argparse.Namespace) -> Callable[[], Agent] | None:
    """What makes the agent in another process; None for one that is sent there."""
    return None if _plain(args) else partial(_agent, args, max(args.ray or args.workers, 1))


def _baselines(module: str) -> Any:
    """A module of the baselines layer; says which extra is missing where it cannot be imported."""
    import importlib

    try:
        return importlib.import_module(f"prosegym.baselines.{module}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("prosegym"):
            raise
        raise ProsegymError(f'{error.name} is not installed; run `pip install "prosegym[train]"`') from error


def _text_env(env_id: str, **kwargs: Any) -> TextEnv:
    from prosegym.envs.core import unwrapped
    from prosegym.evaluation.evaluate import make_env

    return unwrapped(make_env(env_id, **kwargs))


# Printing


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"


def _print_summary(run: Run, summary: Summary) -> None:
    from prosegym.evaluation.metrics import dollars, last_trials

    c, panel = run.conditions, run.conditions.panel
    print(f"{c.agent} on {panel.name} ({panel.tasks} tasks x {c.attempts}, panel {panel.sha256[:12]})")
    rows = [("", "mean", "95 % interval")]
    for name, e in (("success", summary.success), ("score", summary.score), ("progress", summary.progress)):
        rows.append((name, _number(e.value), f"[{_number(e.low)}, {_number(e.high)}]"))
    _table(rows)
    if len(summary.types) > 1:
        _table(
            [("", "tasks", "success", "score")]
            + [(r.task_type, str(r.tasks), str(r.success), str(r.score)) for r in summary.types]
        )
    print(
        f"episodes {summary.played}/{summary.planned}, errors {summary.errors}, "
        f"invalid actions {100 * summary.invalid_rate:.1f} %, "
        f"unreadable {100 * summary.parse_failure_rate:.1f} %, steps {_number(summary.steps, 1)}, "
        f"steps to success {_number(summary.steps_to_success, 1)}, "
        f"tokens read {_number(summary.prompt_tokens, 0)}, written {_number(summary.completion_tokens, 0)}, "
        f"{_number(summary.seconds, 2)} s from an episode's start to its end"
    )
    if summary.errors:
        last = (group[-1] for group in last_trials(run.finished).values())
        ((why, n),) = Counter(t.error or "" for t in last if t.ended == "error").most_common(1)
        print(f"the commonest error ({n} of {summary.errors}): {' '.join(why.split())[:300]}")
    if summary.stopped:
        print(f"stopped by the agent: {', '.join(f'{why} {n}' for why, n in summary.stopped.items())}")
    if summary.cost is None:
        print("cost not known: no price file (--agent-arg prices=FILE), or tokens that nobody counted")
    elif summary.cost and summary.cost_per_success is not None:
        each = summary.cost_per_success  # nan where none is solved
        print(f"cost {dollars(summary.cost)}, {dollars(each) if each == each else '-'} a solved episode")
    if summary.attempts > 1:
        shares = [f"pass@{k} {_number(v)}" for k, v in summary.pass_at.items()]
        shares += [f"pass^{k} {_number(v)}" for k, v in summary.pass_hat.items()]
        print(", ".join([*shares, f"flips {_number(summary.flip_rate)}"]))
    if summary.trials > 1:
        print(
            f"{summary.trials} trials with the success signal: first {_number(summary.initial)}, "
            f"last {_number(summary.final)}, mean {_number(summary.average)}"
        )


# Commands


def _methods() -> str:
    from prosegym.baselines import METHODS, SB3

    told = METHODS | {", ".join(SB3): "Stable-Baselines3 over numbered actions"}
    return "\n".join(["methods:", *(f"  {name}: {about}" for name, about in told.items())])


def _list(args: argparse.Namespace) -> int:
    from prosegym.baselines import METHODS, SB3
    from prosegym.baselines.agents import AGENTS
    from prosegym.envs import data, panels
    from prosegym.evaluation import suites

    sets = {name: data.dataset(name).about for name in data.DATASETS}
    benchmarks = [suites.load(name) for name in suites.names()]
    look_around()
    if args.json:
        _print_json(
            {
                "environments": list(ENVS),
                "agents": AGENTS,
                "methods": [*METHODS, *SB3],
                "data": sets,
                "panels": panels.names(),
                "suites": {
                    suite.name: {"about": suite.about, "panels": [entry.panel for entry in suite.entries]}
                    for suite in benchmarks
                },
            }
        )
        return 0
    print("Environments (`prosegym info ID`)")
    for env_id in ENVS:
        print(f"  {env_id}")
    print(f"Agents (`prosegym evaluate --agent NAME`)\n  {', '.join(AGENTS)}, or a trained folder")
    print(f"Methods (`prosegym train NAME`)\n  {', '.join([*METHODS, *SB3])}")
    print("Official data (`prosegym data get NAME`)")
    for name, about in sets.items():
        print(f"  {name}{' [here]' if data.here(name) else ''}: {about}")
    print("Panels (`prosegym panel show NAME`)")
    for name in panels.names():
        print(f"  {name}")
    print("Suites (`prosegym evaluate --suite NAME`)")
    for suite in benchmarks:
        print(f"  {suite.name}: {suite.about}\n    {', '.join(entry.panel for entry in suite.entries)}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from prosegym.envs import lookup, panels

    env = _text_env(args.env)
    sizes = {}
    for split in env.splits:
        try:
            sizes[split] = len(env.tasks(split))
        except ProsegymError as error:
            print(f"prosegym: {error}", file=sys.stderr)
            break
    prefix = args.env.removeprefix("prosegym/") + "/"
    facts = {
        "id": args.env,
        "about": lookup.summary(type(env)),
        "facts": lookup.facts(type(env)),
        "instruction": env.instruction,
        "splits": sizes,
        "experts": {name: "privileged" if flag else "honest" for name, flag in env.experts.items()},
        "max_steps": env.max_steps,
        "data": env.data,
        "extra": env.extra,
        "panels": [name for name in panels.names() if name.startswith(prefix)],
    }
    if args.json:
        _print_json(facts)
        return 0
    print(f"{args.env}\n\n{facts['about']}\n")
    for name, text in facts["facts"].items():
        print(f"{name}: {text}")
    print(f"\nInstruction shown to agents:\n{env.instruction}\n")
    for name in ("splits", "experts", "max_steps", "data", "extra", "panels"):
        print(f"{name}: {facts[name] or 'none'}")
    return 0


def _play(args: argparse.Namespace) -> int:
    from prosegym.envs.core import unwrapped
    from prosegym.evaluation import agents
    from prosegym.evaluation.evaluate import make_env
    from prosegym.evaluation.play import Terminal
    from prosegym.evaluation.rollout import Job, rollout

    kwargs = _env_kwargs(args) | ({"split": args.split} if args.split else {})
    env = make_env(args.env, **kwargs)
    at_least(0, seed=args.seed)
    task_id = args.task or env.reset(seed=args.seed)[1]["task_id"]
    terminal = Terminal(unwrapped(env))
    try:
        (episode,) = rollout(lambda: env, agents.Human(terminal.ask), [Job(task_id)], batch_size=1, retries=0)
    except KeyboardInterrupt:
        terminal.show("\nbye", "2")
        return 0
    terminal.show(f"\n{episode.final_observation}", "1")
    if episode.ended == "error":  # nothing is tried again: a person's steps would be gone
        raise ProsegymError(f"the game broke off after {len(episode.steps)} steps: {episode.error}")
    end = "solved" if episode.success else "not solved"
    style = "32" if episode.success else "31"
    terminal.show(f"{end}: score {episode.score:.2f} in {len(episode.steps)} steps", style)
    return 0


def _data_get(args: argparse.Namespace) -> int:
    from prosegym.envs import data
    from prosegym.envs.home import alone, writable

    found = data.dataset(args.name)
    if not args.json:
        print(f"{args.name}: {found.about}")
    was_here = data.here(args.name)
    try:
        with alone(writable("downloads") / f"{args.name}.lock"):
            if args.source is None and not was_here and data.here(args.name):
                folder = data.folder(args.name)  # another process got it meanwhile
            else:
                folder = found.get(args.source)
    except OSError as error:
        where = error.filename or data.folder(args.name)
        raise ProsegymError(f"{where}: {error.strerror}; make room or set PROSEGYM_HOME") from error
    if args.json:
        _print_json({"name": args.name, "about": found.about, "folder": str(folder)})
    else:
        print(f"{args.name} is at {folder}")
    return 0


def _data_list(args: argparse.Namespace) -> int:
    from prosegym.envs import data

    sets = [
        {"name": name, "here": data.here(name), "about": data.dataset(name).about} for name in data.DATASETS
    ]
    if args.json:
        _print_json(sets)
        return 0
    for found in sets:
        print(f"{found['name']}: {'here' if found['here'] else 'not here'}; {found['about']}")
    return 0


def _collect(args: argparse.Namespace) -> int:
    from prosegym.evaluation.collect import collect

    kept = collect(
        _agent(args),
        args.env,
        args.split,
        args.out,
        episodes=args.episodes,
        seed=args.seed,
        batch_size=args.batch_size,
        successes=args.successes,
        env_kwargs=_env_kwargs(args),
        progress=not args.json,
    )
    if args.json:
        _print_json({"file": str(args.out), "episodes": kept})
    else:
        print(f"{kept} episodes in {args.out}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from prosegym.evaluation.convert import convert

    rows = convert(args.files, args.to, args.out)
    if args.json:
        _print_json({"out": args.out, "rows": rows})
    else:
        print(f"{rows} rows in {args.out}")
    return 0


def _train(method: str, argv: list[str]) -> int:
    module = "sb3" if method.startswith("sb3") else "train"
    return int(_baselines(module).main(method, argv))


def _evaluate(args: argparse.Namespace) -> int:
    from prosegym.envs import panels
    from prosegym.evaluation.evaluate import evaluate

    if args.split and not args.env:
        raise BadOption("--split goes with --env; a panel or a suite has its own split: leave it out")
    if args.step_limit is not None and not args.workers:
        raise BadOption("--step-limit goes with --workers; give --workers N, too, or leave it out")
    if args.episode_limit is not None and not (args.workers or args.ray):
        raise BadOption(
            "--episode-limit goes with --workers or --ray; give one of them, too, or leave it out"
        )
    if args.suite is not None:
        return _evaluate_suite(args)
    if args.panel is not None:
        panel = panels.load(args.panel)
    else:
        env = _text_env(args.env)
        panel = panels.of_split(args.env, args.split or env.splits[-1])
    if args.tasks is not None:
        panel = panel.head(args.tasks)
    run = evaluate(
        _agent(args),
        panel,
        args.out,
        attempts=args.attempts,
        env_kwargs=_env_kwargs(args),
        **_how(args),
    )
    summary = run.summary()
    if args.json:
        _print_json({"conditions": run.conditions, "summary": summary})
    else:
        _print_summary(run, summary)
    return 0


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `evaluate` that a suite leaves open, too."""
    from prosegym.evaluation.workers import Limits

    limits = {"step": args.step_limit, "episode": args.episode_limit}
    return {
        "seed": args.seed,
        "batch_size": args.batch_size,
        "workers": args.workers,
        "limits": Limits(**{name: seconds for name, seconds in limits.items() if seconds is not None}),
        "ray_actors": args.ray,
        "ray_gpus": args.ray_gpus,
        "make_agent": _maker(args),
        "progress": not args.json,
    }


def _evaluate_suite(args: argparse.Namespace) -> int:
    from prosegym.evaluation import suites

    suite = suites.load(args.suite)
    if args.attempts != 1 or args.tasks is not None or _env_kwargs(args):
        raise ProsegymError(
            "a suite fixes its tasks, attempts and environment arguments; leave those options out"
        )
    runs = suites.play(_agent(args), suite, args.out, **_how(args))
    found = suites.summarise(suite, runs)
    if args.json:
        _print_json(found)
        return 0
    retried = found.trials > 1
    told = f"; {found.trials} trials with the success signal, of which the last counts" if retried else ""
    print(f"{found.agent} on suite {suite.name} ({suite.tier} tasks){told}")
    rows = [["panel", "success", "score", *["first score", "mean score"] * retried, "errors"]]
    for name, score in found.scores.items():
        trials = [_number(found.initial[name]), _number(found.average[name])] * retried
        rows.append([name, str(found.successes[name]), str(score), *trials, str(found.errors[name])])
    _table(rows)
    print(f"inter-quartile mean of the panels' scores: {_number(found.interquartile_mean)}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from prosegym.evaluation.compare import compare, normalised_score
    from prosegym.evaluation.runs import Run

    if (args.floor is None) != (args.ceiling is None):
        raise ProsegymError("--floor and --ceiling go together: usually the runs of `random` and `expert`")
    a, b = (Run.read(folder) for folder in args.runs)
    found = compare(a, b)
    scale = [Run.read(folder) for folder in (args.floor, args.ceiling) if folder is not None]
    normalised = [normalised_score(run, *scale) for run in (a, b)] if scale else None
    if args.json:
        _print_json(found._asdict() | {"verdict": found.verdict, "normalised": normalised})
        return 0
    print(f"A = {a.conditions.agent} ({a.folder}), B = {b.conditions.agent} ({b.folder})")
    print(f"panel {a.conditions.panel.name}")
    _say_what_differs([("A", a), ("B", b)])
    rows = [("", "A - B", "95 % interval")]
    for name in ("success", "score", "progress"):
        e = getattr(found, name)
        rows.append((name, f"{e.value:+.3f}", f"[{e.low:+.3f}, {e.high:+.3f}]"))
    _table(rows)
    print(
        f"first attempts: A alone solves {found.fixed}, B alone {found.broken}, "
        f"exact McNemar p = {found.p:.3g}"
    )
    if normalised is not None:
        print(f"score between floor (0) and ceiling (1): A {normalised[0]:.3f}, B {normalised[1]:.3f}")
    print(found.verdict)
    return 0


def _say_what_differs(played: Sequence[tuple[str, Run]]) -> None:
    """A line for each condition that is not the same in all of these runs of one panel."""
    for what in ("env_kwargs", "env_conditions", "attempts", "trials"):
        found = [(name, getattr(run.conditions, what)) for name, run in played]
        if any(value != found[0][1] for _, value in found):
            told = dict.fromkeys(f"{name} {value}" for name, value in found)
            print(f"they differ in {what}: {', '.join(told)}")


def _table_of(args: argparse.Namespace) -> int:
    from prosegym.evaluation.compare import table
    from prosegym.evaluation.metrics import measure
    from prosegym.evaluation.runs import Run

    agents: dict[str, list[Run]] = {}
    for text in args.agents:
        name, _, runs = text.partition("=")
        folders = runs.split(",")
        if not name or not all(folders) or name in agents:
            raise ProsegymError(f"{text!r} is not NAME=RUN[,RUN...], each name once")
        agents[name] = [Run.read(folder) for folder in folders]
    lines = table(agents)
    if args.json:
        _print_json([line._asdict() for line in lines])
        return 0
    played = [(name, run) for name, runs in agents.items() for run in runs]
    _say_what_differs(played)
    panel = played[0][1].conditions.panel
    print(f"{panel.name}, {panel.tasks} tasks, 95 % intervals over tasks\n")
    difference = f"{measure(panel.env_id)} minus {lines[0].name}"
    print(f"| agent | runs | success | score | {difference} |\n|---|---|---|---|---|")
    for line in lines:
        d = line.difference
        minus = "" if d is None else f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        print(f"| {line.name} | {line.runs} | {line.success} | {line.score} | {minus} |")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from prosegym.evaluation.evaluate import make_env
    from prosegym.evaluation.replay import replay_all, settled_otherwise
    from prosegym.evaluation.runs import Run, other_versions

    run = Run.read(args.run)
    env = make_env(run.conditions.env_id, **run.conditions.env_kwargs)
    if other := settled_otherwise(env, run.conditions.env_conditions):
        print(f"prosegym: {other}", file=sys.stderr)
    differences = replay_all(env, run.finished)
    env.close()
    for other in other_versions(run.conditions.versions) if differences else ():
        print(f"prosegym: {other}", file=sys.stderr)
    if args.json:
        _print_json({"episodes": len(run.finished), "differences": [d._asdict() for d in differences]})
    else:
        for difference in differences[:10]:
            print(difference)
        print(f"{len(run.finished) - len(differences)} of {len(run.finished)} episodes replay as recorded")
    return 1 if differences else 0


def _view(args: argparse.Namespace) -> int:
    import webbrowser

    from prosegym.evaluation.view import Index, Server

    if len(args.runs) > 2:
        raise ProsegymError("view shows one run, or two side by side")
    with Server([Index(run) for run in args.runs], args.port) as server:
        print(f"{server.url} (Ctrl-C stops)", flush=True)
        if not args.no_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def _plot(args: argparse.Namespace) -> int:
    from prosegym.evaluation.plots import plot

    files = [str(path) for path in plot(args.folders, args.out)]
    if args.json:
        _print_json({"files": files})
    else:
        print("\n".join(files))
    return 0


def _submit(args: argparse.Namespace) -> int:
    from prosegym.leaderboard import submission
    from prosegym.leaderboard.submit import below_minimum, submit

    card = _card(args)
    folder = submit(args.runs, args.out, card, trained_on=args.trained_on, compress=args.xz)
    lacking = submission.missing(card)
    unranked = below_minimum(folder)
    if args.json:
        _print_json({"folder": str(folder), "missing": lacking, "unranked": unranked})
        return 0
    for line in unranked:
        print(f"the board will show it without a rank: {line}")
    if lacking:
        print(f"the card says nothing of: {', '.join(lacking)} (add them in a --card file)")
    print(f"submission at {folder}; check it with `prosegym verify {folder}`")
    return 0


def _card(args: argparse.Namespace) -> Any:
    """The model card: what the file and the options say, and what the first run tells for the rest."""
    import msgspec

    from prosegym.evaluation.runs import Run
    from prosegym.leaderboard.submission import Card, Track
    from prosegym.leaderboard.submit import default_card

    said: dict[str, Any] = {}
    if args.card is not None:
        try:
            said = msgspec.json.decode(args.card.read_bytes(), type=dict[str, Any])
        except (OSError, *UNREADABLE) as error:
            raise ProsegymError(f"cannot read the card {args.card}: {error}") from error
    given = {k: v for k, v in (("agent", args.name), ("track", args.track)) if v is not None}
    found = msgspec.to_builtins(default_card([Run.read(run) for run in args.runs])) | said | given
    if found["track"] not in get_args(Track):
        raise UnknownName("track", found["track"], get_args(Track))
    try:
        return msgspec.convert(found, Card)
    except msgspec.ValidationError as error:
        raise ProsegymError(f"the card is not right: {error}") from error


def _verify(args: argparse.Namespace) -> int:
    from prosegym.leaderboard.verify import verify

    report = verify(args.folder, workers=args.workers, progress=not args.json)
    if args.json:
        _print_json(report)
    else:
        for problem in report.problems:
            print(f"refused: {problem}")
        for flag in report.flags:
            print(f"look at: {flag}")
        for run, lack in report.unranked:
            print(f"unranked: {run}: {lack}")
        if report.ok:
            print(f"verified: {report.episodes} episodes replay, and every number is what they give")
    return 0 if report.ok else 1


def _board_build(args: argparse.Namespace) -> int:
    from prosegym.leaderboard.board import build

    page = build(args.submissions, args.out, progress=not args.json)
    refused = json.loads((page.parent / "latest.json").read_bytes())["refused"]
    if args.json:
        _print_json({"page": str(page), "refused": refused})
        return 0
    for left_out in refused:
        print(f"left out: {left_out['folder']!r}: {left_out['reason']}")
    print(f"open {page.resolve().as_uri()}")
    return 0


def _ledger_check(args: argparse.Namespace) -> int:
    from prosegym.leaderboard import ledger

    if not args.file.is_file():
        raise ProsegymError(f"{args.file} is no file; name the ledger, FOLDER_OF_SUBMISSIONS/ledger.jsonl")
    entries = ledger.check(args.file, head=args.head)
    if args.json:
        _print_json({"file": str(args.file), "entries": len(entries)})
        return 0
    print(f"{args.file}: {len(entries)} entries, each chained to the one before")
    return 0


def _panel_show(args: argparse.Namespace) -> int:
    from prosegym.envs import panels

    panel = panels.load(args.panel)
    if args.json:
        _print_json(panel)
        return 0
    print(
        f"{panel.name}: {panel.env_id}, split {panel.split}, {len(panel.tasks)} tasks, sha256 {panel.sha256}"
    )
    print(panel.about)
    for task_id, sha256 in panel.tasks:
        print(f"{sha256[:12]}  {task_id}")
    return 0


def _panel_diff(args: argparse.Namespace) -> int:
    from prosegym.envs import panels

    first, second = (panels.load(name) for name in args.panels)
    a, b = dict(first.tasks), dict(second.tasks)
    found = {
        "only in the first": sorted(a.keys() - b.keys()),
        "only in the second": sorted(b.keys() - a.keys()),
        "differs": sorted(task_id for task_id in a.keys() & b.keys() if a[task_id] != b[task_id]),
    }
    whole = {
        "the same tasks in another order": a == b and first.tasks != second.tasks,
        "of another environment": first.env_id != second.env_id,
    }
    if args.json:
        _print_json({state.replace(" ", "_"): value for state, value in (found | whole).items()})
    else:
        for state, task_ids in found.items():
            for task_id in task_ids:
                print(f"{state}: {task_id}")
        for state, holds in whole.items():
            if holds:
                print(state)
    return 0 if first.sha256 == second.sha256 else 1


def _panel_make(args: argparse.Namespace) -> int:
    from prosegym.envs import panels

    env = _text_env(args.env, **_env_kwargs(args))
    panel = panels.make(env, args.split, about=args.about, name=args.name, count=args.count)
    try:
        path = panels.save(panel, args.out)
    except OSError as error:
        raise ProsegymError(f"cannot write {args.out}: {error.strerror}; choose another --out") from error
    if args.json:
        _print_json({"file": str(path), "tasks": len(panel.tasks), "sha256": panel.sha256})
    else:
        print(f"{path}: {len(panel.tasks)} tasks, sha256 {panel.sha256}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    try:
        from prosegym.evaluation.serve import server
    except ModuleNotFoundError as error:
        raise ProsegymError(f'{error.name} is not installed; run `pip install "prosegym[serve]"`') from error
    serve = server(args.env, _env_kwargs(args), host=args.host, port=args.port, sessions=args.sessions)
    host = f"[{args.host}]" if ":" in args.host else args.host
    print(f"{args.env} at http://{host}:{args.port}; Ctrl-C stops", flush=True)
    with suppress(KeyboardInterrupt):
        serve()
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from prosegym.evaluation.doctor import examine

    findings = examine()
    if args.json:
        _print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'mend'}  {finding.what}: {finding.state}")
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1
