"""The recipes: lessons are what the agent will meet, and every published number names a command that is one."""

from __future__ import annotations

import itertools
import json
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from prosegym.baselines.lm import Request, Scripted  # noqa: E402
from prosegym.baselines.react import ReAct  # noqa: E402
from prosegym.baselines.reflexion import REFLECT  # noqa: E402
from prosegym.cli import _parser  # noqa: E402
from prosegym.envs.alfworld.experts import Searcher  # noqa: E402
from prosegym.envs.core import TextEnv  # noqa: E402
from prosegym.envs.lookup import env_class  # noqa: E402
from prosegym.envs.trajectory import Message  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402
from prosegym.leaderboard import ledger  # noqa: E402
from prosegym.leaderboard.submission import file_digest, read  # noqa: E402
from prosegym.leaderboard.verify import verify  # noqa: E402

RECIPES = Path(__file__).parents[1] / "recipes"
RESULTS = sorted((RECIPES / "results").glob("*.json"))
HOUSEHOLD = "prosegym/Household-v1"


def test_lessons_are_the_conversations_that_the_agent_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons

    talks = lessons.play(lessons.Source(HOUSEHOLD, 30), 0)
    retries = [talk for talk in talks if "You have tried this task before" in talk[0].content]
    slips = [m for talk in talks for m in talk if m.role == "assistant" and not m.trainable]
    assert len(talks) >= 28 and 3 < len(retries) < 20 and slips
    assert all("Plan: " in talk[0].content for talk in retries)

    env = make_env(HOUSEHOLD, split="train")
    tasks = env.unwrapped.tasks("train")  # type: ignore[attr-defined]
    starts = {env.reset(options={"task_id": t.id})[0]: t.id for t in tasks[:30]}
    for talk in [retries[0], next(t for t in talks if t not in retries)]:
        first = talk[0].content
        task = next(task for start, task in starts.items() if first.endswith(start))
        notes = first.partition("What you noted then:\n")[2].partition("\n\n")[0].splitlines()
        memory = tuple(line.partition(". ")[2] for line in notes)
        model = Scripted(lambda request, talk=talk: talk[len(request.messages)].content)  # type: ignore[misc]
        agent = ReAct(model, lessons.AGENT)
        (played,) = rollout(lambda: make_env(HOUSEHOLD), agent, [Job(task, memory=memory)])
        assert played.success
        assert [(m.role, m.content) for m in played.messages] == [(m.role, m.content) for m in talk]


def test_lessons_with_a_student_teach_what_the_expert_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons

    def first_allowed(request: Request) -> str:
        return (request.allowed or [""])[0]

    source = lessons.Source(HOUSEHOLD, 20, first=500)
    talks = lessons.play(source, 0, student=Scripted(first_allowed))
    env: Any = make_env(HOUSEHOLD, split="train")
    tasks = [t.id for t in env.unwrapped.tasks("train")[500:520]]
    starts = {env.reset(options={"task_id": task})[0]: task for task in tasks}
    assert len(talks) == 20  # the games that were not solved too: what is learnt of them is right
    learnt = own = 0
    for talk in talks:
        answers = [m for m in talk if m.role == "assistant"]
        learnt, own = learnt + sum(m.trainable for m in answers), own + len(answers)
        if "You have tried this task before" in talk[0].content:
            continue
        observation, info = env.reset(options={"task_id": starts[talk[0].content]})
        expert = Searcher("move")
        for answer in answers:
            advised = expert.act(observation, info)
            assert answer.trainable == (answer.content == advised)
            expert.did(answer.content)
            observation, _, _, _, info = env.step(answer.content)
    assert 0.1 * own < learnt < 0.6 * own


