"""What the rules (RULES.md) ask that needs no replay: what is one row, what cannot be, what a rank takes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import msgspec

from prosegym.envs import lookup
from prosegym.envs.core import arguments, unwrapped
from prosegym.evaluation.evaluate import make_env
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.submission import Card, Result, Scalar

SAME_BOARD = ("admissible", "split", "reward")
"""Arguments that make no other benchmark; runs that differ in any other one are not ranked together."""
SAME_EPISODES = ("split", "reward")
"""Those of them that change nothing in an episode; runs that differ in no other one are one row."""
ATTEMPTS = 4
"""Attempts at each task that a sampled agent needs to be ranked."""
TRAINING_SEEDS = 3
"""Runs on a panel, each of another training, that a trained agent needs to be ranked."""
RULE = "scribe"
"""What conditions call the reflector that writes notes by rule (`prosegym.baselines.notes`)."""


def contradictions(card: Card, results: Sequence[Result]) -> Iterator[str]:
    """What cannot be: a reference by another name, a row of several agents, training on what was played."""
    if card.track != "reference" and is_reference(unicodedata.normalize("NFKC", card.agent).casefold()):
        yield f"card.agent: {card.agent!r} is the name of a reference; the track is {card.track}"
    if card.track == "reference":
        for name in sorted({result.agent for result in results}):
            if not is_reference(name):
                yield f"the reference track holds null, random and expert only, not {name!r}"
            elif name != card.agent:
                yield f"a reference row is named as its agent, {name!r}, not {card.agent!r}"
    for runs in _rows(results):
        for what, said in (
            ("agents", {r.agent for r in runs}),
            ("attempts", {r.attempts for r in runs}),
            ("env_conditions", {str(sorted(r.env_conditions.items())) for r in runs}),
        ):
            if len(said) > 1:
                yield (
                    f"its runs on {runs[0].panel}, which are one row, differ in {what}: "
                    f"{', '.join(map(repr, sorted(said)))}; submit them apart"
                )
    for name in card.training_panels:
        trained = set(reader.panel_of(name).tasks)
        for played in sorted({result.panel for result in results}):
            if shared := trained & set(reader.panel_of(played).tasks):
                yield f"trained on {len(shared)} of the tasks of {played} (card.training_panels: {name})"


def oddities(card: Card, results: Sequence[Result]) -> Iterator[str]:
    """What sits oddly with the label or with each other, by the submission's own words."""
    # A training's seeds are other models; those of one model are not.
    varies = ("model", "reflector") if card.track in ("trained", "retry") else ()
    for runs in _rows(results):
        names = {name for run in runs for name in run.conditions}.difference(varies)
        if other := sorted(
            n for n in names if any(r.conditions.get(n) != runs[0].conditions.get(n) for r in runs)
        ):
            yield f"its runs on {runs[0].panel}, which are one row, differ in {', '.join(other)}"
        known = [weights for run in runs if (weights := _weights(run)) is not None]
        if card.track == "trained" and (more := sum(w in known[:n] for n, w in enumerate(known))):
            yield (
                f"{more} of its {len(runs)} runs on {runs[0].panel}, which should each be of another "
                "training, state the model of another run"
            )
    yield from dict.fromkeys(flag for result in results for flag in _examples(card, result))
    if card.track != "reference":
        for name in sorted({r.agent for r in results if is_reference(r.agent)}):
            yield f"its episodes are of agent {name!r}, which needs no model, under the label {card.track}"
    if card.track in ("zero-shot", "few-shot"):
        played = {result.env_id for result in results}
        for panel in card.training_panels:
            if reader.panel_of(panel).env_id in played:
                yield f"trained or tuned on {panel}, by its card, under the label {card.track}"
        if card.curve:
            yield f"its card has a learning curve, under the label {card.track}"


def _examples(card: Card, result: Result) -> Iterator[str]:
    """What is odd about the examples that a run's conditions state, by task type as `ReAct` does or not."""
    shown = set(_leaves(result.conditions.get("examples")))
    if shown and card.track == "zero-shot":
        yield f"its conditions state {len(shown)} examples, under the label zero-shot"
    if own := shown & set(reader.panel_of(result.panel).task_ids):
        yield (
            f"{len(own)} of the examples that its conditions state are tasks of {result.panel}, "
            f"as {min(map(str, own))}"
        )


