"""Pairs of conversations, and the step that ETO, IPR and StepAgent share: prefer one to the other.

The pairs of one task begin alike, so they are run together, as a token tree, as far as they fit one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from prosegym.baselines import batch, sft
from prosegym.baselines.local import LocalModel
from prosegym.baselines.objectives import Bundle, Pair, Preference, against
from prosegym.baselines.practice import Practice
from prosegym.baselines.training import Optim, pass_tokens
from prosegym.baselines.tree import common
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Message

Contrast = tuple[Sequence[Message], Sequence[Message]]
"""Two conversations that begin alike, the better one first."""


def prefer(
    policy: LocalModel,
    reference: nn.Module,
    tasks: Iterable[Sequence[Contrast]],
    objective: Preference,
    practice: Practice,
    optim: Optim,
    phase: str,
    i: int,
    none: tuple[str, str],
) -> bool:
    """Minimise the preference loss over the pairs; False where none can be trained on, which is said.

    Args:
        policy: changes in place.
        reference: gives ref(e); read before the first step, so it may be the policy itself.
        tasks: the pairs of each task.
        objective: beta, and what stands beside the preference.
        practice: the folder and the log.
        optim: a step takes so many whole tasks that they have about `batch_size` pairs; the pairs of a task
            that do not fit one pass (`tokens`) are as many items as the passes they take.
        phase: its name, to which the iteration is added.
        i: the iteration; where earlier ones had pairs, their policy is what was learnt.
        none: what it means that there is no pair at all, and what helps then.

    Raises:
        ProsegymError: none can be trained on in the first iteration.
    """
    shared = batch.takes_trees(policy.model)
    phase = f"{phase}-{i}"
    budget = pass_tokens(optim.tokens, policy.model.device)
    given = kept = cut = 0
    found: list[Bundle] = []
    for contrasts in tasks:
        both = [(sft.sample(policy, win), sft.sample(policy, lose)) for win, lose in contrasts]
        pairs = [Pair(w, x) for w, x in both if w and x and w.trained and x.trained and w != x]
        found += _bundles(pairs, budget, shared)
        given += len(both)
        kept += len(pairs)
        cut += sum(p.win.cut or p.lose.cut for p in pairs)
    practice.say(phase, "pairs", given, kept, cut)
    if not found:
        why, mend = none
        if given:
            why = (
                f"as far as the context of {policy.max_context} tokens reaches, the two texts of each of "
                f"{given} are the same or have no answer"
            )
            mend = "use a longer context or shorter tasks"
        if i == 1:
            raise ProsegymError(f"iteration 1 has no pairs: {why}; {mend}")
        if practice.accelerator.is_main_process:
            print(f"iteration {i} has no pairs: {why}; the training ends here")
        return False
    size = max(1, round(optim.batch_size * len(found) / kept))
    with practice.accelerator.autocast():  # at the precision of training: a difference would be a margin
        compared = against(reference, found, optim.tokens)
    practice.fit(policy.model, objective, compared, replace(optim, batch_size=size), phase)
    return True


def _bundles(pairs: Iterable[Pair], tokens: int, shared: bool) -> list[Bundle]:
    """The pairs of one task, run together up to so many tokens: all of them, or those not shared."""
    found: list[list[Pair]] = []
    before: tuple[int, ...] = ()
    room = 0
    for pair in pairs:
        win, lose = pair.win.token_ids, pair.lose.token_ids
        alone = len(win) + len(lose) - (common(win, lose) if shared else 0)
        more = alone - (common(before, win) if shared else 0)
        if not found or more > room:
            found.append([])
            room, more = tokens, alone
        found[-1].append(pair)
        room, before = room - more, win
    return [tuple(bundle) for bundle in found]
