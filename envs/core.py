"""The vocabulary of every layer above: Task, Outcome, Expert and TextEnv.

A family subclasses `TextEnv` and supplies four things: its task lists, how an episode begins, what an
action does, and its experts. Everything Gymnasium asks for beyond that (seeding, options, the info
keys, step limits, closing, rendering, pickling) is here, once.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, overload

import gymnasium
import msgspec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from prosegym.envs.errors import BadOption, ProsegymError, UnknownName, Unsupported
from prosegym.envs.spaces import Text

if TYPE_CHECKING:
    from typing_extensions import Self

INFO_KEYS = (
    "task_id",
    "task_type",
    "split",
    "admissible_actions",
    "score",
    "progress",
    "success",
    "invalid_action",
    "steps",
)
"""What `info` holds after every reset and step, of every environment."""

MAX_ACTION = 1 << 16
"""Longest action that reaches an engine, in characters; a longer one is invalid."""

# C0 controls but tab, newline and carriage return; DEL; lone surrogates, which UTF-8 cannot carry.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_RESET_OPTIONS = ("task_id", "prefix")

_BESIDE = ("split", "admissible", "expose_expert", "render_mode")
"""Arguments that an episode does not depend on once it has begun."""
_MAKE_EQUAL = "make both with equal arguments"


def digest(*parts: str | bytes) -> str:
    """SHA-256, in hexadecimal, of the parts joined by NUL bytes; texts as UTF-8."""
    data = (part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(b"\0".join(data)).hexdigest()


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to be solved; `reset(options={"task_id": task.id})` starts it."""

    id: str
    split: str
    env_id: str
    task_type: str
    sha256: str
    """Digest of the task's whole content: equal digests, equal episodes for equal actions."""


