"""ReAct: reading answers, what the model is shown, what is recorded."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import pytest
import tiny_lm

from prosegym.baselines import agents
from prosegym.baselines.chat import audit
from prosegym.baselines.examples import pick
from prosegym.baselines.lm import Request, Sampling, Scripted
from prosegym.baselines.local import LocalModel
from prosegym.baselines.react import FORMATS, Config, History, ReAct, conversation, parse, reminded
from prosegym.baselines.reflexion import Config as Retries
from prosegym.baselines.reflexion import Reflexion
from prosegym.envs import ENVS, panels
from prosegym.envs.core import digest
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.trajectory import Message, Trajectory, decode, encode, write
from prosegym.evaluation.agents import ExpertAgent
from prosegym.evaluation.evaluate import Retrying, evaluate
from prosegym.evaluation.rollout import Job, rollout

LOCKBOX = "prosegym/Lockbox-v1"


def make() -> Any:
    return gymnasium.make(LOCKBOX)


def play(agent: Any, *tasks: str, **job: Any) -> list[Trajectory]:
    return list(rollout(make, agent, [Job(task, **job) for task in tasks or ("train/red",)]))


def experts(*tasks: str) -> list[Trajectory]:
    return play(ExpertAgent(), *tasks)


@pytest.mark.parametrize(
    "fmt, text, action",
    [
        ("react", "Thought: hm\nAction: go to desk 1", "go to desk 1"),
        ("react", "Thought 2: hm\nAction 2: go", "go"),
        ("react", "action:  search[a: b]  ", "search[a: b]"),
        ("react", "Action: SELECT a\nFROM b\nObservation: 3 rows", "SELECT a\nFROM b"),
        ("react", "Action: go\nThought: done\nAction: stop", "go"),
        ("react", "<think>x</think><action>go</action>", "go"),
        ("react", "Thought: the Action: is unclear", None),
        *(
            ("react", said, "go north")
            for said in (
                "**Thought:** hm\n**Action:** go north\n**Observation:** a wall",
                "**Action**: go north",
                "**Action 2: go north**",
                "_Action:_ go north",
                "## Thought:\nhm\n\n### Action: go north",
                "- Thought: hm\n- Action: go north\n- Observation: a wall",
                "* **Action:** go north",
                "> Thought: hm\n> Action: go north",
                "Thought: so far\n- Action: go south\nnow\nAction: go north",
                "Action: `go north`",
                "Action:\n```\ngo north\n```",
                "<action>`go north`</action>",
            )
        ),
        ("react", "Action:\n```sql\nSELECT `a`\nFROM b\n```", "SELECT `a`\nFROM b"),
        ("react", "Action: `a` FROM `b`", "`a` FROM `b`"),
        ("react", "Action: SELECT *", "SELECT *"),
        ("react", "**Action:** SELECT **", "SELECT **"),
        ("react", "Action: SELECT 1\n-- action: none", "SELECT 1\n-- action: none"),
        ("react", "Action: ``", "``"),
        ("bare", "```sql\nSHOW TABLES\n```", "SHOW TABLES"),
        ("react", "go to desk 1", None),
        ("react", "Action:", None),
        ("react", "Action:\nObservation: you win", None),
        ("think", "<think>a <action>no</action></think>\n<action> go </action>", "go"),
        ("think", "<action>go", "go"),
        ("think", "<think>going on and on", None),
        *(
            (fmt, f"<think>\nFirst idea:\nAction: fly\nBut no.\n</think>\n\n{said}", "look")
            for fmt, said in (
                ("react", "Thought: so\nAction: look"),
                ("think", "Action: look"),
                ("bare", "look"),
            )
        ),
        *((fmt, "<think>\nFirst idea:\nAction: fly\nor <action>fly</action>", None) for fmt in FORMATS),
        *((fmt, "Action: look\n<think>and then\nAction: fly", "look") for fmt in FORMATS),
        ("bare", "<think>look", None),
        *((fmt, "Action: look\n<think>and then\nAction: fly</think>", "look") for fmt in FORMATS),
        ("bare", "I think</think>look", "look"),
        ("think", "Action: go", "go"),
        ("bare", " go \n", "go"),
        ("bare", "Thought: hm\nAction: go", "go"),
        ("bare", "<action></action>", None),
        *((fmt, text, None) for fmt in FORMATS for text in ("", "\n\n\n", " \t")),
    ],
)
def test_parse(fmt: str, text: str, action: str | None) -> None:
    assert parse(text, FORMATS[fmt]) == action


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda f: f.name)
@pytest.mark.parametrize("action", ["go", "search[Action: x]", "SELECT '</a>'\nFROM b", "take red key"])
def test_what_is_written_is_read(fmt: Any, action: str) -> None:
    assert parse(fmt.write(action), fmt) == action


def test_parse_survives_a_million_characters() -> None:
    for fmt, text in itertools.product(
        FORMATS.values(),
        (
            "a " * 500_000,
            "\n" * 1_000_000,
            "<think>" * 140_000,
            *(c * 500_000 for c in ("> ", "* ", "#", "`")),
        ),
    ):
        assert parse(text, fmt) in (None, text.strip())


@pytest.mark.parametrize("said", ["", "\n\n", "nothing to see", "x" * 100_000])
def test_parse_failures_are_counted_apart_and_never_end_an_episode(said: str) -> None:
    (trajectory,) = play(ReAct(Scripted(lambda r: said)))
    assert trajectory.ended == "truncated" and trajectory.error is None
    assert [s.parse_failed for s in trajectory.steps] == [True] * 6
    assert {s.observation for s in trajectory.steps[1:]} == {"Nothing happens."}
    invalid = play(ReAct(Scripted(lambda r: "Action: dance")))[0].steps
    assert [(s.invalid, s.parse_failed) for s in invalid] == [(True, False)] * 6


def script(request: Request) -> str:
    colour = request.messages[0].content.rpartition("The box is ")[2].split(".")[0]
    return f"Thought: {colour}.\nAction: " + (
        f"take {colour} key" if len(request.messages) == 1 else "open box"
    )


def test_an_episode_is_a_conversation() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> str:
        seen.append(request)
        return script(request)

    (trajectory,) = play(ReAct(Scripted(answer)), memory=("the key is red",))
    assert trajectory.success and trajectory.actions == ["take red key", "open box"]
    roles = [(m.role, m.trainable) for m in trajectory.messages]
    assert roles == [("user", False), ("assistant", True)] * 2
    first = trajectory.messages[0].content
    assert first.startswith(make().unwrapped.instruction) and first.endswith("The box is red.")
    assert FORMATS["react"].ask in first and "1. the key is red" in first
    assert trajectory.messages[2].content == "You hold the red key."
    assert [m.content for m in seen[1].messages] == [m.content for m in trajectory.messages[:3]]
    assert len({r.key for r in seen}) == 1 and len({r.seed for r in seen}) == 2
    assert decode(encode(trajectory)) == trajectory


def test_experts_become_the_same_conversation() -> None:
    """What a learner is trained on has the form that the agent will meet when it plays."""
    (expert,) = experts("train/red")
    instruction = make().unwrapped.instruction
    taught = conversation(expert, instruction, FORMATS["bare"])
    (played,) = play(ReAct(Scripted(lambda r: expert.actions[len(r.messages) // 2]), Config(format="bare")))
    assert taught == played.messages
    assert conversation(played, "", FORMATS["react"]) == played.messages
    marked = conversation(expert, instruction, FORMATS["react"])
    assert marked[1].content == "Action: take red key"


def test_an_instruction_of_ones_own() -> None:
    config = Config(instruction="Open it!")
    agent = ReAct(Scripted(lambda request: "Action: look"), config)
    (played,) = play(agent)
    said = played.messages[0].content
    assert said.startswith(f"Open it!\n\n{FORMATS['react'].ask}\n\n")
    assert said.endswith("The box is red.")
    bare = dict(ReAct(agent.model).conditions())
    assert agent.conditions() == bare | {"instruction_sha256": digest("Open it!")}


def test_a_brief_agent_is_reminded_of_its_task() -> None:
    (expert,) = experts("train/red")
    config = Config(format="bare", brief=True, remind=True)
    instruction = make().unwrapped.instruction
    taught = conversation(expert, instruction, FORMATS["bare"], memory=["a"], brief=True, remind=True)
    agent = ReAct(Scripted(lambda r: expert.actions[len(r.messages) // 2]), config)
    (played,) = play(agent, memory=("a",))
    assert taught == played.messages
    assert instruction not in taught[0].content and "1. a" in taught[0].content
    task = expert.steps[0].observation.rpartition("\n\n")[2]
    assert taught[0].content.endswith(task) and taught[2].content == f"You hold the red key.\n{task}"


def test_the_reminder_is_the_paragraph_that_names_the_task() -> None:
    rooms = "-= Attic =-\nA dusty place.\n\nThere is an exit to the north."
    for objective in (
        "Your objective is to take the key.",
        "Hungry? Cook the meal in the book, then eat it.",
    ):
        assert reminded("Taken.", f"{objective}\n\n{rooms}") == f"Taken.\n{objective}"
    assert reminded("Taken.", f"{rooms}\n\nYour task is to: win.\n") == "Taken.\nYour task is to: win."


def turns(count: int) -> list[Message]:
    talk = [Message("user", "rules 0")]
    for i in range(1, count):
        talk += [Message("assistant", f"a{i}"), Message("user", f"o {i}")]
    return talk


def test_history_policies() -> None:
    words = Scripted(lambda r: "")
    talk = turns(6)
    assert History.parse("full").view(talk, 1, words) == talk
    last = History.parse("last:2").view(talk, 1, words)
    assert [m.content for m in last] == [
        "rules 0\n\n[3 earlier turns are left out here]",
        "a4",
        "o 4",
        "a5",
        "o 5",
    ]
    # 2 words for the first message, 3 for each turn: 8 hold two turns, 7 only one.
    assert [m.content for m in History.parse("budget:8").view(talk, 1, words)][1:] == [
        "a4",
        "o 4",
        "a5",
        "o 5",
    ]
    assert [m.content for m in History.parse("budget:7").view(talk, 1, words)][1:] == ["a5", "o 5"]
    assert [m.content for m in History.parse("budget:1").view(talk, 1, words)][1:] == ["a5", "o 5"]
    assert History.parse("last:5").view(talk, 1, words) == talk
    shown = History.parse("last:1").view(talk, 3, words)  # an example of one turn comes first
    assert [m.content for m in shown] == [
        "rules 0", "a1", "o 1\n\n[3 earlier turns are left out here]", "a5", "o 5",
    ]  # fmt: skip
    assert str(History.parse("last:2")) == "last:2"
    for bad in ("last", "last:0", "some:3", "full:2", "budget:x"):
        with pytest.raises((BadOption, UnknownName)):
            History.parse(bad)


def test_history_is_what_the_model_sees_and_not_what_is_recorded() -> None:
    longest: list[int] = []

    def answer(request: Request) -> str:
        longest.append(len(request.messages))
        return "dance"

    agent = ReAct(Scripted(answer), Config(format="bare", history="last:1"))
    (trajectory,) = play(agent)
    assert longest == [1, 3, 3, 3, 3, 3]
    assert len(trajectory.messages) == 12
    assert agent.conditions()["history"] == "last:1"


def test_hints_list_the_actions() -> None:
    (trajectory,) = play(ReAct(Scripted(script), Config(hints=True)))
    assert "- take red key" in trajectory.messages[0].content
    assert "- open box" in trajectory.messages[2].content
    assert "open box" not in play(ReAct(Scripted(script)))[0].messages[0].content.split("Answer in")[1]


def test_examples_are_drawn_by_a_seeded_rule() -> None:
    pool = experts(*(f"train/{c}" for c in ("red", "blue", "green", "teal", "plum", "rust")), "valid/pink")
    picked = pick(pool, LOCKBOX, 2, seed=1)
    assert picked == pick(reversed(pool), LOCKBOX, 2, seed=1)
    assert picked != pick(pool, LOCKBOX, 2, seed=2)
    assert set(picked) == {"", "warm", "cold"} and len(picked["cold"]) == 2
    assert all(t.split == "train" and t.task_type == "cold" for t in picked["cold"])
    seen: list[Request] = []

    def answer(request: Request) -> str:
        seen.append(request)
        return "Action: open box"

    agent = ReAct(Scripted(answer), Config(), examples=picked)
    (trajectory,) = play(agent, "test/grey")
    shown = picked["cold"]
    contents = [m.content for m in seen[0].messages]
    assert len(contents) == 9 and contents[-1].endswith("The box is grey.")
    assert contents[1] == f"Action: {shown[0].actions[0]}"
    assert contents[4].startswith("It opens.\n\nThat task is over.")
    assert not any(m.trainable for m in trajectory.messages[:8]) and trajectory.messages[9].trainable
    conditions = agent.conditions()
    assert conditions["examples"]["cold"] == [t.task_id for t in shown]
    worded = {k: [msgspec.structs.replace(t, steps=t.steps[:1]) for t in v] for k, v in picked.items()}
    other = ReAct(agent.model, Config(), examples=worded).conditions()
    assert {k for k in conditions if conditions[k] != other[k]} == {"examples_sha256"}
    assert "examples_sha256" not in ReAct(agent.model).conditions()
    own = shown[0].task_id
    (again,) = play(agent, own)
    assert [m.trainable for m in again.messages[:7]] == [False] * 5 + [True, False]  # one example left
    assert own.split("/")[1] not in "".join(m.content for m in again.messages[:4])
    with pytest.raises(BadOption, match="prosegym collect"):
        pick(pool, "prosegym/Other-v1", 1)


def test_an_example_that_was_played_with_examples_is_shown_without_them() -> None:
    """Its own turns, as they were answered; its thoughts change the digest, and experts keep theirs."""
    pool = experts("train/red", "train/blue")

    def thinking(request: Request) -> str:
        colour = request.messages[-1 if len(request.messages) < 7 else -3].content.rpartition("The box is ")[
            2
        ]
        return (
            f"Thought: so\nAction: {'open box' if len(request.messages) == 7 else f'take {colour[:-1]} key'}"
        )

    few = ReAct(Scripted(thinking), examples=pick(pool[:1], LOCKBOX, 1))
    (played,) = play(few, "train/blue", memory=("a note",))
    assert played.success and len(played.messages) == 8
    picked = pick([played], LOCKBOX, 1)
    agent = ReAct(Scripted(lambda request: "Action: look"), examples=picked)
    (shown,) = play(agent, "test/grey")
    said = [m.content for m in shown.messages[:5]]
    assert said[0].endswith(played.steps[0].observation) and "a note" not in "".join(said)
    assert said[1:4] == [
        "Thought: so\nAction: take blue key", "You hold the blue key.", "Thought: so\nAction: open box",
    ]  # fmt: skip
    assert said[4].startswith("It opens.\n\nThat task is over.")
    (expert,) = pool[1:]
    plain = ReAct(agent.model, examples=pick([expert], LOCKBOX, 1)).conditions()["examples_sha256"]
    texts = [text for s in expert.steps for text in (s.observation, s.action)]
    assert plain == digest(*texts, *texts)  # of its type and of any
    assert plain != agent.conditions()["examples_sha256"]


def test_examples_of_another_environment_are_refused() -> None:
    pool = [
        msgspec.structs.replace(t, env_id="prosegym/Other-v1") for t in experts("train/red", "train/blue")
    ]
    agent = ReAct(Scripted(script), examples=pick(pool, "prosegym/Other-v1", 1))
    with pytest.raises(
        BadOption, match=r"episodes of prosegym/Other-v1, and what is played is prosegym/Lockb"
    ):
        play(agent, "train/plum")


def test_examples_do_not_tell_the_type_of_a_task_that_does_not_tell_it() -> None:
    env_id = "prosegym/MiniWiki-v1"
    wiki = functools.partial(gymnasium.make, env_id)
    jobs = [Job(f"train/{i}") for i in range(16)]
    picked = pick(rollout(wiki, ExpertAgent(), jobs), env_id, 2)
    assert {t.steps[-1].action for t in picked["unanswerable"]} == {"finish[noanswer]"}
    beginnings: list[list[str]] = []

    def answer(request: Request) -> str:
        beginnings.append([m.content for m in request.messages[:-1]])
        return "Action: finish[noanswer]"

    tests = [wiki().unwrapped.task(f"test/{i}") for i in range(8)]
    assert len({task.task_type for task in tests}) == 7 and "unanswerable" in {t.task_type for t in tests}
    list(rollout(wiki, ReAct(Scripted(answer), Config(), examples=picked), [Job(t.id) for t in tests]))
    assert len(beginnings) == 8 and all(one == beginnings[0] for one in beginnings)


@pytest.fixture(scope="module")
def local() -> LocalModel:
    tokenizer = tiny_lm.tokenizer()
    return LocalModel(tiny_lm.llama(len(tokenizer)), tokenizer)


@pytest.mark.parametrize("decoding", ["trie", "score"])
def test_constrained_agents_do_admissible_things(local: LocalModel, decoding: Any) -> None:
    agent = ReAct(local, Config(format="bare", decoding=decoding, temperature=1.5))
    for trajectory in play(agent, "train/red", "train/blue"):
        assert not any(s.invalid or s.parse_failed for s in trajectory.steps)


def test_the_marker_opens_the_constraint(local: LocalModel) -> None:
    """After `Action:` only admissible actions follow, each format in its own brackets."""
    for fmt in (FORMATS["react"], FORMATS["think"]):
        request = Request(
            [Message("user", "red")], allowed=["open box", "take red key"], opens=fmt.opens, closes=fmt.closes
        )
        from prosegym.baselines.decoding import Writer

        writer = Writer(request, Sampling(max_tokens=99), local.chat, [1], local.end_ids)
        for token in local.tokenizer.encode(f"hm\n{fmt.opens.rstrip()}", add_special_tokens=False):
            writer.push(token, 0.0)
        assert writer.trie is not None
        while writer.reason is None and writer.trie is not None:
            writer.settle([0.0] * len(writer.pending))
            if writer.reason is None:
                writer.push(next(iter(writer.trie.children)), 0.0)
        assert writer.text == f"hm\n{fmt.opens}open box{fmt.closes}"
        assert parse(writer.text, fmt) == "open box"


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("hm. Action:", False),
        ("action:", True),
        ("hm\n**Action:", True),
        ("**Action**:", True),
        ("### Action:", True),
        ("- Action:", True),
        ("**Thought:", False),
        ("hm **Action:**", False),
        ("Thought: hm\n Action:", True),
        ("Action:", True),
        ("<think>hm\nAction:", False),
        ("<think>hm\nAction: no</think>\nAction:", True),
    ],
)
def test_a_label_opens_the_constraint_where_it_is_read(local: LocalModel, text: str, opened: bool) -> None:
    from prosegym.baselines.decoding import Writer

    request = Request([Message("user", "red")], allowed=["open box"], opens=FORMATS["react"].opens)
    writer = Writer(request, Sampling(max_tokens=99), local.chat, [1], local.end_ids)
    for token in local.tokenizer.encode(text, add_special_tokens=False):
        writer.push(token, 0.0)
    assert (writer.trie is not None) == opened
    if opened:
        assert parse(f"{text} open box", FORMATS["react"]) == "open box"
        assert writer._marked("hm\n**Action:**")  # where that end is one token


def test_what_is_not_on_the_list_is_not_played() -> None:
    """In a form that opened no constraint, or cut before it did."""
    said = iter(
        ["action: shake", "<action>shake</action>", "Thought: hm", "Action: open box", *["Action: look"] * 9]
    )
    agent = ReAct(Scripted(lambda request: next(said)), Config("react", decoding="trie"))
    (trajectory,) = play(agent, "train/red")
    assert [s.parse_failed for s in trajectory.steps[:4]] == [True, True, True, False]
    assert [s.action for s in trajectory.steps[:4]] == ["", "", "", "open box"]


def test_stop_strings_end_answers_and_keep_their_tokens(local: LocalModel) -> None:
    from prosegym.baselines.decoding import Writer

    tokenizer = local.tokenizer
    request, sampling = (
        Request([Message("user", "red")]),
        Sampling(max_tokens=50, stop=("\nObservation:", "zzz")),
    )
    text = "Action: open box\nObservation: It"
    writer = Writer(request, sampling, local.chat, [1], local.end_ids)
    for token in tokenizer.encode(text, add_special_tokens=False):
        if writer.reason is None:
            writer.push(token, -1.0)
    assert (writer.reason, writer.text) == ("stop", "Action: open box")
    assert tokenizer.decode(writer.token_ids) == "Action: open box"
    assert len(writer.logprobs) == len(writer.token_ids)


def test_broken_characters_are_survived(local: LocalModel) -> None:
    from prosegym.baselines.decoding import Writer

    half = local.tokenizer.encode("ü", add_special_tokens=False)
    assert len(half) == 2
    writer = Writer(Request([Message("user", "red")]), Sampling(max_tokens=1), local.chat, [1], local.end_ids)
    writer.push(half[0], 0.0)
    assert writer.text == "\ufffd"
    (trajectory,) = play(ReAct(Scripted(lambda r: "\ufffd\ud800 \ud83d\ude00"), Config(format="bare")))
    assert trajectory.ended == "truncated"
    assert decode(encode(trajectory)).actions == ["\ufffd\ufffd \U0001f600"] * 6


def test_tokens_are_recorded_when_asked_for(local: LocalModel) -> None:
    config = Config(format="bare", max_tokens=6, temperature=1.0)
    (plain,) = play(ReAct(local, config))
    assert all(m.token_ids is msgspec.UNSET for m in plain.messages)
    assert b"token_ids" not in encode(plain)
    (kept,) = play(
        ReAct(
            local,
            Config(**{**vars(config), "record_tokens": True}),
        )
    )
    assert kept.actions == plain.actions
    kept = decode(encode(kept))
    answers = [m for m in kept.messages if m.role == "assistant"]
    assert [len(m.token_ids) for m in answers] == [s.completion_tokens for s in kept.steps]  # type: ignore[arg-type]
    assert all(len(m.token_ids) == len(m.logprobs) for m in answers)  # type: ignore[arg-type]
    encoded = local.chat.encode(kept.messages)
    spans = [
        encoded.token_ids[b : b + len(m.token_ids)] for m, (b, _) in zip(answers, encoded.turns, strict=True)
    ]  # type: ignore[arg-type]
    assert spans == [m.token_ids for m in answers]
    assert "assistant turns" in audit(local.chat, [kept.messages])


def test_a_full_context_truncates_that_episode_alone() -> None:
    tokenizer = tiny_lm.tokenizer()
    model = tiny_lm.llama(len(tokenizer))
    needed = len(LocalModel(model, tokenizer).chat.prompt([Message("user", "The box is red.")]).token_ids)
    lm = LocalModel(model, tokenizer, max_context=needed + 150)
    played = play(ReAct(lm, Config(format="bare", max_tokens=30)), "train/red", "train/blue")
    assert [t.ended for t in played] == ["truncated", "truncated"]
    assert [t.error for t in played] == ["context overflow"] * 2
    assert all(len(t.steps) < 6 for t in played)


def test_batch_size_changes_nothing(local: LocalModel) -> None:
    agent = ReAct(local, Config(format="bare", max_tokens=8, temperature=1.0))
    jobs = [Job(f"train/{c}", attempt=a) for c in ("red", "blue", "green") for a in range(2)]
    by_size = []
    for size in (1, 2, 6):
        played = rollout(make, agent, jobs, batch_size=size, seed=3)
        by_size.append({t.key: [s.response for s in t.steps] for t in played})
    assert by_size[0] == by_size[1] == by_size[2]
    assert len({tuple(r) for r in by_size[0].values()}) == 6


@pytest.mark.parametrize("env_id", list(ENVS))
def test_runs_on_every_environment(env_id: str, local: LocalModel, installed: Any) -> None:
    """The tiny model says nothing sensible; it must run, and constrained, do admissible things."""
    module, _, attribute = ENVS[env_id].partition(":")
    family = importlib.import_module(getattr(importlib.import_module(module), attribute).env_class.__module__)
    needed = getattr(family, "EXTRA_MODULE", None)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    env = gymnasium.make(env_id)
    text_env: Any = env.unwrapped
    if text_env.data is not None:
        installed(text_env.data)
    task = text_env.tasks(text_env.splits[0])[0].id
    env.close()
    for decoding in ("free", "trie"):
        agent = ReAct(local, Config(format="bare", decoding=decoding, max_tokens=8, history="last:2"))  # type: ignore[arg-type]
        (trajectory,) = rollout(lambda: gymnasium.make(env_id, max_steps=3), agent, [Job(task)])
        assert trajectory.ended in ("truncated", "terminated") and trajectory.messages


# Agents by name and folder.


def test_named_agents() -> None:
    assert agents.load("random").name == "random"
    with pytest.raises(UnknownName, match="reflexion"):
        agents.load("reflexoin")
    with pytest.raises(BadOption, match="--model"):
        agents.load("react")


def test_a_folder_is_an_agent(tmp_path: Path, local: LocalModel) -> None:
    config = Config(format="bare", decoding="trie", history="last:3", max_tokens=20)
    agents.save(tmp_path / "a", local.model, local.tokenizer, config, method="eto", env_ids=[LOCKBOX])
    agent = agents.load(str(tmp_path / "a"))
    assert isinstance(agent, ReAct) and agent.name == "eto" and agent.config == config
    assert play(agent)[0].actions == play(ReAct(local, config))[0].actions
    named = agents.load("react", str(tmp_path / "a"), config=config)
    assert play(named)[0].actions == play(agent)[0].actions
    (tmp_path / "a" / agents.FILE).write_text('{"method": "eto", "config": {"format": "verse"}}')
    with pytest.raises(CorruptData, match="verse"):
        agents.load(str(tmp_path / "a"))
    with pytest.raises(ProsegymError, match=r"no agent\.json"):
        agents.load(str(tmp_path))


def test_settings_by_name(tmp_path: Path, local: LocalModel) -> None:
    config = Config(format="bare", decoding="trie")
    agents.save(tmp_path / "a", local.model, local.tokenizer, config, method="sft")
    agent = agents.load(
        str(tmp_path / "a"), settings={"history": "last:2", "max_batch": 4, "temperature": 0.5}
    )
    assert isinstance(agent, ReAct)
    assert agent.config == Config(format="bare", decoding="trie", history="last:2", temperature=0.5)
    assert isinstance(agent.model, LocalModel) and agent.model.max_batch == 4
    several = {"format": "bare", "trials": 2, "max_tokens": 9, "note_tokens": 90, "note_temperature": 0.5}
    retrying = agents.load("reflexion", str(tmp_path / "a"), settings=several)
    assert isinstance(retrying, Reflexion) and isinstance(retrying, Retrying)
    assert retrying.config == Retries(trials=2, max_tokens=90, temperature=0.5)
    sampling = retrying.conditions()
    assert (sampling["max_tokens"], sampling["temperature"]) == (9, 0.0)
    env = make().unwrapped
    panel = panels.make(env, "train", about="two tasks", count=2)
    run = evaluate(retrying, panel, tmp_path / "run", progress=False)
    assert sorted((t.task_id, t.trial) for t in run.finished) == [
        (task, trial) for task in sorted(panel.task_ids) for trial in range(2)
    ]
    assert all(t.memory for t in run.finished if t.trial == 1) or any(
        not r.text for r in retrying.reflections
    )
    with pytest.raises(UnknownName, match="history"):
        agents.load("react", str(tmp_path / "a"), settings={"histry": "full"})


def test_examples_from_a_file(tmp_path: Path, local: LocalModel) -> None:
    agents.save(tmp_path / "a", local.model, local.tokenizer, Config(format="bare"), method="sft")
    load = functools.partial(agents.load, "react", str(tmp_path / "a"))
    file = tmp_path / "expert.jsonl"
    pool = experts(*(f"train/{c}" for c in ("red", "blue", "green", "teal", "plum", "rust")))
    write(file, pool)
    agent = load(settings={"examples": str(file), "shots": 2, "examples_seed": 3})
    assert isinstance(agent, ReAct)
    assert (
        agent.conditions()
        == ReAct(agent.model, agent.config, examples=pick(pool, LOCKBOX, 2, seed=3)).conditions()
    )
    assert [m.trainable for m in play(agent, "test/grey")[0].messages].index(True) == 9
    retrying = agents.load("reflexion", str(tmp_path / "a"), settings={"examples": str(file)})
    assert isinstance(retrying, Reflexion) and "examples_sha256" in retrying.conditions()
    for settings, mend in (
        ({"examples": str(tmp_path / "none")}, "cannot read .*none"),
        ({"examples": 3}, "examples"),
        ({"examples": str(file), "shots": 0}, "shots"),
        ({"shots": 2}, "examples=FILE"),
    ):
        with pytest.raises(ProsegymError, match=mend):
            load(settings=settings)
    write(file, [*pool, msgspec.structs.replace(pool[0], env_id="prosegym/Other-v1")])
    with pytest.raises(BadOption, match="Lockbox-v1 and prosegym/Other-v1"):
        load(settings={"examples": str(file)})


def test_settings_that_do_not_exist(tmp_path: Path, local: LocalModel) -> None:
    agents.save(tmp_path / "a", local.model, local.tokenizer, Config(), method="sft")
    with pytest.raises(UnknownName, match="history"):
        agents.load("react", str(tmp_path / "a"), settings={"histry": "full"})
    for name in ("name", "model", "config", "settings"):
        with pytest.raises(UnknownName, match=f"unknown agent setting '{name}'"):
            agents.load("react", str(tmp_path / "a"), settings={name: "x"})
    with pytest.raises(BadOption, match="max_tokens"):
        agents.load("react", str(tmp_path / "a"), settings={"max_tokens": "many"})
    for model, names in (
        (str(tmp_path / "a"), ("max_batch", "max_context", "cache_gb")),
        ("http://host/v1#m", ("concurrency", "retries", "timeout")),
    ):
        for setting in names:
            with pytest.raises(BadOption, match=f"{setting} must be "):
                agents.load("react", model, settings={setting: -1})
    for wrong in ({"model": "house"}, {"settings": {"temperature": 1}}):
        with pytest.raises(BadOption, match="agent random has no model and no settings"):
            agents.load("random", **wrong)


def test_words_that_a_setting_does_not_take(tmp_path: Path, local: LocalModel) -> None:
    agents.save(tmp_path / "a", local.model, local.tokenizer, Config(), method="sft")
    for name, word, words in (
        ("strategy", "reflexion", "reflection"),
        ("evaluator", "sucess", "success"),
        ("control", "other-task", "other_task"),
        ("decoding", "tree", "trie"),
    ):
        with pytest.raises(UnknownName, match=f"unknown {name} '{word}'; nearest: {words}"):
            agents.load("reflexion", str(tmp_path / "a"), settings={name: word})


def test_settings_of_others(tmp_path: Path, local: LocalModel) -> None:
    """A setting that would do nothing is refused: what was asked for is not what would be played."""
    agents.save(tmp_path / "a", local.model, local.tokenizer, Config(), method="sft")
    here, there = str(tmp_path / "a"), "http://127.0.0.1:9/v1#m"
    for name, model, settings, whose in (
        ("react", here, {"trials": 3}, "reflexion"),
        ("react", here, {"reflector": "rule"}, "reflexion"),
        ("react", here, {"note_tokens": 9}, "reflexion"),
        (here, None, {"memory": 3}, "reflexion"),
        ("reflexion", here, {"prices": "p.json"}, "an endpoint"),
        ("react", here, {"per_minute": 9, "temperature": 1}, "an endpoint"),
        ("react", there, {"dtype": "bfloat16"}, "a model on this machine"),
        ("reflexion", there, {"max_batch": 2, "reflector": "rule"}, "a model on this machine"),
    ):
        said = f"{next(iter(settings))} is a setting of {whose} and would do nothing here; leave it out"
        with pytest.raises(BadOption, match=said):
            agents.load(name, model, settings=settings)
    pytest.importorskip("openai")
    both = {"reflector": here, "dtype": "float32", "timeout": 9, "trials": 2, "examples": ""}
    assert agents.load("reflexion", there, settings=both).name == "reflexion"


def test_an_agent_with_a_model_takes_no_other(tmp_path: Path, local: LocalModel) -> None:
    """It would be recorded under the trained agent's name, and its weights would not have played."""
    agents.save(tmp_path / "a", local.model, local.tokenizer, Config(), method="sft")
    for name in ("house", str(tmp_path / "a")):
        with pytest.raises(
            BadOption, match=f"agent {name} has its own model; .*--agent react --model novice"
        ):
            agents.load(name, "novice")


