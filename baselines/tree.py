"""Token trees: sequences that begin alike are one tree, in which what they share stands once.

    shared prefix --+-- the expert's answer          A node is a token after one particular past. Laid out
                    a +-- the agent's answer           in preorder, a row of nodes is run through a model
                    own +-- observation --+-- ...        once: each attends to its ancestors alone and has
                                                          its depth for a position.

The probability of a token is then that of the flat sequence, so losses and gradients are the same; what is
shared is computed once, forward and backward. Here is the arithmetic of trees; `batch` runs models over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tree(NamedTuple):
    """Token sequences by their common beginnings; nodes in preorder."""

    token_ids: list[int]
    parents: list[int]
    """Of each node: an earlier one, or -1 for a root."""
    depths: list[int]
    ends: list[int]
    """One beyond each node's last descendant."""
    paths: list[list[int]]
    """The nodes of each sequence."""


def build(sequences: Sequence[Sequence[int]]) -> Tree:
    """The tree of these sequences."""
    tree = Tree([], [], [], [], [[] for _ in sequences])
    before: Sequence[int] = ()
    path: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: list(sequences[i])):
        sequence = sequences[i]
        shared = common(before, sequence)  # in dictionary order no earlier sequence shares more
        new = range(len(tree.token_ids), len(tree.token_ids) + len(sequence) - shared)
        tree.token_ids.extend(sequence[shared:])
        tree.depths.extend(range(shared, len(sequence)))
        tree.parents.extend([path[shared - 1] if shared else -1, *new][: len(new)])
        before, path = sequence, [*path[:shared], *new]
        tree.paths[i] = path
    tree.ends.extend(range(1, len(tree.parents) + 1))
    for node in reversed(range(len(tree.parents))):
        if (parent := tree.parents[node]) >= 0:
            tree.ends[parent] = max(tree.ends[parent], tree.ends[node])
    return tree


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences of one kind begin with alike."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # a[:low] == b[:low], a[:high] != b[:high]
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low


def forest(sequences: Sequence[Sequence[int]], width: int, limit: int | None = None) -> list[list[int]]:
    """Which sequences go into one row: neighbours in dictionary order, while that is less work than apart.

    A layer's work on a row of n tokens is taken as n (6 width + n), in units of 4 width operations: its
    matrices, and attention to all n of a row; a sequence by itself is causal and attends to n / 2.

    Args:
        sequences: of token ids.
        width: of the model's hidden state.
        limit: nodes of a row at most, where it holds several sequences.
    """
    groups: list[list[int]] = []
    before: Sequence[int] = ()
    nodes, work = 0, 0.0  # of the last group
    for i in sorted(range(len(sequences)), key=lambda i: list(sequences[i])):
        sequence = sequences[i]
        alone = len(sequence) * (6 * width + len(sequence) / 2)
        grown = nodes + len(sequence) - common(before, sequence)
        together = float(grown * (6 * width + grown))
        if groups and together <= work + alone and (limit is None or grown <= limit):
            groups[-1].append(i)
            nodes, work = grown, together
        else:
            groups.append([i])
            nodes, work = len(sequence), alone
        before = sequence
    return groups


def visible(ends: Tensor) -> Tensor:
    """Whether a node (second axis) attends to another (third), itself or an ancestor: (R, N) to (R, N, N).

    In preorder the descendants of node j are j + 1 ... `ends[j]` - 1. Padding whose end is one beyond itself
    attends to itself, so that no row of the softmax is empty.
    """
    nodes = torch.arange(ends.shape[1], device=ends.device)
    return (nodes[None, None, :] <= nodes[None, :, None]) & (nodes[None, :, None] < ends[:, None, :])
