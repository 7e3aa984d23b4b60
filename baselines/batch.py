"""Samples as a batch that a model runs over: the one forward pass behind every objective.

What several samples begin with is computed once (`tree`), where that is less work and the model takes an
attention mask of its own (probed once; said where it does not); logits are computed only where a token is
trained on. The numbers, and their gradients, are those of each sample run by itself; but for models that turn
all positions of a pass by its longest text (longrope beyond its first length, dynamic rope).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from prosegym.baselines import losses, tree
from prosegym.baselines.engine import sent
from prosegym.baselines.training import pass_tokens, passes


class Sample(NamedTuple):
    """A text, and what of it is trained on."""

    token_ids: tuple[int, ...]
    weights: tuple[float, ...]
    """Of each token in the loss: 1 where the learner wrote it, 0 where it only read it."""
    cut: bool = False
    """Whether the conversation went on, beyond the context."""

    @property
    def trained(self) -> float:
        """Sum of the weights."""
        return sum(self.weights)


class Batch(NamedTuple):
    """B samples of at most T tokens as R rows of at most N nodes."""

    inputs: dict[str, Tensor]
    """Of the model."""
    weights: Tensor
    """(B, T), 0 beyond a sample's end."""
    parents: Tensor
    """(R, N): the node before each; 0 for a row's first."""
    row: Tensor
    """(B, 1): where each sample lies."""
    node: Tensor
    """(B, T): which of the row's nodes each of its tokens is."""
    wanted: tuple[Tensor, Tensor]
    """The K nodes that are trained on, by row and node; never a first token, which nothing predicts."""

    def logits(self, model: nn.Module) -> tuple[Tensor, Any]:
        """What predicts the K wanted nodes, (K, V), in float32 or better; and all that the model returned."""
        rows, nodes = self.wanted
        at = self.parents[rows, nodes]
        head = _plain(model).get_output_embeddings()
        if head is None:
            out = model(**self.inputs, use_cache=False)
            logits = out.logits[rows, at]
        else:
            hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][rows, at][None],))
            try:
                out = model(**self.inputs, use_cache=False)
            finally:
                hook.remove()
            logits = out.logits[0]
        return logits if logits.dtype == torch.float64 else logits.float(), out

    def logp(self, logits: Tensor) -> Tensor:
        """log pi of each token of each sample from its logits: (K, V) to (B, T); 0 where it has no weight."""
        return self.spread(losses.token_logp(logits, self.inputs["input_ids"][self.wanted]))

    def spread(self, numbers: Tensor) -> Tensor:
        """A number of each wanted node as one of each token: (K,) to (B, T), 0 where it has no weight."""
        of_node = numbers.new_zeros(self.parents.shape).index_put(self.wanted, numbers)
        return self.per_token(of_node) * (self.weights != 0)

    def per_token(self, of_node: Tensor) -> Tensor:
        """A number of each node as one of each token: (R, N) to (B, T); meaningless beyond a sample's end."""
        return of_node[self.row, self.node]


def logp(
    model: nn.Module, samples: Sequence[Sample], groups: Sequence[Sequence[int]] | None = None
) -> tuple[Tensor, Tensor]:
    """log pi(token | tokens before it) of every token that has a weight, and the weights.

    Args:
        model: a causal language model.
        samples: one or more.
        groups: which samples share a row; None decides by the work it saves.

    Returns:
        (B, T) in float32 or better, 0 where the weight is 0 and for first tokens; and (B, T).
    """
    batch = lay_out(model, samples, groups)
    logits, _ = batch.logits(model)
    return batch.logp(logits), batch.weights


