"""What one game is: a household at its beginning, and the task. Plain data, with a digest."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from prosegym.envs.core import digest

Kind = Literal["simple", "clean", "heat", "cool", "two", "light"]
"""What must be done: place an object, treat it first, place two, or hold one under a lit lamp."""

KINDS: tuple[Kind, ...] = get_args(Kind)

TASK_TYPES: dict[Kind, str] = {
    "simple": "pick_and_place_simple",
    "clean": "pick_clean_then_place_in_recep",
    "heat": "pick_heat_then_place_in_recep",
    "cool": "pick_cool_then_place_in_recep",
    "two": "pick_two_obj_and_place",
    "light": "look_at_obj_in_light",
}
"""The six task types under the names that ALFRED gave them."""

SENTENCES: dict[Kind, tuple[str, str]] = {
    "simple": ("put a {o} in {t}.", "put some {o} on {t}."),
    "clean": ("put a clean {o} in {t}.", "clean some {o} and put it in {t}."),
    "heat": ("put a hot {o} in {t}.", "heat some {o} and put it in {t}."),
    "cool": ("put a cool {o} in {t}.", "cool some {o} and put it in {t}."),
    "two": ("put two {o} in {t}.", "find two {o} and put them in {t}."),
    "light": ("look at {o} under the {t}.", "examine the {o} with the {t}."),
}
"""How ALFWorld words each task."""

# What an object allows, and the state it begins in: bits of `Thing.traits`.
PICKUPABLE, CLEANABLE, HEATABLE, COOLABLE, TOGGLEABLE, SLICEABLE, HOLDER = (1 << i for i in range(7))
IS_CLEAN, IS_HOT, IS_COOL, IS_TOGGLED, IS_SLICED = (1 << i for i in range(7, 12))


class Receptacle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Furniture or an appliance: it stays where it is, and things lie on it or in it."""

    name: str
    type: int
    """Index in `Game.receptacle_types`, -1 for none."""
    place: int
    """Index in `Game.places`, -1 where nobody can go to it."""
    openable: bool
    opened: bool
    contents: tuple[int, ...]
    """Objects on or in it, ascending."""


class Thing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An object."""

    name: str
    type: int
    """Index in `Game.object_types`, -1 for none."""
    traits: int
    places: tuple[int, ...]
    """Places it is said to be at; only slicing and what lies on the floor depend on them."""
    inside: tuple[int, ...]
    """Objects in it, where it is a `HOLDER`; they are named when it is examined, no more."""


class Game(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A game at its beginning. Receptacles and objects stand in the order in which texts list them."""

    task: str
    """The sentence after "Your task is to: "."""
    kind: Kind
    goal_object: str
    """Type of the object to be placed or looked at."""
    goal_target: str
    """Type of the receptacle to place it in, or of the lamp to look at it under."""
    start: int
    """The place where the player begins."""
    places: tuple[str, ...]
    """Names of the places; the older dialect shows them."""
    receptacle_types: tuple[str, ...]
    object_types: tuple[str, ...]
    fits: tuple[tuple[int, ...], ...]
    """For each receptacle type, the object types that can be put there, ascending."""
    receptacles: tuple[Receptacle, ...]
    objects: tuple[Thing, ...]

    @property
    def task_type(self) -> str:
        """Its task type, under ALFRED's name."""
        return TASK_TYPES[self.kind]

    def sha256(self) -> str:
        """Digest of all that can change an episode."""
        return digest(_encoder.encode(self))


_encoder = msgspec.json.Encoder()
