"""Token trees: sequences that begin alike are run through the model once where they are the same.

    shared prefix --+-- the expert's answer          A batch of samples becomes rows of tree nodes; a node is
                    a +-- the agent's answer           token after one particular past. Each attends to its
                    own +-- observation --+-- ...        ancestors alone and has its depth for a position.

The probability of a token is then that of the flat sequence, so losses and gradients are the same; what is
shared is computed once, forward and backward. The pairs of one task share the task, all step pairs of an
episode share the episode. `logp` has the signature of `objectives.logp`, which it falls back to, saying so,
for a model that does not take a mask of its own (probed once) or attends to a window.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prosegym.baselines import objectives
from prosegym.baselines.objectives import Sample


class Tree(NamedTuple):
    """Token sequences by their common beginnings; nodes in the order they were first met."""

    token_ids: list[int]
    parents: list[int]
    """Of each node: an earlier one, or -1 for a root."""
    depths: list[int]
    paths: list[list[int]]
    """The nodes of each sequence."""


def build(sequences: Sequence[Sequence[int]]) -> Tree:
    """The tree of these sequences."""
    tree = Tree([], [], [], [])
    children: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        path: list[int] = []
        node = -1
        for depth, token in enumerate(sequence):
            parent, node = node, children.setdefault((node, token), len(tree.token_ids))
            if node == len(tree.token_ids):
                tree.token_ids.append(token)
                tree.parents.append(parent)
                tree.depths.append(depth)
            path.append(node)
        tree.paths.append(path)
    return tree


def forest(samples: Sequence[Sample]) -> list[list[int]]:
    """Which samples go into one row: neighbours in dictionary order, each sharing half of itself or more."""
    order = sorted(range(len(samples)), key=lambda i: samples[i].token_ids)
    groups: list[list[int]] = []
    for i in order:
        ids = samples[i].token_ids
        if groups and 2 * _common(ids, samples[groups[-1][-1]].token_ids) >= len(ids):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def visible(trees: Sequence[Tree], size: int) -> Tensor:
    """(rows, size, size): whether a node (second axis) attends to another (third): itself and its ancestors.

    Padding attends to itself, so that no row of the softmax is empty.
    """
    seen = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in zip(seen, trees, strict=True):
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                row[node] |= row[parent]
    return seen


def logp(model: nn.Module, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """`objectives.logp`, every shared prefix computed once; (B, T) and (B, T)."""
    groups = forest(samples)
    if len(groups) == len(samples) or not takes_trees(model):
        return objectives.logp(model, samples)
    return _logp(model, samples, groups)


def _logp(
    model: nn.Module, samples: Sequence[Sample], groups: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    first = next(model.parameters())
    trees = [build([samples[i].token_ids for i in group]) for group in groups]
    size = max(len(tree.token_ids) for tree in trees)
    ids, positions, parents = (torch.zeros(len(trees), size, dtype=torch.long) for _ in range(3))
    for row, tree in enumerate(trees):
        n = len(tree.token_ids)
        ids[row, :n] = torch.tensor(tree.token_ids)
        positions[row, :n] = torch.tensor(tree.depths)
        parents[row, :n] = torch.tensor(tree.parents).clamp(min=0)
    ids, positions, parents = ids.to(first.device), positions.to(first.device), parents.to(first.device)
    mask = torch.zeros(len(trees), 1, size, size, dtype=first.dtype, device=first.device)
    mask.masked_fill_(~visible(trees, size).to(first.device)[:, None], torch.finfo(first.dtype).min)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    if logits.dtype != torch.float64:
        logits = logits.float()
    total = logits.logsumexp(-1)  # of what each node predicts
    rows = torch.arange(len(trees), device=first.device)[:, None]
    of_node = logits[rows, parents, ids] - total.gather(1, parents)  # log pi(node | its ancestors)

    length = max(len(s.token_ids) for s in samples)
    row_of = torch.zeros(len(samples), 1, dtype=torch.long)
    nodes = torch.zeros(len(samples), length, dtype=torch.long)
    there = torch.zeros(len(samples), length, dtype=torch.bool)
    for row, (group, tree) in enumerate(zip(groups, trees, strict=True)):
        for i, path in zip(group, tree.paths, strict=True):
            row_of[i] = row
            nodes[i, : len(path)] = torch.tensor(path)
            there[i, 1 : len(path)] = True  # nothing predicts the first token
    found = of_node[row_of.to(first.device), nodes.to(first.device)]
    found = torch.where(there.to(first.device), found, torch.zeros_like(found))
    _, weights, _ = objectives.pad(samples, first.device)
    return found, weights


_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def takes_trees(model: nn.Module) -> bool:
    """Whether the model gives the flat probabilities on a small tree; tried once, said where it does not."""
    if model not in _known:
        reason = _refusal(model)
        _known[model] = reason is None
        if reason is not None:
            warnings.warn(f"shared prefixes are computed anew for each sequence: {reason}", stacklevel=3)
    return _known[model]


def _refusal(model: nn.Module) -> str | None:
    config: Any = (
        model.config if not isinstance(model, nn.parallel.DistributedDataParallel) else model.module.config
    )
    text = config.get_text_config()
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
            tree, flat = _logp(model, probe, [[0, 1, 2]])[0], objectives.logp(model, probe)[0]
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{text.model_type} takes no mask of its own ({str(error).splitlines()[0]})"
    finally:
        model.train(was_training)
    here = torch.tensor([[i < len(s.token_ids) for i in range(6)] for s in probe], device=flat.device)
    tolerance = 1e-3 if next(model.parameters()).dtype in (torch.float32, torch.float64) else 0.1
    if not torch.allclose(tree[here], flat[here], atol=tolerance, rtol=tolerance):
        return f"{text.model_type} gives other probabilities on a tree"
    return None
