from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from prosegym.baselines import training  # noqa: E402
from prosegym.baselines.training import Diverged, Log, Optim, fit, passes, plan  # noqa: E402
from prosegym.envs.errors import BadOption, ProsegymError  # noqa: E402

torch.set_num_threads(1)


class Fixed:
    """The mean of (w x - y)^2 over items (x, y), through a dropout so that the generator matters."""

    compares = False

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls, self.fail_at = 0, fail_at

    def length(self, item: tuple[float, float]) -> int:
        return 1 + int(abs(item[0]) * 10)

    def rows(self, item: tuple[float, float]) -> int:
        return 1

    def weight(self, item: tuple[float, float]) -> float:
        return 1.0 + (item[1] > 0)

    def loss(
        self, model: nn.Module, items: Sequence[tuple[float, float]]
    ) -> tuple[Tensor, Mapping[str, float]]:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        x, y = torch.tensor([i[0] for i in items])[:, None], torch.tensor([i[1] for i in items])[:, None]
        weights = torch.tensor([self.weight(i) for i in items])[:, None]
        error = (model(x) - y) ** 2
        return (error * weights).sum() / weights.sum(), {"largest": float(error.max().detach())}


def net(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


ITEMS = [(i / 20 - 1, math.sin(i / 20 - 1)) for i in range(41)]
CONFIG = Optim(learning_rate=0.01, epochs=3, batch_size=8, save_every=4)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_minimises(tmp_path: Path) -> None:
    model = net()
    first = Fixed().loss(model, ITEMS)[0].item()
    fit(model, Fixed(), ITEMS, Optim(learning_rate=0.02, epochs=60, batch_size=8), tmp_path, Log(tmp_path))
    assert Fixed().loss(model, ITEMS)[0].item() < first / 5


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    whole, halved = net(0.2), net(0.2)
    fit(whole, Fixed(), ITEMS, CONFIG, tmp_path / "a", Log(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        fit(halved, Fixed(fail_at=8), ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    halved = net(0.2)
    torch.manual_seed(99)
    result = fit(halved, Fixed(), ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    assert torch.equal(weights(whole), weights(halved))
    assert result["steps"] == 18
    curves = [[(m := json.loads(x))["step"], m["loss"]] for x in (tmp_path / "b" / "metrics.jsonl").open()]
    assert curves == [
        [(m := json.loads(x))["step"], m["loss"]] for x in (tmp_path / "a" / "metrics.jsonl").open()
    ]


@pytest.mark.parametrize("at", [1, 8])
def test_a_step_that_was_begun_draws_the_same_again(tmp_path: Path, at: int) -> None:
    class Stopped(Fixed):
        """Ctrl-C after the step's dropout was drawn."""

        def loss(self, model, items):  # type: ignore[no-untyped-def]
            found = super().loss(model, items)
            if self.calls == at:
                raise KeyboardInterrupt
            return found

    whole = net(0.2)
    fit(whole, Fixed(), ITEMS, CONFIG, tmp_path / "a", Log(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        fit(net(0.2), Stopped(), ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    fit(resumed := net(0.2), Fixed(), ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    assert torch.equal(weights(whole), weights(resumed))


def test_a_fused_update_is_one_that_engines_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU `fit` takes it; by itself it leaves the counters by which a cache knows that weights changed."""
    plain = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda *a, **k: plain(*a, **{**k, "fused": True, "foreach": None})
    )
    model, seen = net(), []
    fit(
        model, Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path),
        each=lambda step: seen.append(sum(p._version for p in model.parameters())),
    )  # fmt: skip
    assert len(seen) == 5 and len(set(seen)) == 5


def test_killed_between_checkpoints_goes_on_from_the_last_one(tmp_path: Path) -> None:
    class Killed(Fixed):
        def loss(self, model, items):  # type: ignore[no-untyped-def]
            if self.calls == 10:
                raise SystemExit  # not caught: as sudden as a kill
            return super().loss(model, items)

    whole, killed = net(0.2), net(0.2)
    fit(whole, Fixed(), ITEMS, CONFIG, tmp_path / "a", Log(tmp_path / "a"))
    with pytest.raises(SystemExit):
        fit(killed, Killed(), ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    objective = Fixed()
    fit(killed := net(0.2), objective, ITEMS, CONFIG, tmp_path / "b", Log(tmp_path / "b"))
    assert objective.calls == 18 - 8  # checkpoints at steps 4 and 8
    assert torch.equal(weights(whole), weights(killed))


def test_a_finished_phase_is_only_loaded(tmp_path: Path) -> None:
    model = net()
    fit(model, Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path))
    os.utime(tmp_path / "checkpoint.pt", ns=(1, 1))
    objective = Fixed()
    fit(again := net(), objective, ITEMS, CONFIG, tmp_path, Log(tmp_path))
    assert objective.calls == 0 and torch.equal(weights(model), weights(again))
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == 1


@pytest.mark.parametrize("at", [8, 18])
def test_a_validation_that_was_interrupted_comes_again(at: int, tmp_path: Path) -> None:
    """Checkpoints at 4, 8, 12, 16 and 18; the kill comes while the one of `at` is validated."""

    def killed(step: int) -> None:
        if step == at:
            raise SystemExit

    with pytest.raises(SystemExit):
        fit(net(), Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path), each=killed)
    seen: list[int] = []
    fit(net(), Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path), each=seen.append)
    assert seen == [step for step in (4, 8, 12, 16, 18) if step >= at]


def test_a_step_that_no_validation_is_due_at_gets_none(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fit(net(), Fixed(fail_at=7), ITEMS, CONFIG, tmp_path, Log(tmp_path), each=seen.append)
    fit(net(), Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path), each=seen.append)
    assert seen == [4, 8, 12, 16, 18]  # none at 6, whose checkpoint Ctrl-C wrote


def test_resume_with_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    fit(net(), Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path))
    with pytest.raises(ProsegymError, match="epochs: 3 then, 4 now"):
        fit(net(), Fixed(), ITEMS, Optim(0.01, 4, 8, save_every=4), tmp_path, Log(tmp_path))
    with pytest.raises(ProsegymError, match="items: 41:"):
        fit(net(), Fixed(), ITEMS[:-1], CONFIG, tmp_path, Log(tmp_path))
    with pytest.raises(ProsegymError, match="numbers: .* then"):
        fit(net(), Fixed(), [(x, 2 * y) for x, y in ITEMS], CONFIG, tmp_path, Log(tmp_path))


def test_last_bits_of_what_a_model_gave_do_not_bind(tmp_path: Path) -> None:
    """As where a training goes on on another machine, which computes its references again."""
    model, again = net(), net()
    fit(model, Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path))
    fit(again, Fixed(), [(x, y * (1 + 1e-6)) for x, y in ITEMS], CONFIG, tmp_path, Log(tmp_path))
    assert torch.equal(weights(model), weights(again))


def test_accumulation_over_passes_gives_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    small, large = net(), net()
    config = Optim(learning_rate=0.01, batch_size=41, tokens=30)
    assert len(passes(range(41), [Fixed().length(i) for i in ITEMS], [1] * 41, 30)) > 4
    fit(small, Fixed(), ITEMS, config, tmp_path / "a", Log(tmp_path / "a"))
    fit(large, Fixed(), ITEMS, Optim(learning_rate=0.01, batch_size=41), tmp_path / "b", Log(tmp_path / "b"))
    torch.testing.assert_close(weights(small), weights(large), atol=1e-6, rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_weights_before_it(tmp_path: Path) -> None:
    bad = [*ITEMS, (0.5, math.nan)]
    model = net()
    with pytest.raises(Diverged, match=r"step \d+, items .*\b41\b"):
        fit(model, Fixed(), bad, CONFIG, tmp_path, Log(tmp_path))
    assert torch.isfinite(weights(model)).all()
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["weights"]
    assert all(torch.equal(saved[n], p) for n, p in model.named_parameters())


def test_frozen_parameters_are_not_trained_nor_saved(tmp_path: Path) -> None:
    model = net()
    for parameter in model[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    before = weights(model[0])  # type: ignore[index]
    fit(model, Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path))
    assert torch.equal(weights(model[0]), before)  # type: ignore[index]
    assert list(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["weights"]) == [
        "3.weight",
        "3.bias",
    ]


def test_nothing_to_train_on_and_bad_numbers_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ProsegymError, match="nothing to train on"):
        fit(net(), Fixed(), [], CONFIG, tmp_path, Log(tmp_path))
    with pytest.raises(BadOption, match="learning_rate"):
        Optim(learning_rate=0.0)
    with pytest.raises(BadOption, match="batch_size"):
        Optim(learning_rate=1.0, batch_size=0)
    with pytest.raises(BadOption, match="max_steps must be at least 1, not 0"):
        Optim(learning_rate=1.0, max_steps=0)  # all of them were taken


def test_a_line_of_the_log_that_was_cut_is_written_again(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for step in (1, 2):
        log.write("train", step, {"loss": 0.5})
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-9])
    log.forget_after("train", 1)
    log.write("train", 2, {"loss": 0.5})
    assert log.path.read_bytes() == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file here stands for a full disk")
@pytest.mark.parametrize("name", ["checkpoint.part", "metrics.jsonl", "metrics.part"])
def test_a_full_disk_is_one_line_and_what_was_trained_is_kept(name: str, tmp_path: Path) -> None:
    """The kernel's file to which nothing can be written, where one of the training's would be."""
    whole = net(0.2)
    fit(whole, Fixed(), ITEMS, CONFIG, tmp_path / "a", Log(tmp_path / "a"))
    folder, log = tmp_path / "b", Log(tmp_path / "b")

    def fill(step: int) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/full")

    with pytest.raises(ProsegymError, match="cannot use folder .*b: No space left on device; see to its"):
        fit(net(0.2), Fixed(), ITEMS, CONFIG, folder, log, each=fill)
        log.forget_after("train", 1)
    assert (folder / "checkpoint.pt").exists() and not (folder / "checkpoint.part").exists()
    for path in folder.glob("metrics.*"):
        path.unlink()
    fit(resumed := net(0.2), Fixed(), ITEMS, CONFIG, folder, Log(folder))
    assert torch.equal(weights(whole), weights(resumed))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ProsegymError, match="checkpoint.pt cannot be read"):
        fit(net(), Fixed(), ITEMS, CONFIG, tmp_path, Log(tmp_path))


def test_a_plan_visits_every_item_once_and_pads_little() -> None:
    lengths = [(37 * i) % 400 + 1 for i in range(1000)]
    batches = plan(lengths, 16, seed=0, epoch=0)
    assert sorted(i for b in batches for i in b) == list(range(1000))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert sum(lengths) / padded > 0.9
    assert batches == plan(lengths, 16, seed=0, epoch=0) != plan(lengths, 16, seed=0, epoch=1)


def test_passes_keep_to_the_token_limit() -> None:
    lengths, rows = [5, 90, 30, 31, 8], [1, 1, 2, 2, 1]
    cut = passes(range(5), lengths, rows, 100)
    assert sorted(i for part in cut for i in part) == list(range(5))
    for part in cut:
        assert len(part) == 1 or sum(rows[i] for i in part) * max(lengths[i] for i in part) <= 100


@pytest.mark.parametrize(("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0)])
def test_schedules_by_hand(schedule: str, middle: float) -> None:
    """20 steps of warm-up out of 100 rise by 1/20; half of the other 80 is the middle of 1 and 0.1."""
    config = Optim(1.0, warmup=0.2, floor=0.1, schedule=schedule)  # type: ignore[arg-type]
    assert config.rate(0, 100) == pytest.approx(1 / 20)
    assert config.rate(19, 100) == 1.0 == config.rate(20, 100)
    assert config.rate(60, 100) == pytest.approx(middle)


WORKER = """
import os, sys, torch
sys.path.insert(0, sys.argv[2])
torch.set_num_threads(1)
from pathlib import Path
from test_training import CONFIG, ITEMS, Fixed, net, weights
from prosegym.baselines.training import Log, fit
from dataclasses import replace
from accelerate import Accelerator
accelerator, out = Accelerator(cpu=True), Path(sys.argv[1])
assert accelerator.num_processes == 2
model = net()
fit(model, Fixed(), ITEMS, replace(CONFIG, tokens=24), out, Log(out), accelerator=accelerator)
if accelerator.is_main_process:
    torch.save(weights(model), out / "weights.pt")
accelerator.wait_for_everyone()
torch.distributed.destroy_process_group()
os._exit(0)  # gloo's threads can abort an interpreter that is shutting down
"""


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    alone = net()
    fit(alone, Fixed(), ITEMS, CONFIG, tmp_path / "one", Log(tmp_path / "one"))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    here = Path(__file__)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        str(script),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here.parents[2] / "src"), str(here.parents[1])]),
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [*command, str(tmp_path), str(here.parent)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    together = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.testing.assert_close(together, weights(alone), atol=1e-6, rtol=1e-5)


def test_a_finished_phase_keeps_no_optimizer(tmp_path: Path) -> None:
    """Its states are twice the weights; the next phase has its own."""
    accelerator = Accelerator(cpu=True)
    made: list[weakref.ref[torch.optim.Optimizer]] = []
    prepare = accelerator.prepare

    def watched(model: Any, optimizer: Any) -> Any:
        made.append(weakref.ref(optimizer))
        return prepare(model, optimizer)

    accelerator.prepare = watched  # type: ignore[method-assign]
    model = net()
    for phase in ("one", "two"):
        fit(
            model,
            Fixed(),
            ITEMS,
            CONFIG,
            tmp_path / phase,
            Log(tmp_path),
            phase=phase,
            accelerator=accelerator,
        )
    gc.collect()
    assert [optimizer() for optimizer in made] == [None, None]


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = Log(tmp_path, ["tensorboard"])
    log.write("sft", 1, {"loss": 1.0})
    assert training.Log(tmp_path).path.read_text() == '{"phase": "sft", "step": 1, "loss": 1.0}\n'
    assert list(tmp_path.rglob("events.out.tfevents*"))
    assert Log(tmp_path)._count == 1  # a training that goes on numbers its curve's points on


def test_a_missing_tracker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ProsegymError, match="trackio is not installed; run `pip install trackio`"):
        Log(tmp_path, ["trackio"])


def test_peak_memory_is_in_gigabytes_where_the_system_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """getrusage(2): `ru_maxrss` is in kilobytes on Linux and in bytes on macOS."""
    kilobytes = training._peak_memory(torch.device("cpu"))
    assert 0.05 < kilobytes < 64
    monkeypatch.setattr(sys, "platform", "darwin")
    assert training._peak_memory(torch.device("cpu")) == pytest.approx(kilobytes / 1024, rel=0.1)