def _leaves(value: object) -> Iterator[object]:
    """What lists and mappings hold, and theirs; nothing of what is empty."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif value:
        yield value


def _weights(result: Result) -> object:
    """Which weights a run says that it is of, by their digest where it states one; None where it does not."""
    model = result.conditions.get("model")
    if not isinstance(model, dict):
        return model
    return model.get("weights_sha256") or (model.get("model"), model.get("revision"))


def _rows(results: Sequence[Result]) -> list[list[Result]]:
    """The runs of each row."""
    found: dict[bytes, list[Result]] = defaultdict(list)
    for result in results:
        found[_place(result)].append(result)
    return list(found.values())


class Acts(msgspec.Struct, frozen=True):
    """What a run did, by digests of its actions, blanks folded: by these copies are found."""

    whole: str
    """Of all of it, the attempts at each task in whatever order; attempts that are all alike are one."""
    failing: list[str]
    """Of each attempt that does not solve every episode, over the whole panel; those alike are one."""
    perfect: list[str]
    """Of each that does: where the right actions are the only ones, whoever is right acts alike."""

    @property
    def attempts(self) -> frozenset[str]:
        """Of each attempt."""
        return frozenset(self.failing + self.perfect)

    def copies(self, earlier: Set[str]) -> bool:
        """Whether each attempt acts as one of earlier runs, or at every task the attempts as those of one.

        Args:
            earlier: `whole` and `attempts` of earlier runs on the panel.
        """
        return self.whole in earlier or self.attempts <= earlier


def copied(runs: Sequence[Acts]) -> list[bool]:
    """Of each run of a row, whether it is a copy of those before it."""
    earlier: set[str] = set()
    found = []
    for run in runs:
        found.append(run.copies(earlier))
        earlier |= {run.whole, *run.attempts}
    return found


def acts_of(episodes: Iterable[tuple[str, int, str, bool]]) -> Acts:
    """What a run did.

    Args:
        episodes: each one's task, attempt, digest of its actions and success, in the panel's order.
    """
    tries: dict[int, list[str]] = defaultdict(list)
    tasks: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    failed = set()
    for task_id, attempt, actions, success in episodes:
        tries[attempt].append(actions)
        tasks[task_id][attempt].append(actions)
        if not success:
            failed.add(attempt)
    digests = {attempt: run_digest(actions) for attempt, actions in tries.items()}
    whole, *others = set(digests.values())
    if others:
        whole = run_digest(a for at in tasks.values() for actions in sorted(at.values()) for a in actions)
    return Acts(
        whole,
        sorted({digest for attempt, digest in digests.items() if attempt in failed}),
        [digest for attempt, digest in digests.items() if attempt not in failed],
    )


def run_digest(actions: Iterable[str]) -> str:
    """Digest of actions, from those of episodes in the panel's order."""
    return hashlib.sha256("".join(actions).encode()).hexdigest()


def minimum(card: Card, results: Sequence[Result], acts: Sequence[Acts]) -> list[list[str]]:
    """For each run, what the rules ask of it and it lacks (RULES.md, "Attempts and seeds").

    Args:
        card: its track decides what is asked; nothing is of the reference track.
        results: the runs.
        acts: what each of them did.
    """
    found: list[list[str]] = [[] for _ in results]
    if card.track == "reference":
        return found
    alike = [_place(result) for result in results]
    for lacks, result, own, place in zip(found, results, acts, alike, strict=True):
        row = [run for run, other in zip(acts, alike, strict=True) if other == place]
        seeds = [run for run, copy in zip(row, copied(row), strict=True) if not copy or not run.failing]
        different, made = _different(seeds), result.attempts * len(seeds)
        enough = _different([own]) if card.track == "trained" else different
        if sampled(result) and enough < ATTEMPTS:
            lacks.append(f"{enough} of the {ATTEMPTS} attempts that a sampled agent needs")
        elif sampled(result) and different < made:
            lacks.append(
                f"{made - different} of {made} attempts act as another does; a sampled agent's all differ"
            )
        if card.track == "trained" and len(seeds) < TRAINING_SEEDS:
            lacks.append(f"{len(seeds)} of the {TRAINING_SEEDS} training seeds that a trained agent needs")
    return found


def _different(runs: Sequence[Acts]) -> int:
    """How many attempts count: those that act alike are one, unless they solve every episode."""
    return len({digest for run in runs for digest in run.failing}) + sum(len(run.perfect) for run in runs)


def sampled(result: Result) -> bool:
    """Whether a run's agent is a sampled one: its conditions do not state that it is deterministic."""
    said = result.conditions
    return said.get("deterministic") is not True and (said.get("temperature") != 0 or _sampled_notes(said))


def _sampled_notes(said: dict[str, Any]) -> bool:
    """Whether a retry agent's notes are sampled: it has some, no rule writes them, at no temperature of 0."""
    notes = said.get("reflexion")
    return (
        isinstance(notes, dict)
        and notes.get("strategy") in ("reflection", "both")
        and notes.get("temperature") != 0
        and said.get("reflector") != RULE
    )


def _place(result: Result) -> bytes:
    return place_of(result.panel, settings(result), result.trials)


def place_of(panel: str, settings: dict[str, Scalar], trials: int) -> bytes:
    """What runs have in common that are one row."""
    told = {name: value for name, value in sorted(settings.items()) if name not in SAME_EPISODES}
    return msgspec.json.encode([panel, told, trials])


def settings(result: Result) -> dict[str, Scalar]:
    """A run's arguments, as its machine settled them, without those that say what the environment does by
    itself."""
    usual = arguments(lookup.env_class(result.env_id))
    settled = {k: v for k, v in result.env_conditions.items() if k in usual}  # what tagger="auto" was
    told = result.env_kwargs | settled
    if words := told.get("simplifications"):  # in whatever order they stand, and however often
        told["simplifications"] = ",".join(sorted(set(str(words).split(","))))
    said = {k: v for k, v in told.items() if k not in usual or usual[k].default != v}
    limit = said.get("max_steps")
    if limit is not None and said.keys() - settled.keys() <= {"max_steps", *SAME_BOARD}:
        env = make_env(result.env_id)
        try:
            if unwrapped(env).max_steps == limit:
                del said["max_steps"]
        finally:
            env.close()
    return said


def is_reference(agent: str) -> bool:
    """Whether an agent is one that needs no model and can be run again: null, random, expert."""
    return re.fullmatch(r"null|random|expert(:[\w-]+)?", agent) is not None