def test_lessons_of_textworld_and_of_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textworld")
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons

    source = lessons.Source(lessons.TEXTWORLD[1], 16, second_tries=0.5, notes="too", file=16)
    silent = Scripted(lambda request: "")
    talks = lessons.play(source, 0, reader=silent)
    asked = [talk for talk in talks if talk[0].content.startswith(REFLECT[:40])]
    retries = [talk for talk in talks if "You have tried this task before" in talk[0].content]
    assert 1 < len(asked) <= 12 and 1 < len(retries) < 14 and len(talks) - len(asked) == 16
    noted = {line for talk in retries for line in talk[0].content.splitlines() if line[:3] in ("1. ", "2. ")}
    for (prompt, note), told in itertools.product(asked, ("How it ended", "It ran out of steps")):
        assert told in prompt.content and note.trainable
        assert any(note.content in line for line in noted)  # what is written is what the next try reads
    for talk in talks:
        if talk not in asked:
            objective = talk[0].content.rpartition("\n\n-= ")[0].rpartition("\n\n")[2]
            assert "Welcome" not in objective and all(m.content.endswith(objective) for m in talk[2::2])
            assert talk[-1].content.startswith("take ")
    assert lessons.play(source, 0) == [talk for talk in talks if talk not in asked]


def test_lessons_of_kitchens_are_done_by_the_recipe_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textworld_express")
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons
    from pretrain import ROOMS

    source = lessons.Source(lessons.EXPRESS, 1_020, variants=ROOMS[1:3], file=20)  # two foods, then three
    unknown = 0
    for chunk, foods in ((0, 2), (50, 3)):
        talks = lessons.play(source, chunk)
        assert len(talks) == 20
        for talk in talks:
            read = next(m.content for m in talk if "Ingredients:" in m.content)
            listed, directions = read.split("Ingredients:")[1].split("Directions:")
            recipe = [line.strip() for line in listed.splitlines() if line.strip()]
            assert len(recipe) == foods
            did = [m.content for m in talk if m.role == "assistant"]
            assert all(f"take {food}" in did for food in recipe) and did[-1] == "eat meal"
            unknown += sum(food not in lessons.FOODS for food in recipe)
            for line in directions.strip().splitlines():
                way, _, food = line.strip().partition(" the ")
                told = {"fry": f"cook {food} in stove", "roast": f"cook {food} in oven"}
                if way in ("chop", "slice", "dice", *told):
                    assert told.get(way, f"{way} {food}") in did
    assert 50 < unknown < 95  # of 100, three in four of which get another name


def test_ways_to_cut_and_to_cook_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons

    told = "chop the carrot, fry the carrot: chopped, sliced, diced. A pork chop fried on the stove, grilled"
    cuts, heats = Counter[str](), Counter[str]()
    for seed in range(300):
        (message,) = lessons.renamed([Message("user", told)], random.Random(seed))
        found = re.fullmatch(
            r"(\w+) the (.*), (\w+) the \2: (\w+), (\w+), (\w+)\. A .* (\w+) on the (\w+), grilled",
            message.content,
        )
        assert found
        cut, _, heat, *chopped_sliced_diced, heated, place = found.groups()
        assert sorted(chopped_sliced_diced) == ["chopped", "diced", "sliced"]
        assert (cut, chopped_sliced_diced[0]) in lessons.CUTS
        assert (place, heat, heated) in [way[:3] for way in lessons.HEATS]
        cuts[cut] += 1
        heats[heat] += 1
    assert len(cuts) == 3 and min(cuts.values()) > 70 and min(heats.values()) > 120


