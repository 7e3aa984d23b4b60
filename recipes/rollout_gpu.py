"""Multi-turn generation on a GPU: the rollout engine against transformers' own continuous batching.

    python recipes/rollout_gpu.py --out results.json

A model of 7B size is made from a config, with random weights: nothing is downloaded. The conversations are
Household games played at random beforehand, 30 turns each; every turn both sides answer the same prompts with
the same number of tokens. Reported: tokens a second, seconds a turn, peak memory, and the share of the memory
bandwidth that decoding reaches (weights and the keys and values of every live row, read once a step).
`--device cpu --hidden 64 --layers 2 --episodes 4 --turns 3` tries the script on any machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gymnasium
import tokenizers
import torch
import transformers

import prosegym  # noqa: F401  (registers the environments)
from prosegym.baselines.lm import Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.envs.core import digest
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.agents import RandomAdmissible
from prosegym.evaluation.rollout import Job, rollout

ENV = "prosegym/Household-v1"
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MARKS = ["<pad>", "<|user|>", "<|assistant|>", "<|end|>"]


def games(count: int, turns: int) -> tuple[str, list[Trajectory]]:
    """The environment's instruction, and games of `turns` steps."""
    env: Any = gymnasium.make(ENV).unwrapped
    jobs = [Job(env.tasks("train")[i].id) for i in range(2 * count)]
    make = lambda: gymnasium.make(ENV, max_steps=turns)  # noqa: E731
    played = [t for t in rollout(make, RandomAdmissible(), jobs) if len(t.steps) == turns]
    if len(played) < count:
        raise SystemExit(f"only {len(played)} of {2 * count} random games lasted {turns} turns")
    return env.instruction, played[:count]


def tokenizer_of(texts: list[str], size: int) -> Any:
    """A tokenizer trained on the games, filled up to `size` entries."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=MARKS, initial_alphabet=alphabet)
    core.train_from_iterator(texts, trainer)
    core.add_tokens([f"<extra {i}>" for i in range(size - core.get_vocab_size())])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=MARKS[1:3],
        chat_template=TEMPLATE,
    )


def first_message(instruction: str, trajectory: Trajectory) -> Message:
    return Message("user", f"{instruction}\n\n{trajectory.steps[0].observation}")


def observation(trajectory: Trajectory, turn: int) -> str:
    """What the game says after that many turns."""
    steps = trajectory.steps
    return steps[turn].observation if turn < len(steps) else trajectory.final_observation


def ours(lm: LocalModel, talks: list[list[Message]], told: list[Trajectory], args: Any) -> list[float]:
    """Seconds of each turn; the talks grow by the answers."""
    seconds = []
    for turn in range(1, args.turns + 1):
        begun = time.perf_counter()
        requests = [Request(list(talk), key=i) for i, talk in enumerate(talks)]
        answers = lm.generate(requests, Sampling(max_tokens=args.tokens))
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
        for talk, answer, game in zip(talks, answers, told, strict=True):
            talk.append(Message("assistant", answer.text, True, list(answer.token_ids)))
            talk.append(Message("user", observation(game, turn)))
    return seconds


def theirs(lm: LocalModel, talks: list[list[Message]], args: Any) -> list[float]:
    """Seconds of each turn for the same prompts by `generate_batch`."""
    config = transformers.GenerationConfig(
        max_new_tokens=args.tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    seconds = []
    for turn in range(args.turns):
        prompts = [lm.chat.prompt(talk[: 2 * turn + 1]).token_ids for talk in talks]
        begun = time.perf_counter()
        lm.model.generate_batch(prompts, generation_config=config, persistent_manager=True)
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds


def decoding_share(lm: LocalModel, length: int, args: Any) -> dict[str, float]:
    """Milliseconds of one decoding step of all rows at a context length, and its share of the bandwidth."""
    lm.forget()
    talk = [Message("user", "go to the desk " * (length // 4))]
    requests = [Request(talk, key=("share", i)) for i in range(args.episodes)]

    def timed(tokens: int) -> float:
        lm.forget()
        begun = time.perf_counter()
        lm.generate(requests, Sampling(max_tokens=tokens))
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    timed(2)
    step = (timed(66) - timed(2)) / 64
    config = lm.model.config
    width = lm.model.dtype.itemsize
    weights = sum(p.numel() for p in lm.model.parameters()) * width
    head = config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * width
    read = weights + args.episodes * per_token * len(lm.chat.prompt(talk).token_ids)
    return {"ms": 1e3 * step, "bandwidth_share": read / step / args.bandwidth}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("rollout_gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--episodes", type=int, default=128)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--bandwidth", type=float, default=4.8e12, help="bytes a second (H200: 4.8e12)")
    parser.add_argument("--no-graphs", action="store_true", help="launch the kernels of decoding one by one")
    parser.add_argument("--no-peer", action="store_true", help="leave out transformers' continuous batching")
    args = parser.parse_args()

    instruction, told = games(args.episodes, args.turns)
    texts = [instruction, *(step.observation for t in told for step in t.steps)]
    tokenizer = tokenizer_of(texts, args.vocabulary)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=args.vocabulary, hidden_size=args.hidden, intermediate_size=int(args.hidden * 3.5),
        num_hidden_layers=args.layers, num_attention_heads=args.hidden // min(128, args.hidden // 4),
        num_key_value_heads=max(args.hidden // min(128, args.hidden // 4) // 4, 1),
        max_position_embeddings=8192, bos_token_id=None, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    kind = torch.bfloat16 if args.device == "cuda" else torch.float32
    with torch.device(args.device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind).eval()
    lm = LocalModel(
        model, tokenizer, name="random-7b", max_batch=args.episodes, static_shapes=not args.no_graphs
    )
    lm.end_ids = frozenset()  # every answer has the same length on both sides
    talks = [[first_message(instruction, t)] for t in told]
    ours(lm, [list(talk) for talk in talks[:2]], told[:2], argparse.Namespace(**{**vars(args), "turns": 1}))
    lm.forget()

    mine = ours(lm, talks, told, args)
    written = args.episodes * args.turns * args.tokens
    result: dict[str, Any] = {
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "engine": type(lm._engine).__name__,
        "answers_sha256": digest(*(m.content for talk in talks for m in talk if m.role == "assistant")),
        "ours": {"seconds": sum(mine), "tokens_per_second": written / sum(mine), "per_turn": mine},
        "decoding": {n: decoding_share(lm, n, args) for n in (256, 1024)},
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if args.device == "cuda":
        result["device"] = torch.cuda.get_device_name()
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    lm.forget()
    if not args.no_peer:
        if args.device == "cuda":
            torch.cuda.empty_cache()
        other = theirs(lm, talks, args)
        result["generate_batch"] = {
            "seconds": sum(other), "tokens_per_second": written / sum(other), "per_turn": other
        }  # fmt: skip
        result["ratio"] = sum(other) / sum(mine)
    args.out.write_text(json.dumps(result, indent=1))
    shown = {k: v for k, v in result.items() if k != "arguments"}
    for side in ("ours", "generate_batch"):
        shown.get(side, {}).pop("per_turn", None)
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
