"""Multi-turn generation on a GPU: the rollout engine against transformers' own continuous batching.

    python recipes/rollout_gpu.py --out results.json

A model of 7B size is made from a config, with random weights: nothing is downloaded. The conversations are
Household games played at random beforehand, 30 turns each; every turn both sides answer the same prompts with
the same number of tokens. Reported: tokens a second, seconds a turn, peak memory, and the share of the memory
bandwidth that decoding reaches (weights and the keys and values of every live row, read once a step).
The file is written after each part and after each turn of the other side, and the same command goes on.
`--device cpu --hidden 64 --layers 2 --episodes 4 --turns 3` tries the script on any machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
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
LENGTHS = (256, 1024)
"""Contexts, in tokens, at which a step of decoding is timed."""
FLASH = ("flash_attn", "flash_attn_interface", "kernels")
"""Packages by one of which the peer has flash attention; else it runs on sdpa, without CUDA graphs."""


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


def theirs(
    lm: LocalModel, talks: list[list[Message]], args: Any, done: list[float], keep: Callable[[], None]
) -> None:
    """Add to `done` the seconds of each further turn, for the same prompts by `generate_batch`.

    Raises:
        RuntimeError: the peer failed.
    """
    config = transformers.GenerationConfig(
        max_new_tokens=args.tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )

    def answered(prompts: list[list[int]]) -> float:
        begun = time.perf_counter()
        found = lm.model.generate_batch(prompts, generation_config=config, persistent_manager=True)
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
        if why := wrong(found, len(prompts), args.tokens):
            raise RuntimeError(why)
        return seconds

    # Its manager is kept, in the size that its first prompts ask for: these are as long as the last.
    lengths = [len(lm.chat.prompt(talk[: 2 * args.turns - 1]).token_ids) for talk in talks]
    rng = random.Random(0)
    answered([[rng.randrange(len(MARKS), args.vocabulary) for _ in range(n)] for n in lengths])
    for turn in range(len(done), args.turns):
        done.append(answered([lm.chat.prompt(talk[: 2 * turn + 1]).token_ids for talk in talks]))
        keep()


def wrong(found: Mapping[str, Any], count: int, tokens: int) -> str:
    """Why these answers do not count, or "": where `generate_batch` fails, it only logs it."""
    if len(found) != count:
        return f"it answered {len(found)} of {count} prompts"
    if errors := [output.error for output in found.values() if output.error is not None]:
        return str(errors[0])
    short = sum(len(output.generated_tokens) != tokens for output in found.values())
    return f"{short} of its answers do not have {tokens} tokens" if short else ""


def decoding_share(lm: LocalModel, length: int, args: Any) -> dict[str, float]:
    """Milliseconds of one decoding step of all rows at a context length, and its share of the bandwidth."""
    lm.forget()
    talk = [Message("user", "go to the desk " * (length // 4))]
    requests = [Request(talk, key=("share", i)) for i in range(args.episodes)]

    def timed(tokens: int) -> float:
        begun = time.perf_counter()
        lm.generate(requests, Sampling(max_tokens=tokens))
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    timed(66)  # makes the cache as large as it gets, and records its steps
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
    asked = {k: v for k, v in vars(args).items() if k != "out"}
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"arguments": asked}
    if result["arguments"] != asked:
        raise SystemExit(f"{args.out} holds other settings ({result['arguments']}); use another --out")
    if not ("ratio" in result or (args.no_peer and len(result.get("decoding", ())) == len(LENGTHS))):
        run(args, result)
    shown = {k: v for k, v in result.items() if k not in ("arguments", "answers", "answers_sha256")}
    for side in ("ours", "generate_batch"):
        shown[side] = {k: v for k, v in shown.get(side, {}).items() if k != "per_turn"}
    print(json.dumps(shown, indent=1))
    if why := shown["generate_batch"].get("failed"):
        sys.exit(f"the peer failed, so there is no ratio: {why}")


def run(args: Any, result: dict[str, Any]) -> None:
    """What is missing in the result; each part is written when it is done."""

    def keep() -> None:
        part = args.out.with_name(args.out.name + ".part")
        part.write_text(json.dumps(result, indent=1))
        part.replace(args.out)

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
    result |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if args.device == "cuda":
        result["device"] = torch.cuda.get_device_name()

    def peak() -> None:
        if args.device == "cuda":
            now = torch.cuda.max_memory_allocated() / 2**30
            result["peak_gib"] = max(result.get("peak_gib", 0.0), now)

    written = args.episodes * args.turns * args.tokens
    if "ours" not in result:
        few = argparse.Namespace(**{**vars(args), "turns": 1})
        ours(lm, [list(talk) for talk in talks[:2]], told[:2], few)
        lm.forget()
        mine = ours(lm, talks, told, args)
        said = [[m for m in talk if m.role == "assistant"] for talk in talks]
        result["engine"] = type(lm._engine).__name__
        result["answers_sha256"] = [digest(*(m.content for m in answers))[:8] for answers in said]
        result["ours"] = {"seconds": sum(mine), "tokens_per_second": written / sum(mine), "per_turn": mine}
        if not args.no_peer:
            result["answers"] = msgspec.to_builtins(said)  # its prompts have them; they go when it is done
        peak()
        keep()
    else:
        for talk, answers, game in zip(talks, result.get("answers", ()), told, strict=False):
            for turn, answer in enumerate(msgspec.convert(answers, list[Message]), start=1):
                talk += [answer, Message("user", observation(game, turn))]
    decoding = result.setdefault("decoding", {})
    for n in LENGTHS:
        if str(n) not in decoding:
            decoding[str(n)] = decoding_share(lm, n, args)
            peak()
            keep()
    lm.forget()
    if not args.no_peer:
        peer = result.setdefault("generate_batch", {"per_turn": []})
        peer.pop("failed", None)
        peer["flash"] = [name for name in FLASH if importlib.util.find_spec(name)]
        try:
            theirs(lm, talks, args, peer["per_turn"], keep)
        except RuntimeError as error:
            peer["failed"] = str(error).strip().splitlines()[0]
        else:
            seconds = sum(peer["per_turn"])
            peer |= {"seconds": seconds, "tokens_per_second": written / seconds}
            result["ratio"] = seconds / result["ours"]["seconds"]
            del result["answers"]
        keep()


if __name__ == "__main__":
    main()