def test_lessons_of_further_kitchens(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textworld")
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import kitchens
    import lessons

    own = gymnasium.make("prosegym/TextWorld-Cooking-v1").unwrapped.tasks("train")
    tasks = kitchens.Kitchens().tasks("train")
    assert [task.id for task in tasks[: len(own)]] == [task.id for task in own]
    assert len({task.id for task in tasks}) == len(tasks) == 1_700
    source = lessons.Source(lessons.KITCHENS, 1_000, len(own), second_tries=0.0, file=2)
    first, second = lessons.play(source, 0)
    for talk in (first, second):
        assert talk[0].content.startswith("You are hungry!") and talk[-1].content == "eat meal"


def test_practice_is_on_games_that_were_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import lessons
    from pretrain import SCALES

    train = gymnasium.make(lessons.HOUSEHOLD).unwrapped.tasks("train")
    for scale in SCALES.values():
        read = {source.env_id: source.first + source.tasks for source in scale.sources}
        for source in (source for round_ in scale.practice for source in round_.sources):
            assert source.first >= read[source.env_id]
            if source.env_id == lessons.HOUSEHOLD:  # beyond its end, tasks come again
                assert source.first + source.tasks <= len(train)


def test_a_house_model_keeps_its_scale_and_seed_and_measures_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    from pretrain import measured, settle

    out, curve = tmp_path / "house", tmp_path / "house" / "validation.jsonl"
    settle(out, "cpu", 0)
    assert not measured(curve, "pretrain", 600)
    settle(out, "cpu", 0)
    for scale, seed in (("cpu", 1), ("tiny", 0)):
        with pytest.raises(SystemExit, match="holds another training .*use another OUT"):
            settle(out, scale, seed)
    curve.write_text(json.dumps({"phase": "pretrain", "step": 600, "loss": 1.0}) + "\n")
    found = {
        (phase, step)
        for phase in ("pretrain", "practice-1")
        for step in (60, 600)
        if measured(curve, phase, step)
    }
    assert found == {("pretrain", 600)}


def test_a_submission_that_is_not_in_the_ledger_is_verified_and_entered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first command ends between writing the folder and verifying it."""
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    import board

    def ends(made: Path) -> None:
        raise KeyboardInterrupt

    def here(made: Path) -> Any:
        seen.append(made.name)
        return verify(made, workers=0, progress=False)

    seen: list[str] = []
    out, submissions = tmp_path / "out", tmp_path / "submissions"
    scale = {"panels": ["Household-v1/test"], "tasks": 2, "env": "Household-v1"}
    (out / "runs").mkdir(parents=True)
    (out / "results.json").write_text(json.dumps({"scale": scale, "model": "house"}))
    monkeypatch.setattr(board, "FLOORS", ("null", "expert"))
    monkeypatch.setattr(sys, "argv", ["board.py", str(out), str(submissions)])
    monkeypatch.setattr(board, "verify", ends)
    with pytest.raises(KeyboardInterrupt):
        board.main()
    monkeypatch.setattr(board, "verify", here)
    for _ in range(2):
        board.main()
        standing = ledger.standing(ledger.check(submissions / "ledger.jsonl"))
        assert standing == {read(submissions / name)[1] for name in ("null", "expert")}
    assert seen == ["null", "expert"]


def test_what_stands_beside_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "house"))
    from compare import control_of, mean_by_trial

    assert mean_by_trial([[0.5, 1.0], [0.5, 0.6, 0.8]]) == [0.5, 0.8, 0.9]
    stand = {"retry": "retry-other-task", "eto-2": "sft-2", "retry-retroact-1": "retry-model", "base": "base"}
    assert {name: control_of(name) for name in stand} == stand


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_published_number_names_its_command(path: Path) -> None:
    rows = json.loads(path.read_text())["rows"]
    assert rows
    for row in rows:
        words = shlex.split(row["command"])
        args = _parser().parse_args(words[1:])
        assert words[0] == "prosegym" and args.panel == row["panel"]
        assert 0 <= row["success"]["low"] <= row["success"]["value"] <= row["success"]["high"] <= 1


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_seeds_together_are_the_mean_of_the_seeds(path: Path) -> None:
    found = json.loads(path.read_text())
    for together in found["pooled"]:
        own = [
            row["success"]["value"]
            for row in found["rows"]
            if row["panel"] == together["panel"] and row["name"].rpartition("-")[0] == together["name"]
        ]
        assert len(own) == together["seeds"]
        assert together["success"]["value"] == pytest.approx(sum(own) / len(own), abs=2e-4)


SUBMISSIONS = RECIPES.parent / "submissions"


FOLDERS = [p for p in sorted(SUBMISSIONS.glob("*")) if p.is_dir()]


def played_in(folder: Path) -> type[TextEnv]:
    """The environment that a submission of ours was played in: it has one."""
    (env_id,) = {
        result["env_id"] for result in json.loads((folder / "submission.json").read_text())["results"]
    }
    return env_class(env_id)


@pytest.mark.parametrize(
    "folder",
    # Cooking's games have to be built first, which takes a minute or two.
    [pytest.param(p, marks=pytest.mark.slow) if played_in(p).extra else p for p in FOLDERS],
    ids=lambda p: p.name,
)
def test_what_stands_on_the_board_replays(folder: Path, installed: Any) -> None:
    env = played_in(folder)
    if env.extra is not None:
        pytest.importorskip(env.extra)
    if env.data is not None:
        installed(env.data)
    report = verify(folder, workers=0, progress=False)
    assert report.ok, report.problems


@pytest.mark.parametrize(
    ("results", "prefix"),
    [
        ("house-cpu", "house"),
        ("house-novice", "house-novice"),
        ("house-novice-seed1", "house-novice-seed1"),
        ("house-textworld", "house-textworld"),
    ],
)
def test_published_numbers_are_those_of_the_episodes_on_the_board(results: str, prefix: str) -> None:
    rows = json.loads((RECIPES / "results" / f"{results}.json").read_text())["rows"]
    on_board = 0
    for row in rows:
        method, _, seed = row["name"].rpartition("-")
        method, number = (method, int(seed)) if seed.isdigit() else (row["name"], 0)
        ending = "-alfworld" if row["panel"].startswith("ALFWorld") else ""
        folder = SUBMISSIONS / f"{prefix}-{method}{ending}"
        if folder.exists():
            claims = [r.claim.success for r in read(folder)[0].results if r.panel == row["panel"]]
            assert [round(x, 4) for x in claims[number][:3]] == list(row["success"].values())
            on_board += 1
    assert on_board >= len(rows) / 3


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_what_stands_on_the_board_stands_in_the_ledger(folder: Path) -> None:
    submission, digest = read(folder)
    assert digest in ledger.standing(ledger.check(SUBMISSIONS / "ledger.jsonl"))
    for result in submission.results:
        assert file_digest(folder / "episodes" / result.file) == result.sha256


@pytest.mark.slow
def test_a_house_model_is_made_and_compared(tmp_path: Path) -> None:
    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, timeout=1800)

    house = RECIPES / "house"
    run(str(house / "pretrain.py"), str(tmp_path / "house"), "--scale", "tiny", "--workers", "1")
    run(str(house / "pretrain.py"), str(tmp_path / "house"), "--scale", "tiny", "--workers", "1")  # goes on
    model = tmp_path / "house" / "model"
    assert (model / "model.safetensors").stat().st_size < 16 << 20
    assert len((tmp_path / "house" / "validation.jsonl").read_text().splitlines()) == 3
    run(str(house / "compare.py"), str(tmp_path / "compare"), "--model", str(model), "--scale", "tiny")
    rows = json.loads((tmp_path / "compare" / "results.json").read_text())["rows"]
    assert {"base", "retry", "retry-other-task", "sft-0", "eto-0"} <= {row["name"] for row in rows}


def test_the_demo_runs_and_passes_over_what_is_done(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / "demo.py"), str(tmp_path / "out"), "--quick"]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "first try" in first.stdout or "no room was solved at the second try" in first.stdout
    board = json.loads((tmp_path / "out" / "site" / "latest.json").read_text())
    stands = [row["agent"] for panel in board["panels"] for row in panel["rows"]]
    assert {"null", "random", "expert"} <= set(stands) and len(stands) + len(board["refused"]) == 8
    assert all("the same actions as" in row["reason"] for row in board["refused"])  # of so few games
    (tmp_path / "out" / "submissions" / "eto").rename(tmp_path / "gone")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") == 7


def test_the_rollouts_of_a_gpu_go_on_and_a_peer_that_failed_has_no_ratio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The peer is cut in its second turn, then answers too little, then goes on after its first turn."""
    monkeypatch.syspath_prepend(str(RECIPES))
    import rollout_gpu
    import transformers

    calls: list[list[list[int]]] = []
    third = ["cut", "little", "all"]
    """What comes of the third call of each command."""

    def answer(model: Any, prompts: list[list[int]], **settings: Any) -> dict[str, Any]:
        calls.append(prompts)
        count, what = len(prompts), third.pop(0) if len(calls) == 3 else "all"
        if what == "cut":
            raise KeyboardInterrupt
        count -= what == "little"
        said = SimpleNamespace(error=None, generated_tokens=[5, 6])
        return {str(i): said for i in range(count)}

    monkeypatch.setattr(transformers.LlamaForCausalLM, "generate_batch", answer)
    out = tmp_path / "result.json"
    words = "--device cpu --hidden 16 --layers 1 --vocabulary 600 --episodes 2 --turns 2 --tokens 2".split()
    monkeypatch.setattr(rollout_gpu, "LENGTHS", (8,))
    monkeypatch.setattr(rollout_gpu, "FLASH", ("no_such_package",))
    monkeypatch.setattr(sys, "argv", ["rollout_gpu.py", "--out", str(out), *words])
    with pytest.raises(KeyboardInterrupt):
        rollout_gpu.main()
    cut = json.loads(out.read_text())
    assert [len(p) for p in calls[0]] == [len(p) for p in calls[2]] and calls[0] != calls[2]
    assert "ratio" not in cut and len(cut["generate_batch"]["per_turn"]) == 1

    prompts = calls[1:]
    monkeypatch.setattr(rollout_gpu, "ours", None)  # what is done is read back
    monkeypatch.setattr(rollout_gpu, "decoding_share", None)
    calls[:] = [[]]  # the warm-up is the second, the turn that is missing the third
    with pytest.raises(SystemExit, match="the peer failed, so there is no ratio: it answered 1 of 2 prompts"):
        rollout_gpu.main()
    assert "ratio" not in json.loads(out.read_text())
    assert calls[2:] == prompts[1:]
    calls[:] = [[]]
    rollout_gpu.main()
    assert calls[2:] == prompts[1:] and not third
    whole = json.loads(out.read_text())
    assert whole["ours"] == cut["ours"] and "answers" not in whole
    assert len(whole["answers_sha256"]) == 2  # of each conversation
    assert whole["generate_batch"]["flash"] == []  # it ran on sdpa
    assert whole["generate_batch"]["per_turn"][:1] == cut["generate_batch"]["per_turn"]
    assert whole["ratio"] == pytest.approx(whole["generate_batch"]["seconds"] / whole["ours"]["seconds"])
    calls.clear()
    rollout_gpu.main()
    assert not calls and json.loads(out.read_text()) == whole
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--no-graphs"])
    with pytest.raises(SystemExit, match="holds other settings .*use another --out"):
        rollout_gpu.main()


def test_answers_of_the_peer_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    from rollout_gpu import wrong

    good = SimpleNamespace(error=None, generated_tokens=[5, 6])
    failed = SimpleNamespace(error="out of memory", generated_tokens=[])
    short = SimpleNamespace(error=None, generated_tokens=[5])
    assert wrong({"a": good, "b": good}, 2, 2) == ""
    assert wrong({"a": good}, 2, 2) == "it answered 1 of 2 prompts"
    assert wrong({"a": good, "b": failed}, 2, 2) == "out of memory"
    assert wrong({"a": good, "b": short}, 2, 2) == "1 of its answers do not have 2 tokens"


def test_a_folder_may_have_a_blank_in_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in (RECIPES, RECIPES / "house"):
        monkeypatch.syspath_prepend(str(folder))
    import compare
    import cooking
    import demo

    out = tmp_path / "a b"
    plans = [[c for _, c, _ in recipe.steps(out, True) if isinstance(c, str)] for recipe in (demo, cooking)]
    tuned = SimpleNamespace(summary=lambda: SimpleNamespace(success=SimpleNamespace(value=0.0)))
    monkeypatch.setattr(compare.Run, "read", lambda folder: tuned)
    plans.append(list(compare.commands(out, f"{out}/model", compare.SCALES["novice"], f"{out}/notes")))
    for plan in plans:
        for words in map(shlex.split, plan):
            assert any(str(out) in word for word in words)
            assert not any(word.startswith("b/") for word in words)
            if words[0] != "train":
                _parser().parse_args(words)


def test_a_step_that_fails_stops_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    import plan

    monkeypatch.setattr(sys, "argv", ["recipe", str(tmp_path)])
    later: list[Path] = []
    steps: list[plan.Step] = [
        ("wrong", f"verify {tmp_path}/nowhere", None),
        ("never", lambda: later.append(tmp_path), None),
    ]
    assert plan.follow("A recipe.", lambda out, quick: steps) != 0
    assert not later and "stopped: that command's exit status is" in capsys.readouterr().err
