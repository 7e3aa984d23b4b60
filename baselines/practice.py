"""Where a method works: an environment, a form of answers, a folder that remembers each phase."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from prosegym.baselines import agents, diagnosis, reflexion
from prosegym.baselines.lm import Generation, LanguageModel, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.react import FORMATS, HINTS, Config, ReAct, as_written, conversation, parse
from prosegym.baselines.reflexion import ModelReflector, Reflection, Reflector
from prosegym.baselines.training import Log, Objective, Optim, fit
from prosegym.envs import trajectory as records
from prosegym.envs.core import TextEnv, digest, unwrapped
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError
from prosegym.envs.home import write_whole
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

T = TypeVar("T")


@dataclass(frozen=True)
class Practice:
    """What a method needs beside a model, data and its own settings."""

    env_id: str
    folder: Path
    agent: Config = Config()
    """Form of the answers, decoding, history: the same in exploration and evaluation. Training data has the
    same form; its episodes are whole, whatever the history."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64
    """Episodes that are live at once."""
    report: tuple[str, ...] = ()
    """Where curves go beside `metrics.jsonl`: any of tensorboard, wandb, trackio."""
    max_steps: int | None = None
    """Optimizer steps of each phase, at most: for a quick look."""
    accelerator: Accelerator = field(default_factory=lambda: Accelerator())
    load: Callable[[str], LocalModel] | None = None
    """Loads a further model to be trained as the first one was, with an adapter where that has one."""

    @cached_property
    def log(self) -> Log:
        """Where metrics go."""
        return Log(self.folder, self.report)

    @cached_property
    def env(self) -> TextEnv:
        """One environment, for its instruction and task lists."""
        return unwrapped(make_env(self.env_id, **self.env_kwargs))

    def conversation(self, trajectory: Trajectory) -> list[Message]:
        """An episode as the conversation the agent has, or would have had.

        Raises:
            BadOption: it has none, and the agent's would show lists of actions that no record keeps.
        """
        if self.agent.hints and not trajectory.messages:
            raise BadOption(
                "an expert's episode does not keep which actions were admissible, so a model would learn "
                "from other prompts than it plays with; leave out --agent.hints, or give --data that an "
                "agent with hints played"
            )
        return conversation(
            trajectory,
            self.agent.told(self.env.instruction),
            FORMATS[self.agent.format],
            memory=trajectory.memory,
            brief=self.agent.brief,
            remind=self.agent.remind,
        )

    def turn_by_turn(self, experts: Sequence[Trajectory]) -> None:
        """See that experts' episodes can be set beside the agent's own, and gone on with, turn by turn.

        Raises:
            ProsegymError: some have other messages than one of the user's and one of the assistant's for each
                step, or the agent would have been told something else.
        """
        if others := self._others(experts):
            raise ProsegymError(
                f"{len(others)} of {len(experts)} expert episodes (the first: {others[0]}) cannot be set "
                "beside the agent's turn by turn: they were played with examples, notes or a prompt that it "
                "does not have; collect them without, give it theirs (--agent.instruction, .format, .brief, "
                ".hints, .remind), or train sft or rft, which take them"
            )

    def told_apart(self, experts: Sequence[Trajectory]) -> None:
        """Warn where experts' episodes would teach the agent answers to other prompts than it plays with."""
        others = self._others(experts)
        if others and self.accelerator.is_main_process:
            warnings.warn(
                f"{len(others)} of {len(experts)} episodes (the first: {others[0]}) were played with "
                "examples, notes or a prompt that this agent does not have; it learns from them and will be "
                "evaluated with its own: give it theirs (--agent.instruction, .format, .brief, .hints, "
                ".remind)",
                stacklevel=3,
            )

    def _others(self, experts: Sequence[Trajectory]) -> list[str]:
        """The tasks of those that were not played turn by turn with what the agent would have been told."""
        others = []
        for e in experts:
            talk = self.conversation(e)
            plain = conversation(
                msgspec.structs.replace(e, messages=[]), self.agent.told(self.env.instruction),
                FORMATS[self.agent.format], brief=self.agent.brief, remind=self.agent.remind,
            )  # fmt: skip
            turns = talk[: len(plain)]
            if len(talk) // 2 != len(e.steps) or [m.role for m in turns] != [m.role for m in plain]:
                others.append(e.task_id)
            elif not self._told([m.content for m in turns[::2]], [m.content for m in plain[::2]]):
                others.append(e.task_id)
        return others

    def _told(self, said: list[str], plain: list[str]) -> bool:
        """Whether the agent would have been told what was said: what is plain, and what its hints list."""
        if not self.agent.hints:
            return said == plain
        listed = "\n\n" + HINTS.partition("{")[0]
        alike = all(s == p or s.startswith(p + listed) for s, p in zip(said, plain, strict=True))
        return alike and said != plain

    def fit(
        self, model: nn.Module, objective: Objective[T], items: Sequence[T], config: Optim, phase: str
    ) -> None:
        """Minimise an objective; resumable under the phase's name. See `training.fit`.

        The run's seed shifts the optimizer's, so that it varies the order of the data too.
        """
        config = replace(config, seed=config.seed + self.seed)
        if self.max_steps is not None:
            config = replace(config, max_steps=min(self.max_steps, config.max_steps or self.max_steps))
        fit(
            model,
            objective,
            items,
            config,
            self.folder / phase,
            self.log,
            phase=phase,
            accelerator=self.accelerator,
        )

    def save(self, policy: LocalModel, folder: Path, method: str) -> None:
        """Write an agent that `agents.load` reads."""
        if self.accelerator.is_main_process:
            agents.save(
                folder,
                policy.model,
                policy.tokenizer,
                self.agent,
                method=method,
                env_ids=[self.env_id],
            )

    def tell(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """A line of the log that stands there once, however often its training is gone on with."""
        if self.accelerator.is_main_process and not self.log.holds(phase, step, metrics):
            self.log.forget_after(phase, step - 1)
            self.log.write(phase, step, metrics)

    def action(self, answer: Message) -> str:
        """What an answer does; the answer itself where no action can be read in it."""
        return parse(answer.content, FORMATS[self.agent.format]) or answer.content

    def compare(self, i: int, answers: Sequence[Message], experts: Sequence[Message]) -> None:
        """`inspected`, from whole answers."""
        self.inspected(i, [(self.action(a), self.action(e)) for a, e in zip(answers, experts, strict=True)])

    def inspected(self, i: int, actions: Sequence[tuple[str, str]]) -> None:
        """Log how often the agent does as the expert: from (its action, the expert's) at expert states."""
        alike = sum(agent.strip() == expert.strip() for agent, expert in actions)
        self.tell("inspection", i, {"states": len(actions), "agreement": alike / max(1, len(actions))})

    def say(self, phase: str, kind: str, found: int, kept: int, cut: int) -> None:
        """Log how much data a phase has, and print what did not fit the context, where something did not.

        Args:
            phase: its name; the line's is `PHASE-data`.
            kind: what they are: texts, pairs.
            found: all there were.
            kept: those that are trained on; the others do not fit up to their first answer, or teach nothing.
            cut: how many of those kept were cut after the last answer that fits.
        """
        self.tell(f"{phase}-data", 1, {kind: kept, "left_out": found - kept, "cut": cut})
        if cut and self.accelerator.is_main_process:
            print(f"{phase}: {cut} of {kept} {kind} are cut after the last answer that fits the context")

    def play(
        self,
        model: LanguageModel,
        jobs: Sequence[Job],
        phase: str,
        *,
        temperature: float = 0.0,
        forced: Mapping[tuple[str, int], Sequence[str]] | None = None,
    ) -> list[Trajectory]:
        """The model's episodes, in the order of the jobs; those already played are read from the folder.

        Args:
            model: plays as a ReAct agent.
            jobs: what is played; with several processes each plays its share.
            phase: names the file, `PHASE.jsonl`, and seeds the sampling.
            temperature: of the sampling.
            forced: answers given in place of the model's at the beginning of an episode, by task and attempt
                (teacher forcing: the model then has the conversation of whoever wrote them).
        """
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        self._play(model, jobs[rank::ranks], self._file(phase, rank), phase, temperature, forced or {})
        rest(model)
        self.accelerator.wait_for_everyone()
        played = {t.key: t for r in range(ranks) for t in records.read(self._file(phase, r))}
        found = [played[job.key] for job in jobs]
        if found:
            self.tell(f"{phase}-played", 1, diagnosis.endings(phase, found, temperature))
        return found

    def trials(
        self,
        model: LanguageModel,
        reflector: Reflector,
        tasks: Sequence[str],
        phase: str,
        config: reflexion.Config,
        *,
        temperature: float = 0.0,
    ) -> tuple[list[Trajectory], list[Reflection]]:
        """Reflexion's loop over these tasks: every try, and every note that was written on one.

        Kept as `PHASE.jsonl` and `PHASE.notes.jsonl`; a phase that was cut is played from its beginning.
        One process plays, the others wait.
        """
        path, notes = self._file(phase, 0), self.folder / f"{phase}.notes.jsonl"
        if not notes.exists() and self.accelerator.is_main_process:
            self.env.prepare([self.env.task(task_id) for task_id in tasks])
            agent = ReAct(model, replace(self.agent, temperature=temperature, record_tokens=True))
            loop = reflexion.Reflexion(agent, reflector, config)
            tries = loop.solve(
                lambda: make_env(self.env_id, **self.env_kwargs),
                tasks,
                batch_size=self.batch_size,
                seed=int(digest(str(self.seed), phase)[:8], 16),
                env_kwargs=dict(self.env_kwargs),
            )
            records.write(path, tqdm(tries, desc=phase, unit="try", leave=False))
            write_whole(notes, b"".join(msgspec.json.encode(r) + b"\n" for r in loop.reflections))
            rest(model, *([reflector.model] if isinstance(reflector, ModelReflector) else []))
        self.accelerator.wait_for_everyone()
        written = [msgspec.json.decode(line, type=Reflection) for line in notes.read_bytes().splitlines()]
        played = list(records.read(path))
        self.tell(f"{phase}-played", 1, diagnosis.endings(phase, played, 0.0))
        return played, written

    def answers(
        self,
        model: LanguageModel,
        states: Sequence[Sequence[Message]],
        phase: str,
        sampling: Sampling,
    ) -> list[Message]:
        """The model's next answer in each of these conversations; no environment is needed.

        Kept as `PHASE.answers.json`. One process answers, the others wait.

        Args:
            model: answers.
            states: conversations whose last message is the user's.
            phase: seeds the sampling.
            sampling: how tokens are chosen; `freely` has the agent's.
        """
        path = self.folder / f"{phase}.answers.json"
        if not path.exists() and self.accelerator.is_main_process:
            requests = [
                Request(state, seed=int(digest(str(self.seed), phase, str(i))[:15], 16))
                for i, state in enumerate(states)
            ]
            written = [as_written(answer) for answer in model.generate(requests, sampling)]
            rest(model)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, msgspec.json.encode(written))
        self.accelerator.wait_for_everyone()
        said = msgspec.json.decode(path.read_bytes(), type=list[Message])
        different = diagnosis.alike(phase, [m.content for m in said], sampling.temperature)
        self.tell(f"{phase}-answers", 1, {"answers": len(said), "different": different})
        return said

    def go_on(
        self,
        model: LanguageModel,
        talks: Mapping[str, Sequence[Message]],
        phase: str,
        temperature: float,
    ) -> dict[tuple[str, int], Trajectory]:
        """The model's episodes from every state of each task's conversation: e_hat_{t:m} after e_{<t}.

        By task and t, how many of the answers were given (teacher forcing); the job's attempt is t. Left out
        are episodes that broke off with an error or before the model's first answer.
        """
        given = {
            (task, t): [m.content for m in talk[1 : 2 * t : 2]]
            for task, talk in talks.items()
            for t in range(len(talk) // 2)
        }
        jobs = [Job(*place) for place in given]
        played = self.play(model, jobs, phase, temperature=temperature, forced=given)
        kept = {
            place: episode
            for place, episode in zip(given, played, strict=True)
            if episode.ended != "error" and len(episode.steps) > place[1]
        }
        some(kept, played)
        return kept

    def freely(self, temperature: float) -> Sampling:
        """How the agent's answers are drawn where it may write anything."""
        return replace(self.agent, temperature=temperature, decoding="free").sampling()

    def _file(self, phase: str, rank: int) -> Path:
        return self.folder / (f"{phase}.jsonl" if rank == 0 else f"{phase}.{rank}.jsonl")

    def _play(
        self,
        model: LanguageModel,
        jobs: Sequence[Job],
        path: Path,
        phase: str,
        temperature: float,
        forced: Mapping[tuple[str, int], Sequence[str]],
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        done = {t.key for t in _whole_lines(path)}
        todo = [job for job in jobs if job.key not in done]
        if not todo:
            return
        config = replace(self.agent, temperature=temperature, record_tokens=True)
        agent = ReAct(Forced(model, forced) if forced else model, config)
        self.env.prepare([self.env.task(task_id) for task_id in dict.fromkeys(job.task_id for job in todo)])
        episodes = rollout(
            lambda: make_env(self.env_id, **self.env_kwargs),
            agent,
            todo,
            batch_size=self.batch_size,
            # Another seed for every phase: nothing an earlier policy computed can be taken for this one's.
            seed=int(digest(str(self.seed), phase)[:8], 16),
            env_kwargs=dict(self.env_kwargs),
        )
        bar = tqdm(episodes, total=len(jobs), initial=len(done), desc=phase, unit="episode", leave=False)
        with open(path, "ab", buffering=0) as file:
            for trajectory in bar:
                records.append(file.fileno(), trajectory)


def _whole_lines(path: Path) -> list[Trajectory]:
    """The episodes of a file that was being written; a last line cut by a kill is taken off."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return list(records.read(path))


def rest(*models: LanguageModel) -> None:
    """Let go of what local models keep between turns: training needs the memory."""
    for model in models:
        if isinstance(model, LocalModel):
            model.rest()


def twin(policy: LocalModel) -> LocalModel:
    """A second model that begins as this one is and changes by itself.

    What is frozen is shared, so a model with an adapter costs a second adapter only. As a reference it is the
    adapter as it was, where a disabled adapter would be the model before any training.
    """
    frozen = {id(p): p for p in policy.model.parameters() if not p.requires_grad}
    return LocalModel(
        copy.deepcopy(policy.model, frozen),
        policy.tokenizer,
        name=policy.name,
        chat=policy.chat,
        max_context=policy.max_context,
        max_batch=policy.max_batch,
        cache_gb=(policy.cache_bytes or 0) / 2**30,
        static_shapes=policy.static_shapes,
        draft=policy.draft,
    )


def trainable(
    model: str, device: str | None = None, *, dtype: str | None = None, four_bit: bool = False
) -> LocalModel:
    """A model to be trained, by name or path: all of it, or the adapter that a trained agent's folder holds.

    Args:
        model: as `agents.load_model` takes it.
        device: cpu, cuda or mps; by default the fastest there is.
        dtype: of the weights; by default float32 where they are trained themselves, for a step of 1e-6 is
            lost in bfloat16, and as stored under an adapter.
        four_bit: hold the weights of linear layers in 4 bits.

    Raises:
        BadOption: it is an endpoint.
    """
    if model.startswith(("http://", "https://")):
        raise BadOption(f"{model} is an endpoint; only a local model can be trained")
    path = agents.shipped(model)
    adapted = (Path(path) / agents.FILE).is_file() and agents.read(path).base is not None
    dtype = dtype or ("auto" if adapted else "float32")
    found = agents.load_model(path, agents.ModelOptions(device=device, dtype=dtype, four_bit=four_bit))
    assert isinstance(found, LocalModel)
    if adapted:
        for name, parameter in found.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    return found


def beginning(reflector: str, policy: LocalModel, practice: Practice) -> LocalModel:
    """What a reflector begins as: the model of that name or path; where there is none, the policy's twin."""
    if not reflector:
        return twin(policy)
    return practice.load(reflector) if practice.load else trainable(reflector, policy.model.device.type)


def noted(reflection: Reflection) -> list[Message]:
    """A note as a conversation: the reflector's prompt read, the note written."""
    return [*reflection.prompt, as_written(reflection.generation)]


def some(kept: Sized, played: Sequence[Trajectory]) -> None:
    """Nothing, where some of these explorations are kept.

    Raises:
        ProsegymError: none is, for every one broke off.
    """
    if played and not kept:
        why = next((t.error for t in played if t.error), "the prompt fills the model's context")
        raise ProsegymError(f"none of {len(played)} explorations has an answer to learn from: {why}")


def ratings(
    tries: Sequence[Trajectory], notes: Sequence[Reflection]
) -> list[tuple[Reflection, Trajectory, Trajectory]]:
    """Every note with the try it is about and the try that followed it: the scores say its worth.

    Tries that broke off with an error have none.
    """
    played = {t.key: t for t in tries if t.ended != "error"}
    keys = [(n, (n.task_id, n.attempt, n.trial), (n.task_id, n.attempt, n.trial + 1)) for n in notes]
    return [(n, played[a], played[b]) for n, a, b in keys if n.text and a in played and b in played]


def best_of(experts: Sequence[Trajectory]) -> dict[str, Trajectory]:
    """The expert's best episode of each task, the last of equals."""
    return {e.task_id: e for e in sorted(experts, key=lambda e: e.score)}


def only_answer(talk: Sequence[Message], t: int) -> list[Message]:
    """A conversation up to its t-th answer, from 0, and that answer alone trained on."""
    return from_answer(talk[: 2 * t + 2], t)


def from_answer(talk: Sequence[Message], t: int) -> list[Message]:
    """A conversation that is trained on from its t-th answer on, from 0."""
    read = [Message(m.role, m.content) if m.role == "assistant" else m for m in talk[: 2 * t + 1]]
    return [*read, *talk[2 * t + 1 :]]


class Forced:
    """A language model whose first answers in an episode are given: teacher forcing."""

    def __init__(self, model: LanguageModel, answers: Mapping[tuple[str, int], Sequence[str]]) -> None:
        """`answers` are the first ones of an episode, by task id and attempt."""
        self._model = model
        self._answers = answers
        self._turns: dict[Hashable, int] = {}
        self.name = model.name

    def conditions(self) -> Mapping[str, Any]:
        """The model's."""
        return self._model.conditions()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """The given answer while there is one; then the model's."""
        found: list[Generation | None] = []
        for request in requests:
            assert isinstance(request.key, tuple)
            answers = self._answers.get((request.key[0], request.key[1]), ())
            # Counted here: a history that leaves turns out shows fewer. An episode begins without an answer.
            answered = any(message.role == "assistant" for message in request.messages)
            turn = self._turns[request.key] = self._turns[request.key] + 1 if answered else 0
            found.append(Generation(answers[turn]) if turn < len(answers) else None)
        asked = [request for request, answer in zip(requests, found, strict=True) if answer is None]
        written = iter(self._model.generate(asked, sampling) if asked else ())
        return [answer if answer is not None else next(written) for answer in found]

    def count_tokens(self, text: str) -> int:
        """As the model counts."""
        return self._model.count_tokens(text)


def demonstrations(
    path: str | Path, env_id: str, env_kwargs: Mapping[str, Any] = MappingProxyType({})
) -> list[Trajectory]:
    """The episodes of a file, or of a run's folder, that went without an error, their messages as text.

    Those of an environment made with other arguments (another dialect, say), of another split than train, or
    without success are taken with a warning.

    Raises:
        CorruptData: the file is damaged, or an episode is of another environment.
        ProsegymError: it holds none.
    """
    found = []
    others: dict[str, int] = {}
    """Other arguments, as text, and the first line that has them."""
    held_out: dict[str, int] = {}
    """Splits but train, and the first line of each."""
    path = records.file_of(path)
    for number, trajectory in enumerate(records.read(path), start=1):
        if trajectory.env_id != env_id:
            raise CorruptData(f"{path}:{number} is an episode of {trajectory.env_id}, not of {env_id}")
        if _worded(trajectory.env_kwargs) != _worded(env_kwargs):
            others.setdefault(str(trajectory.env_kwargs), number)
        if trajectory.split != "train":
            held_out.setdefault(trajectory.split, number)
        if trajectory.ended != "error" and trajectory.steps:
            # Whose tokens a file holds is not known: another tokenizer reads other words in them.
            said = [
                msgspec.structs.replace(m, token_ids=msgspec.UNSET, logprobs=msgspec.UNSET)
                for m in trajectory.messages
            ]
            found.append(msgspec.structs.replace(trajectory, messages=said))
    if not found:
        raise ProsegymError(f"{path} holds no episode to learn from")
    for kwargs, number in others.items():
        warnings.warn(
            f"{path}:{number} was played with the arguments {kwargs}, this training plays with "
            f"{dict(env_kwargs)}: where they change texts or tasks, give other data or --env-kwargs",
            stacklevel=2,
        )
    for split, number in held_out.items():
        warnings.warn(
            f"{path}:{number} is of split {split}: what learns from a task must not be evaluated on it",
            stacklevel=2,
        )
    if failed := [t.score for t in found if not t.success]:
        warnings.warn(
            f"{len(failed)} of {len(found)} episodes of {path} ended without success (their mean score is "
            f"{sum(failed) / len(failed):.2f}) and are learnt from as the others are; where that is not good "
            "enough, leave them out: `prosegym collect --successes`",
            stacklevel=2,
        )
    return found


def _worded(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that can change what is read or which tasks there are."""
    return {name: value for name, value in env_kwargs.items() if name not in ("reward", "max_steps")}
