from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tyro")

from safetensors.torch import load_file  # noqa: E402

from prosegym.baselines import METHODS, agents, train  # noqa: E402
from prosegym.baselines.lm import ModelError  # noqa: E402
from prosegym.baselines.react import Config  # noqa: E402
from prosegym.envs import panels  # noqa: E402
from prosegym.envs import trajectory as records  # noqa: E402
from prosegym.envs.download import file_digest  # noqa: E402
from prosegym.envs.errors import CorruptData, ProsegymError, UnknownName  # noqa: E402
from prosegym.evaluation.agents import ExpertAgent  # noqa: E402
from prosegym.evaluation.evaluate import make_env  # noqa: E402
from prosegym.evaluation.rollout import Job, rollout  # noqa: E402
from prosegym.evaluation.runs import Run, only_writer  # noqa: E402

torch.set_num_threads(1)
QUICK = ["--env", "prosegym/Lockbox-v1", "--episodes", "8", "--vocabulary", "330", "--agent.format", "bare"]
QUICK += ["--agent.max-tokens", "16", "--device", "cpu"]
FAST = ["--optim.learning-rate", "5e-3", "--optim.epochs", "60", "--optim.batch-size", "2"]
CLONING = [x.replace("--optim", "--cloning.optim") for x in FAST]


def solved(folder: Path) -> float:
    agent = agents.load(str(folder))
    played = list(
        rollout(lambda: make_env("prosegym/Lockbox-v1"), agent, [Job("train/red"), Job("train/sand")])
    )
    return sum(t.success for t in played) / len(played)


def test_sft_by_command_writes_an_agent_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sft"
    assert train.main("sft", [*QUICK, *FAST, "--model", "scratch:tiny", "--out", str(out)]) == 0
    assert f"{out} holds the agent: prosegym evaluate --agent {out} --env" in capsys.readouterr().out
    assert solved(out) == 1
    about = agents.read(out)
    assert (about.method, about.base, about.config.format) == ("sft", None, "bare")
    assert {"agent.json", "metrics.jsonl", "README.md", "training.json", "model.safetensors"} <= {
        p.name for p in out.iterdir()
    }
    assert "prosegym evaluate --agent" in (out / "README.md").read_text()
    assert json.loads((out / "training.json").read_text())["preset"] == "none"


def test_the_same_command_again_trains_nothing_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path), "--max-steps", "3"]
    train.main("sft", command)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert [json.loads(x)["phase"] for x in before.splitlines()] == ["sft-data", "sft", "sft", "sft"]
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "README.md").unlink()  # killed just before its end: what was trained is read back
    train.main("sft", command)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert "finished" not in capsys.readouterr().out
    train.main("sft", command)
    assert "holds this training, finished" in capsys.readouterr().out
    with pytest.raises(ProsegymError, match="another training .seed: 0 then, 1 now"):
        train.main("sft", [*command, "--seed", "1"])
    with pytest.raises(ProsegymError, match="method: sft then, eto now"):
        train.main("eto", command)
    with only_writer(tmp_path), pytest.raises(ProsegymError, match="another process is writing to"):
        train.main("sft", command)


def test_a_collection_that_was_gone_on_with_gives_the_same_experts(tmp_path: Path) -> None:
    def experts(folder: str) -> list[str]:
        options = train.Options("prosegym/Lockbox-v1", "scratch:tiny", tmp_path / folder, episodes=8)
        return [t.task_id for t in train.expert_episodes(options, train.accelerator(options))]

    whole = experts("whole")
    (tmp_path / "cut").mkdir()
    lines = (tmp_path / "whole" / "expert.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut" / "expert.jsonl").write_bytes(b"".join(lines[5:7]))
    assert experts("cut") == whole and len(whole) == 8