def lay_out(
    model: nn.Module, samples: Sequence[Sample], groups: Sequence[Sequence[int]] | None = None
) -> Batch:
    """Samples as rows, on the model's device; the arguments are `logp`'s."""
    first = next(model.parameters())
    if groups is None:
        groups = _groups(model, samples)
    trees = [tree.build([samples[i].token_ids for i in group]) for group in groups]
    size, length = max(len(t.token_ids) for t in trees), max(len(s.token_ids) for s in samples)
    ids, positions, parents = (torch.zeros(len(trees), size, dtype=torch.long) for _ in range(3))
    ends = torch.arange(1, size + 1).repeat(len(trees), 1)
    row, node = torch.zeros(len(samples), 1, dtype=torch.long), torch.zeros(len(samples), length).long()
    weights = torch.zeros(len(samples), length)
    trained = torch.zeros(len(trees), size, dtype=torch.bool)
    for r, (group, built) in enumerate(zip(groups, trees, strict=True)):
        n = len(built.token_ids)
        ids[r, :n] = _tensor(built.token_ids)
        positions[r, :n] = _tensor(built.depths)
        parents[r, :n] = _tensor(built.parents).clamp(min=0)
        ends[r, :n] = _tensor(built.ends)
        for i, path in zip(group, built.paths, strict=True):
            row[i], node[i, : len(path)] = r, _tensor(path)
            weights[i, : len(path)] = _tensor(samples[i].weights)
            trained[r, node[i, 1 : len(path)]] |= weights[i, 1 : len(path)] != 0
    rows, nodes = trained.nonzero(as_tuple=True)
    inputs = {"input_ids": sent(ids, first.device)}
    if len(groups) < len(samples):
        inputs["position_ids"] = sent(positions, first.device)
        inputs["attention_mask"] = _mask(sent(ends, first.device), first.dtype)
    # Otherwise every row is one sequence with its padding behind it, where causal attention never looks.
    weights, parents, row, node, rows, nodes = (
        sent(x, first.device) for x in (weights, parents, row, node, rows, nodes)
    )
    return Batch(inputs, weights, parents, row, node, (rows, nodes))


def _tensor(numbers: Sequence[float]) -> Tensor:
    """Numbers as a tensor; by way of numpy, which reads them in a third of the time."""
    return torch.from_numpy(np.array(numbers))


def _mask(ends: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the attention's scores: (R, 1, N, N)."""
    seen = tree.visible(ends)[:, None]
    return torch.zeros(seen.shape, dtype=dtype, device=ends.device).masked_fill_(
        ~seen, torch.finfo(dtype).min
    )


def _plain(model: nn.Module) -> Any:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def _groups(model: nn.Module, samples: Sequence[Sample], limit: int | None = None) -> list[list[int]]:
    """Trees where they save work and the model takes them; else each sample by itself."""
    width = _plain(model).config.get_text_config().hidden_size
    groups = tree.forest([s.token_ids for s in samples], width, limit)
    if len(groups) < len(samples) and takes_trees(_plain(model)):
        return groups
    return [[i] for i in range(len(samples))]


def cut(model: nn.Module, samples: Sequence[Sample], tokens: int | None) -> list[list[int]]:
    """Samples, as indices, in passes of about so many padded nodes, those that share a beginning together."""
    tokens = pass_tokens(tokens, next(model.parameters()).device)
    groups = _groups(model, samples, tokens)
    sizes = [len(tree.build([samples[i].token_ids for i in group]).token_ids) for group in groups]
    together = passes(range(len(groups)), sizes, [1] * len(groups), tokens)
    return [[i for g in part for i in groups[g]] for part in together]


_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def takes_trees(model: nn.Module) -> bool:
    """Whether the model gives the flat probabilities on a small tree; tried once, said where it does not."""
    if model not in _known:
        reason = _refusal(model)
        _known[model] = reason is None
        if reason is not None:
            warnings.warn(f"shared prefixes are computed anew for each sequence: {reason}", stacklevel=3)
    return _known[model]


def _refusal(model: Any) -> str | None:
    text = model.config.get_text_config()
    plain = text.to_dict()
    kinds = set(plain.get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"} or (plain.get("sliding_window") and plain.get("use_sliding_window", True)):
        return f"{text.model_type} attends to a window"
    probe = [
        Sample((1, 2, 3, 4, 2), (1.0,) * 5),
        Sample((1, 2, 3, 2, 4, 1), (1.0,) * 6),
        Sample((1, 2, 3), (1.0,) * 3),
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            shared, flat = (logp(model, probe, groups)[0] for groups in ([[0, 1, 2]], [[0], [1], [2]]))
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{text.model_type} takes no mask of its own ({str(error).splitlines()[0]})"
    finally:
        model.train(was_training)
    weight = next(model.parameters())
    half = weight.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(weight.device.type)
    tolerance = 0.1 if half else 1e-3
    if not torch.allclose(shared, flat, atol=tolerance, rtol=tolerance):
        return f"{text.model_type} gives other probabilities on a tree"
    return None