def test_an_adapter_folder_is_an_agent(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    tokenizer = tiny_lm.tokenizer()
    tiny_lm.llama(len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapted = peft.get_peft_model(
        tiny_lm.llama(len(tokenizer)),
        peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    config = Config(format="bare", max_tokens=10)
    agents.save(tmp_path / "lora", adapted, tokenizer, config, method="sft", base=str(tmp_path / "base"))
    loaded = agents.load(str(tmp_path / "lora"), options=agents.ModelOptions(device="cpu"))
    expected = play(ReAct(LocalModel(adapted, tokenizer), config))[0]
    assert play(loaded)[0].actions == expected.actions
    plain = agents.load("react", str(tmp_path / "base"), config=config)
    assert play(plain)[0].actions != expected.actions


def test_a_run_is_of_the_weights_that_played(tmp_path: Path) -> None:
    """Another training into the same folder is another agent: its episodes are not gone on with."""

    def agent(seed: int) -> Any:
        tokenizer = tiny_lm.tokenizer()
        tiny_lm.llama(len(tokenizer), seed=seed).save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return agents.load("react", str(tmp_path / "model"), config=Config(format="bare", max_tokens=4))

    panel = panels.make(gymnasium.make("prosegym/Lockbox-v1").unwrapped, "train", about="all").head(2)
    evaluate(agent(1), panel, tmp_path / "run", progress=False)
    evaluate(agent(1), panel, tmp_path / "run", progress=False)
    with pytest.raises(ProsegymError, match="run of other conditions .*weights_sha256"):
        evaluate(agent(2), panel, tmp_path / "run", progress=False)


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ProsegymError, match="cannot load model .*nothing': there is no such folder"):
        agents.load_model(str(tmp_path / "nothing"))
    tokenizer = tiny_lm.tokenizer(None)
    tiny_lm.llama(len(tokenizer)).save_pretrained(tmp_path / "mute")
    tokenizer.save_pretrained(tmp_path / "mute")
    with pytest.raises(ProsegymError, match="no chat template"):
        agents.load_model(str(tmp_path / "mute"))
    weights = tmp_path / "mute" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ProsegymError, match="cannot load model .*mute': .*header"):
        agents.load_model(str(tmp_path / "mute"))
    weights.write_bytes(whole)
    (tmp_path / "template.jinja").write_text(tiny_lm.PLAIN)
    for options, said in (
        (
            agents.ModelOptions(chat_template=str(tmp_path / "none.jinja")),
            "cannot read chat template .*none.jinja",
        ),
        (agents.ModelOptions(dtype="float99"), "unknown dtype 'float99'; nearest: float"),
        (agents.ModelOptions(device="abacus"), "cannot use device 'abacus': .*; choose cpu, cuda or mps"),
        (agents.ModelOptions(device="cuda:99"), "cannot use device 'cuda:99'"),
    ):
        with pytest.raises(ProsegymError, match=said) as refused:
            agents.load_model("house", options)
        assert "\n" not in str(refused.value)
    config = tmp_path / "mute" / "config.json"
    plain = config.read_text()
    config.write_text(json.dumps(json.loads(plain) | {"quantization_config": {"quant_method": "aqlm"}}))
    with pytest.raises(ProsegymError, match=r"cannot load model .*mute': .*(?i:aqlm)") as refused:
        agents.load_model(str(tmp_path / "mute"))
    assert isinstance(refused.value.__cause__, ImportError)
    config.write_text(plain)
    options = agents.ModelOptions(chat_template=str(tmp_path / "template.jinja"))
    assert agents.load_model(str(tmp_path / "mute"), options).count_tokens("open box") > 0


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"max_tokens": 0},
        {"stop": ("",)},
        {"stop": "x"},
    ],
)
def test_bad_sampling(bad: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        Sampling(**bad)