def test_a_model_that_is_not_there_leaves_the_folder_free(tmp_path: Path) -> None:
    command = [*QUICK, "--out", str(tmp_path), "--max-steps", "1"]
    with pytest.raises(ProsegymError, match="there is no such folder"):
        train.main("sft", [*command, "--model", str(tmp_path / "nothing")])
    train.main("sft", [*command, "--model", "scratch:tiny"])
    assert list(tmp_path.rglob("events.out.tfevents*"))  # TensorBoard's, without being asked for


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_what_is_not_a_trainings_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ProsegymError, match=f"has a {name} and no training.json.*use another --out"):
        train.main("sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path), "--max-steps", "1"])
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


WORKER = """
import sys
import conftest  # registers the environment
import torch
from datetime import timedelta
from prosegym.baselines import train
torch.set_num_threads(1)
learn = train.learn
def watched(*arguments):
    if torch.distributed.is_initialized():  # one process may play for longer than the others' usual patience
        backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
        assert backend.options._timeout > timedelta(days=7)
    learn(*arguments)
train.learn = watched
train.main("sft", sys.argv[1:])
"""


def in_processes(count: int, folder: Path, *command: str) -> None:
    """Train in that many processes of their own."""
    folder.mkdir()
    script = folder / "worker.py"
    script.write_text(WORKER)
    tests = Path(__file__).parents[1]
    several = (
        ["-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"] if count > 1 else []
    )
    run = subprocess.run(
        [sys.executable, *several, str(script), *QUICK, *command, "--out", str(folder / "out")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tests.parent / "src"), str(tests)]),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def test_two_processes_by_command_train_what_one_does(tmp_path: Path) -> None:
    """Data are collected and the model is made once, and each has its share of every batch."""
    more = [
        "--model",
        "scratch:tiny",
        "--max-steps",
        "3",
        "--optim.learning-rate",
        "1e-3",
        "--optim.tokens",
        "128",
    ]
    for count in (1, 2):
        in_processes(count, tmp_path / str(count), *more)
    one, two = (load_file(tmp_path / f"{n}" / "out" / "model.safetensors") for n in (1, 2))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    lines = [(tmp_path / f"{n}" / "out" / "metrics.jsonl").read_text().splitlines() for n in (1, 2)]
    assert len(lines[0]) == len(lines[1]) == 4


def test_a_model_from_scratch_in_bfloat16(tmp_path: Path) -> None:
    """What any GPU begins with."""
    in_processes(
        1, tmp_path / "one", "--model", "scratch:tiny", "--max-steps", "1", "--precision", "bfloat16"
    )
    assert (tmp_path / "one" / "out" / "model.safetensors").exists()


