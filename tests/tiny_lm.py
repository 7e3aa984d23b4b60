"""Language models small enough for tests: a tokenizer trained here, random weights, templates of our own, and talks.

The templates reproduce how those of seven model families behave, not their words.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import tokenizers
import torch
import transformers

from prosegym.baselines.lm import Generation, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.envs.trajectory import Message

torch.set_num_threads(1)

TEXT = """Thought: I need the red key. Action: take red key. Observation: You hold the red key. The box is red.
You are in a kitchen. On the table you see a mug, a plate and a knife. go to fridge 1, open fridge 1, open box
take the green key, take blue key, take teal key, it stays shut, it opens. <think> </think> <action> </action>
Each turn, think about what to do next, then give exactly one action. Answer in this form: your reasoning
A box has a colour. Actions: take COLOUR key, open box. Nothing happens. [INST] [/INST] <<SYS>> user model
"""

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TURN_TAKING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}{% endfor %}"
)

TEMPLATES = {
    # A new beginning-of-sequence token each user turn; system words inside the first one; contents stripped;
    # no header for the assistant, whose words start with a space.
    "llama-2": (
        "{% if messages[0].role == 'system' %}{% set told = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
        + TURN_TAKING
        + "{% for m in messages %}{% if m.role == 'user' %}"
        "{{ bos_token }}[INST] {{ (told if loop.first else '') + m.content.strip() }} [/INST]"
        "{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Headers as special tokens, contents stripped, turns ended by a token that is not the tokenizer's eos.
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    # A system message of its own where none is given; contents as they are.
    "qwen2.5": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}" + PLAIN
    ),
    # Thoughts of turns before the last user message are dropped.
    "qwen3": (
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% set said = m.content %}"
        "{% if m.role == 'assistant' %}"
        "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip() if '</think>' in said else '' %}"
        "{% set said = said.split('</think>')[-1].lstrip('\n') %}"
        "{% if loop.index0 > ns.last %}{% set said = '<think>\n' + thought + '\n</think>\n\n' + said %}{% endif %}"
        "{% endif %}<|im_start|>{{ m.role }}\n{{ said }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    # One beginning, alternation enforced, the system message moves to the last user turn.
    "mistral": (
        "{% if messages[0].role == 'system' %}{% set told = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
        + TURN_TAKING
        + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "[INST] {{ (told if loop.last else '') + m.content }}[/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    # No system role, the assistant is called model, contents stripped.
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + TURN_TAKING
        + "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    # The whole is closed by the eos token where no answer is asked for.
    "phi": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    ),
}

ENDS = {
    "llama-2": "</s>",
    "llama-3": "<|eot_id|>",
    "qwen2.5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
}

SPECIAL = (
    "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
)  # fmt: skip


@functools.cache
def _trained(kind: str) -> str:
    if kind == "bytes":
        core = tokenizers.Tokenizer(tokenizers.models.BPE())
        core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    else:  # words marked at their start, unknown characters as bytes: the older families
        core = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
        core.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        core.decoder = tokenizers.decoders.Sequence(
            [
                tokenizers.decoders.Replace("▁", " "),
                tokenizers.decoders.ByteFallback(),
                tokenizers.decoders.Fuse(),
                tokenizers.decoders.Strip(" ", 1, 0),
            ]
        )
        alphabet = []
    special = [*SPECIAL, "<unk>"] if kind == "words" else list(SPECIAL)
    byte_tokens = [f"<0x{i:02X}>" for i in range(256)] if kind == "words" else []
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=640 if kind == "words" else 420,
        special_tokens=[*special, *byte_tokens],
        initial_alphabet=alphabet,
    )
    core.train_from_iterator(TEXT.splitlines(), trainer)
    return core.to_str()


def tokenizer(template: str | None = PLAIN, kind: str = "bytes", **names: Any) -> Any:
    """A tokenizer trained on a few lines; `template` is a chat template or a key of TEMPLATES."""
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(_trained(kind)),
        **{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **names},
    )
    made.add_special_tokens(
        {"additional_special_tokens": [s for s in SPECIAL if s not in ("<pad>", "<s>", "</s>")]}
    )
    made.chat_template = TEMPLATES.get(template, template) if template else None
    return made


def llama(
    vocabulary: int, *, hidden: int = 32, layers: int = 2, context: int = 2048, seed: int = 0, **more: Any
) -> Any:
    """A Llama with random weights, spread enough that its argmax is clear."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=True, **more,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def small(config: Any, **more: Any) -> Any:
    """A configuration of that class."""
    return config(
        vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, **more,
    )  # fmt: skip


def made(config: Any) -> Any:
    """A model with random weights."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


WORDS = "red blue green teal box key take open the a you hold kitchen mug fridge 1 2 shut stays".split()
ACTIONS = ["open box", "take red key", "take red", "take blue key", "go to fridge 1", "go to fridge 12"]


def says(rng: random.Random, most: int = 30) -> str:
    """Some words."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def episodes(
    lm: LocalModel, sampling: Sampling, *, count: int, turns: int, width: int, **constraint: Any
) -> dict[int, list[Generation]]:
    """Conversations that begin and end at different times, `width` at a time."""
    rng = random.Random(0)
    left = {i: rng.randint(1, turns) for i in range(count)}
    talk = {i: [Message("user", says(rng))] for i in range(count)}
    told = {i: [says(rng, 12) for _ in range(turns)] for i in range(count)}
    done: dict[int, list[Generation]] = {i: [] for i in range(count)}
    while any(left.values()):
        live = [i for i in left if left[i]][:width]
        requests = [Request(list(talk[i]), seed=100 * i + len(done[i]), key=i, **constraint) for i in live]
        for i, answer in zip(live, lm.generate(requests, sampling), strict=True):
            done[i].append(answer)
            talk[i].append(Message("assistant", answer.text, True, list(answer.token_ids)))
            talk[i].append(Message("user", told[i][len(done[i]) - 1]))
            left[i] -= 1
    return done