class Tasks(Sequence[Task]):
    """An ordered task list whose tasks are made when asked for."""

    def __init__(self, count: int, make: Callable[[int], Task]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._make(index % self._count)


class Outcome(NamedTuple):
    """What the engine answers to the start of an episode or to an action."""

    observation: str
    score: float = 0.0
    """In [0, 1]; the engine's own score at this moment."""
    progress: float = 0.0
    """In [0, 1]; share of the task's sub-goals reached."""
    success: bool = False
    """Whether the task's full score has been reached."""
    terminated: bool = False
    """Whether the engine has ended the episode."""
    invalid: bool = False
    """Whether the action was refused: it changed nothing."""


class Expert(Protocol):
    """Plays one episode, from its start, well."""

    privileged: bool
    """Whether it uses facts that an agent could not have seen.

    A privileged expert reads the engine's state, so it may be asked in any state. An honest one knows
    only what it was shown: it must be shown every observation and its actions must be taken.
    """

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action, or None where this expert has no advice (off its path)."""
        ...


class TextEnv(gymnasium.Env[str, str]):
    """A Gymnasium environment whose observations and actions are text.

    A family supplies `tasks`, `_begin`, `_play`, and, where it has them, `_admissible`, `_expert`,
    `_save` and `_load`.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}
    env_id: ClassVar[str]
    """The registered id, `prosegym/Name-vN`."""
    instruction: str
    """What the environment is and which actions it takes, for an agent that has never seen it."""
    splits: ClassVar[tuple[str, ...]] = ("train", "valid", "test")
    experts: ClassVar[Mapping[str, bool]] = {}
    """Name of each expert, and whether it is privileged; the first is the default one."""
    data: ClassVar[str | None] = None
    """Name of the official data set it needs (`prosegym data get NAME`), None where it needs none."""
    official: ClassVar[bool] = False
    """Whether its tasks are those of a published benchmark; generated tasks are a benchmark of our own."""
    extra: ClassVar[str | None] = None
    """The optional dependency it needs (`pip install "prosegym[EXTRA]"`), None where it needs none."""
    tells_type: ClassVar[bool] = True
    """Whether a task's beginning tells its type; where it does not, an agent's examples do not go by it."""
    ceiling: ClassVar[float] = 1.0
    """Mean score that the default expert is known to reach."""
    max_steps: int = 50
    """Steps after which an episode is truncated, unless the constructor was given another number."""
    refusal: str = "Nothing happens."
    """The environment's own words for an action it cannot read."""

    def __init__(
        self,
        *,
        split: str = "train",
        max_steps: int | None = None,
        admissible: bool = True,
        expose_expert: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment; nothing is loaded before the first reset.

        Args:
            split: the split that `reset` draws from when no task is named.
            max_steps: steps after which an episode is truncated; None keeps the published limit.
            admissible: whether info lists the admissible actions (None instead of the list saves time).
            expose_expert: whether info carries `expert_action`, what the first privileged expert would do now
                (an honest one can say it only where all its actions were taken; it is asked where none is
                privileged); evaluation refuses such an environment.
            render_mode: None or "ansi".
        """
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        if max_steps is not None and (not isinstance(max_steps, Integral) or max_steps < 1):
            raise BadOption(f"max_steps must be a whole number of at least 1, not {max_steps!r}")
        if render_mode not in (None, "ansi"):
            raise UnknownName("render_mode", render_mode, ["ansi"])
        self.observation_space = Text()
        self.action_space = Text()
        self.split = split
        self.max_steps = self.max_steps if max_steps is None else max_steps
        self.admissible = admissible
        self.expose_expert = expose_expert
        self.render_mode = render_mode
        self._task: Task | None = None
        self._closed = False
        self._steps = 0
        self._last = Outcome("")
        self._shown = ""
        self._advisor: Expert | None = None
        self._index: dict[str, Task] | None = None
        self.restored: tuple[str, dict[str, Any]] | None = None
        """What `restore` returned, where the episode goes on from a snapshot; None after `reset`."""

    # What a family supplies.

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Task]:
        """Every task of a split, in an order that is the same on every machine.

        Raises:
            UnknownName: there is no such split.
            DataMissing: the data is not here; the message says the command that gets it.
        """

    @abstractmethod
    def _begin(self, task: Task) -> Outcome:
        """Load a task and show its first observation."""

    @abstractmethod
    def _play(self, action: str) -> Outcome:
        """Do one action; an action that cannot be done changes nothing and has `invalid` set."""

    def prepare(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Make ready what the tasks need (games to be built, say), many at once and with progress.

        Optional: a task that was not prepared is made ready when it is reset.
        """

    def conditions(self) -> Mapping[str, Any]:
        """What a run records beyond the arguments: what this machine settles and can change a score."""
        return {}

    def _admissible(self) -> list[str] | None:
        """The actions that the present state admits, in a fixed order; None where they cannot be listed."""
        return None

    def _expert(self, name: str) -> Expert:
        """The expert of that name (one of `experts`) for the present episode."""
        raise NotImplementedError

    def _save(self) -> Any:
        """The engine's state, as something that later plays do not change."""
        raise Unsupported(f"{self.env_id} cannot snapshot its engine; reset with options={{'prefix': [...]}}")

    def _load(self, state: Any) -> None:
        """Go back to a state that `_save` returned."""
        raise NotImplementedError

    # What every family has.

    def task(self, task_id: str) -> Task:
        """The task of that id, whatever its split.

        Raises:
            UnknownName: there is none; the message lists near ones.
        """
        if self._index is None:
            self._index = {task.id: task for split in self.splits for task in self.tasks(split)}
        if task_id not in self._index:
            raise UnknownName("task id", task_id, self._index)
        return self._index[task_id]

    def expert(self, name: str | None = None) -> Expert:
        """An expert for the episode that the last `reset` began; by default the first of `experts`."""
        if not self.experts:
            raise Unsupported(f"{self.env_id} has no expert")
        name = next(iter(self.experts)) if name is None else name
        if name not in self.experts:
            raise UnknownName("expert", name, self.experts)
        if self._task is None:
            raise ResetNeeded("call reset before asking for an expert")
        return self._expert(name)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: seeds the generator that draws tasks; the same seed draws the same task.
            options: `task_id` names the task; `prefix` is a list of actions to be taken first, so that the
                episode starts where they lead (they count as steps).

        Raises:
            BadOption: an unknown option, a task id that is no text, or a prefix that ends the episode.
            UnknownName: no such task.
        """
        if self._closed:
            raise ClosedEnvironmentError(f"{self.env_id} is closed; make a new one")
        super().reset(seed=seed)
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise BadOption(f"reset options are a dictionary, not {options!r:.80}")
        for key in options:
            if key not in _RESET_OPTIONS:
                raise BadOption(f"unknown reset option {key!r}; there are {', '.join(_RESET_OPTIONS)}")
        prefix = () if (given := options.get("prefix")) is None else given
        if isinstance(prefix, str) or not (
            isinstance(prefix, Sequence) and all(isinstance(action, str) for action in prefix)
        ):
            raise BadOption(f"prefix is a list of actions, not {prefix!r:.80}")
        if (task_id := options.get("task_id")) is not None:
            if not isinstance(task_id, str):
                raise BadOption(f"task_id is the id of a task, a text, not {type(task_id).__name__}")
            task = self.task(task_id)
        else:
            pool = self.tasks(self.split)
            if not len(pool):
                raise BadOption(f"split {self.split!r} has no tasks here; there are {', '.join(self.splits)}")
            task = pool[int(self.np_random.integers(len(pool)))]
        self._task = None  # a failed beginning leaves no half-begun episode
        self._last = self._begin(task)
        self._task = task
        self._steps = 0
        try:
            for action in prefix:
                if self._last.terminated or self._steps >= self.max_steps:
                    raise BadOption(f"the prefix goes on after the episode has ended (step {self._steps})")
                self._last = self._answer(action)
                self._steps += 1
            if self._last.terminated or self._steps >= self.max_steps:
                raise BadOption(
                    f"the prefix ends the episode (step {self._steps}); leave out its last action"
                )
        except BaseException:
            self._task = None
            raise
        self.restored = None
        return self._go_on()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Do one action. The reward is sparse: the score, at the end of the episode; 0 before."""
        if self._task is None:
            if self._closed:
                raise ClosedEnvironmentError(f"{self.env_id} is closed; make a new one")
            raise ResetNeeded("call reset before step")
        before, last = self._last, self._answer(action)
        if before.terminated:  # an engine may go on, and even let another answer be given
            last = before._replace(observation=last.observation, invalid=last.invalid)
        self._last = last
        self._steps += 1
        truncated = not last.terminated and self._steps >= self.max_steps
        reward = last.score if truncated or last.terminated else 0.0
        self._shown = last.observation
        return last.observation, reward, last.terminated, truncated, self._info()

    def _go_on(self) -> tuple[str, dict[str, Any]]:
        """Where the episode begins or goes on: its observation and info, to an adviser who sees it first."""
        self._advisor = None
        if self.expose_expert:
            # The first privileged one, which may be asked in any state; None, the default, where none is.
            self._advisor = self.expert(next((name for name, sees in self.experts.items() if sees), None))
        self._shown = self._last.observation
        return self._shown, self._info()

    def _answer(self, action: str) -> Outcome:
        if not isinstance(action, str):
            raise TypeError(f"an action is a string, not {type(action).__name__}")
        if len(action) > MAX_ACTION or (not action.isprintable() and CONTROL.search(action)):
            return self._last._replace(observation=self.refusal, invalid=True)
        return self._play(action)

    def _info(self) -> dict[str, Any]:
        task, last = self._task, self._last
        assert task is not None
        info: dict[str, Any] = {
            "task_id": task.id,
            "task_type": task.task_type,
            "split": task.split,
            "admissible_actions": self._admissible() if self.admissible else None,
            "score": last.score,
            "progress": last.progress,
            "success": last.success,
            "invalid_action": last.invalid,
            "steps": self._steps,
        }
        if self._advisor is not None:
            info["expert_action"] = self._advisor.act(last.observation, info)
        return info

    def snapshot(self) -> Any:
        """The state of the episode, for `restore` of this or another instance of the same environment.

        Raises:
            Unsupported: the engine cannot do it cheaply; start from a prefix instead.
        """
        if self._task is None:
            raise ResetNeeded("call reset before snapshot")
        return self._task, self._steps, self._last, self._settings, self._save()

    def restore(self, state: Any) -> tuple[str, dict[str, Any]]:
        """Go back to a snapshot; returns its observation and info, as `reset` does.

        Raises:
            BadOption: the snapshot is of another environment, or of one made with other arguments (but which
                split it draws from and what it shows beside the episode).
        """
        if self._closed:
            raise ClosedEnvironmentError(f"{self.env_id} is closed; make a new one")
        task, steps, last, settings, engine = state
        if task.env_id != self.env_id:
            raise BadOption(f"a snapshot of {task.env_id} cannot be restored in {self.env_id}")
        if settings != (here := self._settings):
            name = next(name for name in here if settings[name] != here[name])
            raise BadOption(
                f"the snapshot is of {name}={settings[name]!r}, and here is {here[name]!r}; {_MAKE_EQUAL}"
            )
        if task != self._task and task != self.task(task.id):
            raise BadOption(f"task {task.id!r} of the snapshot is another one here; {_MAKE_EQUAL}")
        self._task, self._steps, self._last = task, steps, last
        try:
            self._load(engine)
        except BaseException:
            self._task = None  # no episode is left half restored
            raise
        self.restored = self._go_on()
        return self.restored

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments, defaults included, that say how an episode goes on."""
        given = self._made_with[1] | {"max_steps": self.max_steps}
        taken = arguments(type(self)).items()
        return {name: given.get(name, parameter.default) for name, parameter in taken if name not in _BESIDE}

    def render(self) -> str | None:
        """The latest observation, when made with `render_mode="ansi"`."""
        return self._shown if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Let go of the engine; closing twice is harmless."""
        self._closed = True
        self._task = None

    # A pickled environment is a new one made with the same arguments: engines do not travel.

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, for `__reduce__`."""
        self = super().__new__(cls)
        self._made_with = (args, kwargs)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), *self._made_with, self.spec)


def unwrapped(env: gymnasium.Env[Any, Any]) -> TextEnv:
    """The text environment under whatever wrappers it has.

    Raises:
        ProsegymError: it is none of this project's kind.
    """
    found = env.unwrapped
    if not isinstance(found, TextEnv):
        raise ProsegymError(f"{type(found).__name__} is not a prosegym environment (TextEnv)")
    return found


def _remake(cls: type[TextEnv], args: tuple[Any, ...], kwargs: dict[str, Any], spec: Any) -> TextEnv:
    env = cls(*args, **kwargs)
    env.spec = spec
    return env


def arguments(env_class: type[TextEnv]) -> dict[str, inspect.Parameter]:
    """The constructor arguments, those that a family passes on to its bases included."""
    found: dict[str, inspect.Parameter] = {}
    for cls in env_class.__mro__:
        if "__init__" in vars(cls) and issubclass(cls, TextEnv):
            for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items():
                if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    found.setdefault(name, parameter)
    return found
