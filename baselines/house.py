"""House models: small decoder-only transformers made from scratch, with a tokenizer of their own.

They exist so that training, evaluation and the tests have a real policy where no pretrained weights are: an
ordinary Hugging Face folder (LlamaForCausalLM, a fast tokenizer, a chat template), loaded like any other.
They leave out what a pretrained model knows: they learn an environment's language from its texts alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.trajectory import Trajectory

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# Every message is one role token, its text as it stands, and <|end|>: a further message never changes the
# tokens of those before, and <|end|> is what generation stops at.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + eos_token }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + eos_token }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


@dataclass(frozen=True)
class Size:
    """The shape of a house model."""

    hidden: int
    layers: int
    heads: int
    ffn: int


SIZES = {
    "tiny": Size(32, 2, 2, 64),
    "350k": Size(96, 3, 4, 256),
    "1m": Size(128, 4, 4, 384),
    "6m": Size(256, 6, 8, 768),
}
"""Parameters are those of the layers; the embedding of a vocabulary of V pieces adds V times `hidden`."""


def tokenizer(texts: Iterable[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on these texts: any text encodes, and decodes to itself.

    Args:
        texts: what to learn pieces from.
        vocabulary: pieces at most, among them the 256 bytes and the 6 special ones.
    """
    if vocabulary < 256 + 3 + len(ROLES):
        raise BadOption(
            f"a vocabulary holds 256 bytes and {3 + len(ROLES)} special pieces; {vocabulary} is too few"
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BEGIN, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def model(
    size: str, pieces: PreTrainedTokenizerFast, *, context: int = 4096, seed: int = 0
) -> LlamaForCausalLM:
    """A Llama-style model of that size with random weights: rotary positions, tied embeddings, float32.

    Args:
        size: one of `SIZES`.
        pieces: the tokenizer whose vocabulary it reads and writes.
        context: longest sequence, in tokens.
        seed: of the weights; the caller's random state is left as it was.
    """
    if size not in SIZES:
        raise UnknownName("house model size", size, SIZES)
    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        # The usual 0.02 suits thousands of units; so few need weights whose sums are about as large.
        initializer_range=shape.hidden**-0.5,
        pad_token_id=_id(pieces, PAD),
        bos_token_id=_id(pieces, BEGIN),
        eos_token_id=_id(pieces, END),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _id(pieces: PreTrainedTokenizerFast, mark: str) -> int:
    found = pieces.convert_tokens_to_ids(mark)
    assert isinstance(found, int)
    return found


def texts(trajectories: Iterable[Trajectory]) -> Iterable[str]:
    """What a tokenizer learns from: everything the agent of these episodes read and wrote."""
    for trajectory in trajectories:
        for turn in trajectory.steps:
            yield turn.observation
            yield turn.response
        yield trajectory.final_observation
        for message in trajectory.messages:
            if message.role == "system":
                yield message.content


def scratch(
    folder: Path,
    size: str,
    corpus: Iterable[str],
    *,
    vocabulary: int = 1024,
    context: int = 4096,
    seed: int = 0,
) -> Path:
    """Make a tokenizer and a model of that size and save both, as a folder that `from_pretrained` loads."""
    pieces = tokenizer(corpus, vocabulary)
    model(size, pieces, context=context, seed=seed).save_pretrained(folder)
    pieces.save_pretrained(folder)
    return folder
