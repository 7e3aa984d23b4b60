"""Causal language models of the `transformers` library on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from prosegym.baselines.chat import Chat
from prosegym.baselines.decoding import Writer, choose
from prosegym.baselines.lm import Generation, ModelError, Request, Sampling


class LocalModel:
    """A causal language model with its chat template; answers many requests at a time."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "",
        chat: Chat | None = None,
        max_context: int | None = None,
        max_batch: int = 64,
    ) -> None:
        """Use a model that is already in memory.

        Args:
            model: a transformers causal language model, or a peft model around one.
            tokenizer: its tokenizer.
            name: what it is called in records; the model's own name by default.
            chat: how messages become tokens; by default through the tokenizer's own template.
            max_context: longest context in tokens; by default what the model was made for.
            max_batch: answers written at the same time, at most.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or str(model.config.name_or_path or type(model).__name__)
        self.chat = chat or Chat(tokenizer)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.max_context: int = max_context or limit or 4096
        self.max_batch = max_batch
        self.end_ids = frozenset(_end_ids(model, tokenizer) | {self.chat.end_id})

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        chat_template: str | None = None,
        max_context: int | None = None,
        max_batch: int = 64,
    ) -> LocalModel:
        """Load a model by name or path.

        Args:
            name: a model's name, or a folder with config, weights and tokenizer.
            revision: the commit of a named model.
            adapter: a folder with a peft adapter for it.
            device: "cpu", "cuda", "mps"; by default the fastest there is.
            dtype: "auto" (as stored; float32 on the CPU), "float32", "bfloat16", "float16".
            chat_template: a file with a Jinja chat template to be used in place of the tokenizer's own.
            max_context: longest context in tokens; by default what the model was made for.
            max_batch: answers written at the same time, at most.

        Raises:
            ModelError: there is no such model, or it has no tokenizer or chat template.
        """
        device = device or best_device()
        kind = "float32" if dtype == "auto" and device == "cpu" else dtype
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                name, revision=revision, dtype=kind
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot load model {name!r}: {reason}") from error
        if adapter is not None:
            model = with_adapter(model, adapter)
        template = Path(chat_template).read_text(encoding="utf-8") if chat_template else None
        return cls(
            model.to(device).eval(),
            tokenizer,
            name=name if adapter is None else f"{name}+{adapter}",
            chat=Chat(tokenizer, template),
            max_context=max_context,
            max_batch=max_batch,
        )

    def conditions(self) -> Mapping[str, Any]:
        """Model, revision, data type, template digest, versions."""
        return {
            "model": self.name,
            "revision": getattr(self.model.config, "_commit_hash", None),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "max_context": self.max_context,
            "chat_template_sha256": self.chat.sha256,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """One answer per request, in order."""
        was_training = self.model.training
        self.model.eval()
        writers = [
            Writer(request, sampling, self.chat, self.chat.prompt(request.messages), self.end_ids)
            for request in requests
        ]
        waiting = list(writers)
        while waiting:
            live, waiting = waiting[: self.max_batch], waiting[self.max_batch :]
            while live:
                for writer in live:
                    if len(writer.prompt) + len(writer.token_ids) >= self.max_context:
                        writer.overflow()
                live = [writer for writer in live if writer.reason is None]
                if not live:
                    break
                logits = self._last_logits([w.prompt + w.token_ids for w in live])
                for writer, token, logprob in zip(live, *choose(live, logits), strict=True):
                    writer.push(token, logprob)
                live = [writer for writer in live if writer.reason is None]
        self.model.train(was_training)
        return [writer.generation() for writer in writers]

    def _last_logits(self, rows: Sequence[list[int]]) -> Any:
        """Logits after the last token of each row, computed anew: [n, vocabulary]."""
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=ids.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        )
        return output.logits[:, -1]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within it, the model is the one before its adapter was trained: no second copy of the weights."""
        with self.model.disable_adapter():
            yield


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    ends: set[int] = set()
    for config in (model.generation_config, model.config.get_text_config()):
        found = config.eos_token_id if config is not None else None
        ends.update([found] if isinstance(found, int) else found or [])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return ends


def with_adapter(model: Any, folder: str) -> Any:
    """The model with a peft adapter on it, its weights shared.

    Raises:
        ModelError: the folder holds no adapter, or one of another base.
    """
    import peft

    try:
        return peft.PeftModel.from_pretrained(model, folder)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot put the adapter {folder!r} on this model: {reason}") from error


def best_device() -> str:
    """The fastest device there is: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
