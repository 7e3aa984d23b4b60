"""Rewards worked by hand on Lockbox: progress 0 -> 0.5 with the right key -> 1 when open; score 1 at the end."""

from __future__ import annotations

from typing import Any

import gymnasium
import lockbox
import numpy as np
import pytest

from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.rewards import check_arguments


def rewards(mode: str, actions: list[str], **kwargs: Any) -> list[float]:
    env = gymnasium.make("prosegym/Lockbox-v1", reward=mode, **kwargs)
    env.reset(options={"task_id": "train/red"})
    return [float(env.step(action)[1]) for action in actions]


DETOUR = ["take blue key", "take red key", "take blue key", "take red key", "open box"]


def test_sparse() -> None:
    assert rewards("sparse", DETOUR) == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_sparse_at_truncation_is_the_score_reached() -> None:
    assert rewards("sparse", DETOUR[:2], max_steps=2) == [0.0, 0.0]


def test_progress_telescopes() -> None:
    assert rewards("progress", DETOUR) == [0.0, 0.5, -0.5, 0.5, 0.5]


def test_potential() -> None:
    # gamma .99: right key +.99*.5; lost -.5; again +.495; opening: score 1, phi of a terminal state is 0, so 1 - .5.
    assert rewards("potential", DETOUR) == pytest.approx([0.0, 0.495, -0.5, 0.495, 0.5])


def test_potential_adds_nothing_to_the_discounted_return_but_the_start() -> None:
    # Sum of gamma^t F_t = gamma^T phi(s_T) - phi(s_0) = 0 here, for every way to the end.
    gamma = 0.99
    for actions in (DETOUR, ["take red key", "open box"]):
        shaped = sum(gamma**t * r for t, r in enumerate(rewards("potential", actions)))
        assert shaped == pytest.approx(gamma ** (len(actions) - 1) * 1.0)


def test_expert_agreement() -> None:
    assert rewards("expert", DETOUR) == [0.0, 1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("mode", ["progress", "potential", "expert"])
def test_a_restored_snapshot_is_rewarded_from_where_it_stands(mode: str) -> None:
    env = gymnasium.make("prosegym/Lockbox-v1", reward=mode)
    env.reset(options={"task_id": "train/red"})
    env.step("take red key")
    state = env.unwrapped.snapshot()
    first = [env.step(action)[1] for action in ("take blue key", "take red key", "open box")]
    env.reset(options={"task_id": "train/blue"})  # another episode, another expert
    for _ in range(2):
        env.unwrapped.restore(state)
        again = [env.step(action)[1] for action in ("take blue key", "take red key", "open box")]
        assert again == first
    assert first == pytest.approx(
        {"progress": [-0.5, 0.5, 0.5], "potential": [-0.5, 0.495, 0.5], "expert": [0.0, 1.0, 1.0]}[mode]
    )


def test_unknown_mode_names_the_known() -> None:
    with pytest.raises(UnknownName, match="'progres'; nearest: progress"):
        gymnasium.make("prosegym/Lockbox-v1", reward="progres")


@pytest.mark.parametrize(
    ("env_id", "name", "value", "said"),
    [
        ("ScienceWorld", "simplifications", ["easy"], "a text, not"),
        ("MiniShop", "products", "many", "a whole number, not 'many'"),
        ("TextWorld-Cooking", "level", [1], "a text or nothing, not"),
        ("Household", "either_put", "no", "true or false, not 'no'"),  # it was taken for true
        ("Household", "max_steps", 2.5, "a whole number or nothing, not 2.5"),
    ],
)
def test_an_argument_of_another_type_is_one_line(env_id: str, name: str, value: Any, said: str) -> None:
    with pytest.raises(BadOption, match=f"^{name} must be {said}"):
        gymnasium.make(f"prosegym/{env_id}-v1", **{name: value})


def test_arguments_are_checked_where_annotations_are_not_postponed() -> None:
    class Offset(lockbox.Lockbox):
        def __init__(self, offset: Any = 1, words: Any = (), **base: Any) -> None: ...

    Offset.__init__.__annotations__.update(offset=int, words=list[str])
    check_arguments(Offset, {"offset": 2, "words": 3})
    with pytest.raises(BadOption, match="^offset must be a whole number, not '2'"):
        check_arguments(Offset, {"offset": "2"})


def test_numbers_of_numpy_are_numbers() -> None:
    env: Any = gymnasium.make("prosegym/Lockbox-v1", max_steps=np.int64(3), admissible=np.bool_(True))
    assert env.unwrapped.max_steps == 3