def test_eto_from_a_trained_agents_folder(tmp_path: Path) -> None:
    train.main("sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "sft"), "--max-steps", "2"])
    more = ["--iterations", "1", "--optim.learning-rate", "1e-4", "--imitation", "1", "--max-steps", "4"]
    train.main("eto", [*QUICK, *more, "--model", str(tmp_path / "sft"), "--out", str(tmp_path / "eto")])
    phases = [json.loads(line)["phase"] for line in (tmp_path / "eto" / "metrics.jsonl").open()]
    assert phases[:2] == ["sft-data", "sft"] and phases[-1] == "dpo-1"


def test_an_adapter_is_trained_saved_and_loaded_on_its_base(tmp_path: Path) -> None:
    train.main(
        "sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "base"), "--max-steps", "1"]
    )
    lora = ["--lora.rank", "4", "--lora.targets", "q_proj,v_proj", "--max-steps", "2"]
    train.main("sft", [*QUICK, *lora, "--model", str(tmp_path / "base"), "--out", str(tmp_path / "lora")])
    assert agents.read(tmp_path / "lora").base == str(tmp_path / "base")
    assert (tmp_path / "lora" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    solved(tmp_path / "lora")
    more = ["--iterations", "1", "--cloned", "--max-steps", "2", "--imitation", "1"]
    train.main("eto", [*QUICK, *more, "--model", str(tmp_path / "lora"), "--out", str(tmp_path / "eto")])
    assert agents.read(tmp_path / "eto").base == str(tmp_path / "base")
    before, after = (load_file(tmp_path / x / "adapter_model.safetensors") for x in ("lora", "eto"))
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)
    with pytest.raises(ModelError, match="already has an adapter"):
        train.main(
            "sft", [*QUICK, *lora, "--model", str(tmp_path / "lora"), "--out", str(tmp_path / "again")]
        )


def test_an_adapter_on_a_model_of_the_package_names_it_wherever_the_package_lies(tmp_path: Path) -> None:
    command = ["--env", "prosegym/Household-v1", "--model", "novice", "--episodes", "2", "--device", "cpu"]
    command += ["--no-evaluate", "--max-steps", "1", "--lora.rank", "2", "--out", str(tmp_path)]
    train.main("sft", command)
    assert agents.read(tmp_path).base == "novice"
    of_peft = json.loads((tmp_path / "adapter_config.json").read_text())  # it knows no such name
    assert of_peft["base_model_name_or_path"] == agents.shipped("novice")
    assert agents.load_model(str(tmp_path)).name == f"novice+{tmp_path}"


def test_an_adapter_begins_as_the_seed_says_whatever_was_drawn_before(tmp_path: Path) -> None:
    train.main(
        "sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "base"), "--max-steps", "1"]
    )

    def begun(seed: int) -> list[float]:
        options = train.Options(
            "prosegym/Lockbox-v1",
            str(tmp_path / "base"),
            tmp_path,
            seed=seed,
            device="cpu",
            lora=train.Lora(2),
        )
        named = train.begin(options, options.model).model.named_parameters()
        return [x for name, p in named if "lora_A" in name for x in p.flatten().tolist()]

    found = []
    for drawn, seed in [(7, 0), (8, 0), (7, 1)]:
        torch.manual_seed(drawn)
        found.append(begun(seed))
    assert found[0] == found[1] != found[2]


def test_an_adapter_names_its_base_for_both_roles_and_a_model_from_scratch(tmp_path: Path) -> None:
    lora = ["--lora.rank", "4", "--model", "scratch:tiny", "--max-steps", "1", "--trials", "2"]
    train.main("retroact", [*QUICK, *lora, "--out", str(tmp_path)])
    for folder in (tmp_path, tmp_path / "reflector"):
        assert agents.read(folder).base == str(tmp_path / "scratch")
        solved(folder)


def test_a_reflector_of_its_own_gets_an_adapter_too(tmp_path: Path) -> None:
    train.main(
        "sft", [*QUICK, "--model", "scratch:tiny", "--max-steps", "1", "--out", str(tmp_path / "base")]
    )
    args = ["--model", str(tmp_path / "base"), "--reflector", str(tmp_path / "base"), "--lora.rank", "4"]
    train.main("retroact", [*QUICK, *args, "--max-steps", "1", "--trials", "2", "--out", str(tmp_path / "r")])
    for folder in (tmp_path / "r", tmp_path / "r" / "reflector"):
        assert agents.read(folder).base == str(tmp_path / "base")
        assert (folder / "adapter_model.safetensors").exists()


def test_weights_that_are_trained_themselves_are_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW moves a weight by about the learning rate; 0.02 and 0.02 + 1e-6 are one number in bfloat16."""
    asked = []

    def refuse(path: str, options: agents.ModelOptions) -> None:
        asked.append(options.dtype)
        raise ModelError("not loaded")

    monkeypatch.setattr(agents, "load_model", refuse)
    for lora in ([], ["--lora.rank", "4"]):
        with pytest.raises(ModelError):
            train.main(
                "sft", [*QUICK, *lora, "--model", "some-model", "--out", str(tmp_path / str(len(lora)))]
            )
    assert asked == ["float32", "auto"]


def test_audit_shows_the_trained_text_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main("sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path), "--audit"])
    assert re.search(r"\[trained\] 'take \w+ key<\|end\|>'", capsys.readouterr().out)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(("method", "prefix"), [("sft", "--"), ("retroact", "--cloning.")])
def test_audit_tells_what_the_settings_train_on(
    method: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICK, "--model", "scratch:tiny", "--audit"]
    train.main(method, [*command, "--out", str(tmp_path / "a")])
    said = capsys.readouterr().out
    found = re.search(r"trains on 8 of these 8, 0 of them cut .* in all (\d+) tokens; .* read 0\n", said)
    assert found and f"assistant turns, {found[1]} tokens" in said
    settings = [f"{prefix}longest", "100", f"{prefix}observations", "0.5"]
    train.main(method, [*command, *settings, "--out", str(tmp_path / "b")])
    told = "trains on 8 of these 8, 8 of them cut to fit 100 tokens, in all 728 tokens; "
    told += "an answer's token weighs 1 in the loss, one that is only read 0.5\n"
    assert told in capsys.readouterr().out


def test_settings_that_nothing_was_made_with_do_not_bind(tmp_path: Path) -> None:
    """As the guide has it: an audit, then the training with an adapter; before it, a name mistyped."""
    train.main(
        "sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "base"), "--max-steps", "1"]
    )
    data = tmp_path / "base" / "expert.jsonl"
    command = [*QUICK, "--data", str(data), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "base")]
    with pytest.raises(ModelError, match="cannot load model"):
        train.main("sft", [*command[:-1], str(tmp_path / "bsae")])
    train.main("sft", [*command, "--audit"])
    train.main("sft", [*command, "--lora.rank", "2", "--max-steps", "1"])
    with pytest.raises(ProsegymError, match="another training .lora.rank: 2 then, 3 now.; use"):
        train.main("sft", [*command, "--lora.rank", "3", "--max-steps", "1"])


def test_an_audit_binds_what_the_data_were_collected_with_alone(tmp_path: Path) -> None:
    """The tokenizer of a model from scratch is made of the data, too."""
    command = [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path), "--max-steps", "1"]
    train.main("sft", [*command, "--audit"])
    for other, said in [
        (["--seed", "1"], "seed: 0 then, 1 now.; use"),
        (["--context", "1024"], "context: 4096 then, 1024 now.; use"),
        (["--agent.instruction", "Open it!"], "agent.instruction: None then, Open it! now.; use"),
    ]:
        with pytest.raises(ProsegymError, match=f"another training .{said}"):
            train.main("sft", [*command, *other])
    rate = ["--optim.learning-rate", "1e-3", "--agent.temperature", "0.5"]
    train.main("sft", [*command, *rate])
    assert json.loads((tmp_path / "training.json").read_text())["config"]["optim"]["learning_rate"] == 1e-3
    with pytest.raises(ProsegymError, match="learning_rate: 0.001 then, 2e-05 now.; use"):
        train.main("sft", [*command, *rate[2:]])


def test_bad_requests_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="nearest: sft"):
        train.main("sfft", [])
    with pytest.raises(UnknownName, match="size '2m'"):
        train.main("sft", [*QUICK, "--model", "scratch:2m", "--out", str(tmp_path / "a")])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ProsegymError, match="no episode to learn from"):
        train.main(
            "sft",
            [
                *QUICK,
                "--model",
                "scratch:tiny",
                "--out",
                str(tmp_path / "b"),
                "--data",
                str(tmp_path / "empty.jsonl"),
            ],
        )


def test_a_panel_that_is_not_there_is_said_before_training(tmp_path: Path) -> None:
    command = [*QUICK, "--model", "scratch:tiny", "--evaluate", "--evaluate-split", "nowhere"]
    with pytest.raises(UnknownName, match="unknown panel 'Lockbox-v1/nowhere'"):
        train.main("sft", [*command, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_validation_panel_is_played_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*QUICK, "--model", "scratch:tiny", "--max-steps", "2", "--out", str(tmp_path / "out")]
    train.main("sft", command)  # there is no panel
    assert not (tmp_path / "out" / "evaluation").exists()
    monkeypatch.setattr(panels, "FOLDER", tmp_path / "panels")
    env = make_env("prosegym/Lockbox-v1").unwrapped
    for split in ("valid", "test"):
        panels.save(panels.make(env, split, about="all"), tmp_path / "panels")  # type: ignore[arg-type]
    train.main("sft", [*command, "--no-evaluate"])
    assert not (tmp_path / "out" / "evaluation").exists()
    capsys.readouterr()
    train.main("sft", command)
    assert Run.read(tmp_path / "out" / "evaluation").conditions.panel.name == "Lockbox-v1/valid"
    assert "Lockbox-v1/valid: success 0" in capsys.readouterr().out


def test_a_tokenizer_is_made_of_a_prompt_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(train.house, "scratch", lambda folder, size, corpus, **_: seen.extend(corpus))
    monkeypatch.setattr(train, "begin", lambda *_: None)
    form = train.react.Config(instruction="Open it!")
    train.from_scratch(
        train.Options("prosegym/Lockbox-v1", "scratch", tmp_path, agent=form), [], train.Accelerator(cpu=True)
    )
    assert seen == ["Open it!"]


def test_a_panel_of_other_tasks_than_are_trained_on_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Told(Exception):
        pass

    def learn(*_: object) -> None:
        raise Told

    monkeypatch.setattr(train, "learn", learn)
    command = ["--env", "prosegym/Household-v1", "--env-kwargs", '{"level": "small"}', "--model", "house"]
    with pytest.raises(Told):
        train.main("sft", [*command, "--out", str(tmp_path / "a")])
    said = "nothing is played at the end: task valid/000001 is of level 'standard', not 'small'; drop `level`"
    assert said in capsys.readouterr().out
    with pytest.raises(ProsegymError, match="is of level 'standard'"):
        train.main("sft", [*command, "--out", str(tmp_path / "b"), "--evaluate-split", "test"])
    assert not (tmp_path / "b").exists()


def test_curves_are_drawn_of_every_phase_that_has_a_loss(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [{"phase": "sft", "step": 1, "loss": 1.0}, {"phase": "reward", "step": 1, "mean": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert train.curves(tmp_path) == tmp_path / "curves.png"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_settings_and_help(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(method, ["--help"])
    assert ended.value.code == 0 and "--env" in capsys.readouterr().out


def test_presets_are_chosen_by_environment_and_give_way_to_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults, then what ETO's paper has for ALFWorld (1 iteration, beta 0.5), then the command line."""
    found = []
    monkeypatch.setattr(train, "run", lambda *a: found.append(a[2:]))
    for argv in (
        ["--env", "prosegym/ALFWorld-v1"],
        ["--env=prosegym/ALFWorld-v1", "--beta", "0.2"],
        ["--env", "prosegym/ALFWorld-v1", "--preset", "none"],
        ["--env", "prosegym/Household-v1"],
        ["--env", "prosegym/Household-v1", "--preset", "webshop"],
    ):
        train.main("eto", [*argv, "--model", "m", "--out", str(tmp_path)])
    shown = [(o.preset, c.iterations, c.beta, c.extra_turns) for o, c in found]
    assert shown == [
        ("alfworld", 1, 0.5, None),
        ("alfworld", 1, 0.2, None),
        ("none", 2, 0.1, None),
        ("none", 2, 0.1, None),
        ("webshop", 2, 0.1, 5),
    ]
    with pytest.raises(UnknownName, match="preset 'alfword'.*nearest: alfworld"):
        train.main("eto", ["--preset", "alfword", "--env", "x", "--model", "m", "--out", str(tmp_path)])
    with pytest.raises(UnknownName, match="preset 'webshop'"):
        train.main("sft", ["--preset", "webshop", "--env", "x", "--model", "m", "--out", str(tmp_path)])


def test_a_trained_agents_form_is_kept_but_for_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The novice's is bare, scored, brief, with the task repeated and answers of 24 tokens at most."""
    found = []
    monkeypatch.setattr(train, "run", lambda *a: found.append(train.form(a[2])))
    plain = ["--agent.format", "react", "--agent.decoding", "free", "--agent.no-brief", "--agent.no-remind"]
    for model, given in [
        ("novice", []),
        ("novice", ["--agent.max-tokens", "40"]),
        ("novice", plain),
        ("novice", [*plain, "--agent.max-tokens", "256"]),  # every default, asked for
        ("m", ["--agent.format", "bare"]),
    ]:
        command = ["--env", "prosegym/Household-v1", "--out", str(tmp_path), *given]
        train.main("eto", [*command, f"--model={model}"])
    own = agents.read(agents.shipped("novice")).config
    assert own == Config("bare", "score", brief=True, remind=True, max_tokens=24)
    assert found == [
        own,
        dataclasses.replace(own, max_tokens=40),
        Config(max_tokens=24),
        Config(),
        Config("bare"),
    ]
    options = train.Options("prosegym/Household-v1", "novice", tmp_path)  # as from Python
    assert train.form(options) == own
    assert train.form(dataclasses.replace(options, agent=Config())) == Config()


@pytest.mark.parametrize("method", METHODS)
def test_presets_name_settings_that_exist(method: str) -> None:
    module = importlib.import_module(f"prosegym.baselines.{method}")
    for name, published in getattr(module, "PRESETS", {}).items():
        assert name in train.PRESETS.values() and published
        dataclasses.replace(module.Config(), **published)


def test_data_of_another_environment_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    records.write(other, rollout(lambda: make_env("prosegym/Lockbox-v1"), ExpertAgent(), [Job("train/red")]))
    asked = ["--env", "prosegym/Household-v1", "--data", str(other), "--model", "scratch:tiny"]
    with pytest.raises(
        CorruptData, match="other.jsonl:1 is an episode of prosegym/Lockbox-v1, not of prosegym/House"
    ):
        train.main("sft", [*asked, "--out", str(tmp_path / "out")])


def test_data_that_changed_is_refused(tmp_path: Path) -> None:
    """The data is a run's folder, by which its episodes are meant."""
    data, out = tmp_path / "run" / "episodes.jsonl", tmp_path / "out"
    data.parent.mkdir()
    played = list(
        rollout(lambda: make_env("prosegym/Lockbox-v1"), ExpertAgent(), [Job("train/red"), Job("train/sand")])
    )
    records.write(data, played)
    command = [*QUICK, "--model", "scratch:tiny", "--data", str(data.parent), "--max-steps", "2"]
    command += ["--out", str(out)]
    train.main("sft", command)
    assert json.loads((out / "training.json").read_text())["data_sha256"] == file_digest(data)
    records.write(data, played[:1])
    with pytest.raises(ProsegymError, match="another training .data_sha256: [0-9a-f]{64} then"):
        train.main("sft", command)
    data.unlink()  # what is finished needs it no more
    train.main("sft", command)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--max-steps", "0"], "max_steps must be at least 1, not 0"),
        (["--max-steps", "-1"], "max_steps must be at least 1, not -1"),
        (["--batch-size", "0"], "batch_size must be at least 1, not 0"),
        (["--env-kwargs", "{"], "'{' is not a JSON object"),
        (["--env-kwargs", "[1]"], "is not a JSON object"),
        (["--lora.rank", "2", "--lora.targets", "nonesuch"], "cannot give this model an adapter .*nonesuch"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, asked: list[str], said: str) -> None:
    with pytest.raises(ProsegymError, match=said):
        train.main("sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "out"), *asked])
    assert not (tmp_path / "out" / "agent.json").exists()


def test_a_report_or_rank_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, said in (
        (["--report", "nonesuch"], "nonesuch"),
        (["--lora.rank", "-1"], "rank must be at least 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            train.main("sft", [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path / "out"), *asked])
        assert said in " ".join(capsys.readouterr().err.split())


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    for size in ("tiny", "350k"):
        command = ["--model", f"scratch:{size}", "--out", str(tmp_path / size), "--max-steps", "1"]
        train.main("sft", [*QUICK, *command])
    lora = ["--lora.rank", "2", "--max-steps", "1", "--model", str(tmp_path / "tiny")]
    train.main("sft", [*QUICK, *lora, "--out", str(tmp_path / "lora")])
    with pytest.raises(ModelError, match="cannot put the adapter .* on this model"):
        agents.load_model(str(tmp_path / "350k"), agents.ModelOptions(adapter=str(tmp_path / "lora")))


def test_a_resume_with_other_settings_of_the_method_is_refused_with_the_difference(tmp_path: Path) -> None:
    command = [*QUICK, "--model", "scratch:tiny", "--out", str(tmp_path), "--max-steps", "1"]
    train.main("sft", command)
    with pytest.raises(
        ProsegymError, match=r"another training .config\.optim\.epochs: 3 then, 4 now.; use another --out"
    ):
        train.main("sft", [*command, "--optim.epochs", "4"])


def test_all_ties_stop_cleanly_and_say_what_that_means(tmp_path: Path) -> None:
    """The expert's own game, played as the expert plays it: every exploration ties."""
    sft = [*QUICK, *FAST, "--model", "scratch:tiny", "--out", str(tmp_path / "sft")]
    train.main("sft", sft)
    eto = [*QUICK, "--cloned", "--model", str(tmp_path / "sft"), "--out", str(tmp_path / "eto")]
    with pytest.raises(
        ProsegymError, match="iteration 1 has no pairs: every exploration scored as its expert did"
    ):
        train.main("eto", eto)
    with pytest.raises(ProsegymError, match="iteration 1 has no pairs: no step reward"):
        train.main("ipr", [*eto[:-1], str(tmp_path / "ipr")])
