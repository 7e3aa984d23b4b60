"""Training a model of 7B size with an adapter on a GPU: model-FLOPs utilisation, and ratios against TRL.

    python recipes/train_gpu.py --out train_gpu.json

A Llama of 7B size is made from a config, with random weights: nothing is downloaded. The data are Household
games by the planner and at random. Parts, each written to the file when it is done and skipped when the
command is given again: the rate of a large matrix product; SFT, trajectory pairs and step pairs by our loop;
the same by TRL's trainers (same model, adapter, data, batch sizes, bfloat16, gradient checkpointing in both;
lengths grouped). Reported: tokens (trajectories) a second, ratios, peak memory, and for SFT the share of the
matrix rate. Its FLOPs a token are 4 P for P weights (forward 2 P, backward 2 P: frozen weights need no
gradient of their own; what checkpointing computes twice is not counted), and 6 n d L for causal attention
over n tokens in L layers of width d.
`--device cpu --hidden 64 --layers 2 --vocabulary 600 --tasks 4 --steps 2` tries the script on any machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from rollout_gpu import ENV, tokenizer_of

from prosegym.baselines import objectives, react, sft
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Imitation, Pair, Preference
from prosegym.baselines.practice import Practice, only_answer
from prosegym.baselines.train import Lora, Options, accelerator, add_adapter
from prosegym.baselines.training import Log, Optim, fit
from prosegym.evaluation.agents import ExpertAgent, RandomAdmissible
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

RATE, BETA = 1e-5, 0.1


class Bench:
    """Model, data and clock."""

    def __init__(self, args: Any) -> None:
        self.args = args
        self.device = torch.device(args.device)
        jobs = [Job(task.id) for task in make_env(ENV).unwrapped.tasks("train")[: args.tasks]]  # type: ignore[attr-defined]
        make = lambda: make_env(ENV, max_steps=args.turns)  # noqa: E731
        expert, tried = (list(rollout(make, agent, jobs)) for agent in (ExpertAgent(), RandomAdmissible()))
        # The command's precision; settled before anything else asks which process this is.
        self.processes = accelerator(Options(ENV, "", Path(), device=args.device))
        self.practice = Practice(
            ENV, Path(tempfile.mkdtemp()), react.Config(format="bare"), accelerator=self.processes
        )
        self.expert, self.tried = ([self.practice.conversation(t) for t in ts] for ts in (expert, tried))
        texts = [m.content for talk in [*self.expert, *self.tried] for m in talk]
        self.tokenizer = tokenizer_of(texts, args.vocabulary)
        self.policy = self.model()

    def model(self) -> LocalModel:
        """A new one, adapted."""
        args = self.args
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=args.vocabulary, hidden_size=args.hidden, intermediate_size=int(args.hidden * 2.6875),
            num_hidden_layers=args.layers, num_attention_heads=max(args.hidden // 128, 2),
            max_position_embeddings=8192, bos_token_id=None, eos_token_id=3, pad_token_id=0,
        )  # fmt: skip
        kind = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        with self.device:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
        policy = LocalModel(model, self.tokenizer, name="random-7b")
        add_adapter(policy, Lora(rank=16, dropout=0.0))
        if self.device.type == "cuda":
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return policy

    def texts(self) -> list[Any]:
        """Every episode, its first token another one: nothing is shared, so every FLOP is a token's own."""
        rng = random.Random(0)
        found = sft.samples(self.policy, [*self.expert, *self.tried])
        first = lambda: rng.randrange(4, self.args.vocabulary)  # noqa: E731
        return [s._replace(token_ids=(first(), *s.token_ids[1:])) for s in found]

    def pairs(self, level: str) -> list[Any]:
        """Each expert episode against the random one, or its action at each state against another."""
        rng, bundles = random.Random(0), []
        one = lambda talk: sft.samples(self.policy, [talk])[0]  # noqa: E731
        for talk, tried in zip(self.expert, self.tried, strict=True):
            if level == "wholes":
                bundles.append((Pair(one(talk), one(tried)),))
                continue
            pairs = []
            for t in range(len(talk) // 2):
                told = only_answer(talk, t)
                others = [m for m in tried[1::2] if m.content != told[-1].content]
                pairs.append(Pair(one(told), one([*told[:-1], rng.choice(others)])))
            bundles.append(tuple(pairs))
        return bundles

    def start(self) -> None:
        """From here on, time and memory count."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        self.begun = time.perf_counter()

    def clock(self, run: Callable[[], Any]) -> dict[str, float]:
        """Seconds, and the most memory that was held; what runs may start them anew."""
        self.start()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        return {"seconds": time.perf_counter() - self.begun, "peak_gib": peak}


def matrix_rate(bench: Bench) -> dict[str, float]:
    """Operations a second of a product of square matrices, in the precision of training."""
    n = 8192 if bench.device.type == "cuda" else 512
    kind = torch.bfloat16 if bench.device.type == "cuda" else torch.float32
    a, b = (torch.randn(n, n, device=bench.device, dtype=kind) for _ in range(2))
    count = 30
    bench.clock(lambda: a @ b)  # to warm up
    found = bench.clock(lambda: [a @ b for _ in range(count)])
    return {"flops": 2 * n**3 * count / found["seconds"]}


def optim(bench: Bench, size: int) -> Optim:
    return Optim(RATE, batch_size=size, schedule="constant", max_steps=bench.args.steps)


def train(bench: Bench, objective: Any, items: Any, size: int) -> dict[str, float]:
    """Our loop for `--steps` steps, after one to warm up."""
    warm = Optim(RATE, batch_size=size, schedule="constant", max_steps=1)
    for config in (warm, optim(bench, size)):
        folder = Path(tempfile.mkdtemp())
        found = bench.clock(
            lambda c=config, f=folder: fit(  # type: ignore[misc]
                bench.policy.model, objective, items, c, f, Log(f), accelerator=bench.processes
            )
        )
    return found


def ours_sft(bench: Bench) -> dict[str, float]:
    texts = bench.texts()
    found = train(bench, Imitation(), texts, bench.args.batch)
    done = min(bench.args.steps * bench.args.batch, len(texts))
    length = sum(len(s.token_ids) for s in texts) / len(texts)
    config = bench.policy.model.config
    weights = sum(p.numel() for p in bench.policy.model.parameters())
    attention = 6 * length / 2 * 2 * config.hidden_size * config.num_hidden_layers
    speed = done * length / found["seconds"]
    return {**found, "texts_per_second": done / found["seconds"], "tokens_per_second": speed,
            "mean_length": length, "flops": speed * (4 * weights + attention)}  # fmt: skip


def ours_pairs(bench: Bench, level: str) -> dict[str, float]:
    bundles = objectives.against(bench.policy.model, bench.pairs(level))
    count = sum(map(len, bundles))
    size = max(1, round(bench.args.batch * len(bundles) / count))
    found = train(bench, Preference(BETA), bundles, size)
    done = min(bench.args.steps * size, len(bundles))
    return {**found, "trajectories_per_second": done / found["seconds"], "pairs": count}


def trl_trained(bench: Bench, trainer: Any) -> dict[str, float]:
    """TRL's loop for `--steps` steps, after one to warm up."""

    class Warm(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                bench.start()

    trainer.add_callback(Warm())
    return bench.clock(trainer.train)


def trl_config(bench: Bench, name: str, **more: Any) -> Any:
    import trl

    gpu = bench.device.type == "cuda"
    return getattr(trl, name)(
        output_dir=tempfile.mkdtemp(), report_to="none", use_cpu=not gpu, bf16=gpu, fp16=False,
        max_length=None, gradient_checkpointing=gpu, logging_strategy="no", save_strategy="no",
        disable_tqdm=True, learning_rate=RATE, lr_scheduler_type="constant", max_steps=1 + bench.args.steps,
        per_device_train_batch_size=bench.args.micro,
        gradient_accumulation_steps=max(1, bench.args.batch // bench.args.micro),
        train_sampling_strategy="group_by_length", **more,
    )  # fmt: skip


def trl_sft(bench: Bench) -> dict[str, float]:
    import trl
    from datasets import Dataset

    texts = bench.texts()
    rows = [{"input_ids": list(s.token_ids), "completion_mask": [int(w) for w in s.weights]} for s in texts]
    trainer = trl.SFTTrainer(
        model=bench.policy.model, args=trl_config(bench, "SFTConfig", completion_only_loss=True),
        train_dataset=Dataset.from_list(rows), processing_class=bench.tokenizer,
    )  # fmt: skip
    found = trl_trained(bench, trainer)
    return {**found, "texts_per_second": bench.args.steps * bench.args.batch / found["seconds"]}


def trl_pairs(bench: Bench, level: str) -> dict[str, float]:
    import trl
    from datasets import Dataset

    bundles = bench.pairs(level)
    rows = []
    for p in (p for bundle in bundles for p in bundle):
        n = next(i for i, w in enumerate(p.win.weights) if w)
        win, lose = list(p.win.token_ids), list(p.lose.token_ids)
        rows.append({
            "prompt_ids": win[:n], "chosen_ids": win[n:], "rejected_ids": lose[n:],
            "length": len(win) + len(lose), "ref_chosen_logps": 0.0, "ref_rejected_logps": 0.0,
        })  # fmt: skip
    trainer = trl.DPOTrainer(
        model=bench.policy.model,
        args=trl_config(
            bench, "DPOConfig", beta=BETA, length_column_name="length", remove_unused_columns=False
        ),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=bench.tokenizer,
    )
    trainer.precompute_ref_logps = True  # the reference is given for both sides: only training is timed
    trainer.train_dataset = Dataset.from_list(rows)
    found = trl_trained(bench, trainer)
    per_trajectory = len(rows) / len(bundles)
    done = bench.args.steps * bench.args.batch / per_trajectory
    return {**found, "trajectories_per_second": done / found["seconds"]}


PARTS: dict[str, Callable[[Bench], dict[str, float]]] = {
    "matrix": matrix_rate,
    "sft": ours_sft,
    "wholes": lambda bench: ours_pairs(bench, "wholes"),
    "steps": lambda bench: ours_pairs(bench, "steps"),
    "trl_sft": trl_sft,
    "trl_wholes": lambda bench: trl_pairs(bench, "wholes"),
    "trl_steps": lambda bench: trl_pairs(bench, "steps"),
}


def summary(result: dict[str, Any]) -> dict[str, float]:
    """What the parts that are done say together."""
    found = {}
    if "matrix" in result and "sft" in result:
        found["sft_flops_utilisation"] = result["sft"]["flops"] / result["matrix"]["flops"]
    for part, unit in (("sft", "texts"), ("wholes", "trajectories"), ("steps", "trajectories")):
        if part in result and f"trl_{part}" in result:
            key = f"{unit}_per_second"
            found[f"{part}_against_trl"] = result[part][key] / result[f"trl_{part}"][key]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("train_gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--tasks", type=int, default=160)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32, help="texts or pairs of one step")
    parser.add_argument("--micro", type=int, default=8, help="texts or pairs of one pass of TRL's")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    asked = {k: v for k, v in vars(args).items() if k not in ("out", "parts")}
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"arguments": asked}
    if result["arguments"] != asked:
        raise SystemExit(f"{args.out} holds other settings ({result['arguments']}); use another --out")
    todo = [part for part in args.parts if part not in result]
    bench = Bench(args) if todo else None
    for part in todo:
        assert bench is not None
        if part.startswith("trl_"):  # TRL changes the model it is given: a new one each time
            del bench.policy
            gc.collect()
            bench.policy = bench.model()
        result["parameters"] = sum(p.numel() for p in bench.policy.model.parameters())
        result["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
        if bench.device.type == "cuda":
            result["device"] = torch.cuda.get_device_name()
        result[part] = PARTS[part](bench)
        result["summary"] = summary(result)
        args.out.write_text(json.dumps(result, indent=1))
        print(part, json.dumps(result[part]), flush=True)
    print(json.dumps(summary(result), indent=1))


if __name__ == "__main__":
    main()
