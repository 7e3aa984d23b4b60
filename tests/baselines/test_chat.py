"""Chat templates of seven families: the right tokens, the right mask, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import tiny_lm

from prosegym.baselines.chat import Chat, TemplateError, audit
from prosegym.envs.core import digest
from prosegym.envs.trajectory import Message

TALK = [
    Message("user", "The box is red."),
    Message("assistant", "Thought: a key.\nAction: take red key", trainable=True),
    Message("user", "You hold the red key."),
    Message("assistant", "Action: open box", trainable=True),
    Message("user", "It opens."),
]
THOUGHT = Message("assistant", "<think>\nred, then\n</think>\n\ntake red key", trainable=True)


@pytest.fixture(params=[(f, k) for f in tiny_lm.TEMPLATES for k in ("bytes", "words")], ids="-".join)
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    name, kind = request.param
    return name, tiny_lm.tokenizer(name, kind)


def test_prompts_are_what_the_template_writes(family: tuple[str, Any]) -> None:
    name, tokenizer = family
    chat = Chat(tokenizer)
    for turns in (1, 3, 5):
        ids = chat.prompt(TALK[:turns]).token_ids
        text = chat.render(TALK[:turns], prompt=True)
        assert "".join(tokenizer.decode(ids).split()) == "".join(text.split())
        if "▁" not in tokenizer.get_vocab():  # byte-level: tokens are those of the whole text
            assert ids == tokenizer.encode(text, add_special_tokens=False)


def test_each_turn_is_a_prefix_of_the_next(family: tuple[str, Any]) -> None:
    chat = Chat(family[1])
    whole = chat.prompt(TALK).token_ids
    encoded = chat.encode(TALK)
    for i, (begin, end) in enumerate(encoded.turns):
        prompt = chat.prompt(TALK[: 2 * i + 1]).token_ids
        assert whole[:begin] == encoded.token_ids[:begin] == prompt
        assert whole[begin:end] == encoded.token_ids[begin:end]
    assert len(encoded.token_ids) == encoded.turns[-1][1]


def test_the_mask_is_what_the_assistant_wrote(family: tuple[str, Any]) -> None:
    name, tokenizer = family
    chat = Chat(tokenizer)
    encoded = chat.encode(TALK)
    assert tokenizer.convert_ids_to_tokens(chat.end_id) == tiny_lm.ENDS[name]
    written = [
        tokenizer.decode(
            [t for t, own in zip(encoded.token_ids[b:e], encoded.trainable[b:e], strict=True) if own]
        )
        for b, e in encoded.turns
    ]
    assert [w.replace(tiny_lm.ENDS[name], "").strip() for w in written] == [TALK[1].content, TALK[3].content]
    assert all(encoded.token_ids[e - 1] == chat.end_id for _, e in encoded.turns)
    assert sum(encoded.trainable) == sum(e - b for b, e in encoded.turns)


def test_words_that_occur_elsewhere_do_not_confuse_the_mask() -> None:
    """The same words in the observation, in an example and in the answer: only the answer is trained on."""
    chat = Chat(tiny_lm.tokenizer("qwen2.5"))
    said = "take red key"
    talk = [
        Message("user", said),
        Message("assistant", said),
        Message("user", f"{said} assistant {said}"),
        Message("assistant", said, trainable=True),
    ]
    encoded = chat.encode(talk)
    begin, end = encoded.turns[1]
    assert [i for i, own in enumerate(encoded.trainable) if own] == list(range(begin, end))
    assert encoded.token_ids[begin:end] == chat.answer(said)


def test_going_on_from_an_earlier_prompt_changes_nothing(family: tuple[str, Any]) -> None:
    chat = Chat(family[1])
    talk = [TALK[0]]
    earlier = None
    for i in range(9):
        earlier = chat.prompt(talk, earlier)
        assert earlier.token_ids == Chat(family[1]).prompt(talk).token_ids
        talk = [*talk, Message("assistant", f"take {i}"), Message("user", f"look {i}")]


def test_sampled_tokens_are_kept() -> None:
    """A text has many tokenizations; what was sampled is what is read again and trained on."""
    tokenizer = tiny_lm.tokenizer("llama-3")
    chat = Chat(tokenizer)
    canonical = chat.answer("open box")
    letters = [t for c in "open box" for t in tokenizer.encode(c, add_special_tokens=False)]
    assert letters != canonical[:-1]
    sampled = Message("assistant", "open box", True, [*letters, chat.end_id], [0.0] * (len(letters) + 1))
    talk = [TALK[0], sampled, TALK[2], TALK[3]]
    encoded = chat.encode(talk)
    begin, end = encoded.turns[0]
    assert encoded.token_ids[begin:end] == [*letters, chat.end_id]
    cut = msgspec.structs.replace(sampled, token_ids=letters)
    encoded = chat.encode([TALK[0], cut, TALK[2], TALK[3]])
    begin, end = encoded.turns[0]
    assert encoded.token_ids[begin : end + 1] == [*letters, chat.end_id]
    assert encoded.trainable[begin : end + 1] == [True] * len(letters) + [False]  # the end was not sampled


def test_thought_dropping_is_found_and_refused() -> None:
    chats = {name: Chat(tiny_lm.tokenizer(name)) for name in tiny_lm.TEMPLATES}
    assert [name for name, chat in chats.items() if chat.drops_thoughts] == ["qwen3"]
    talk = [TALK[0], THOUGHT, TALK[2], TALK[3]]
    for name, chat in chats.items():
        if name == "qwen3":
            with pytest.raises(TemplateError, match="drops the thoughts of earlier turns"):
                audit(chat, [talk])
            with pytest.raises(TemplateError, match="drops the thoughts of earlier turns"):
                chat.prompt([*talk, TALK[4]])
        else:
            assert "red, then" in audit(chat, [talk])


def test_a_switch_that_changes_prompts_is_refused() -> None:
    with pytest.raises(TemplateError, match="changes a prompt once it is answered"):
        Chat(tiny_lm.tokenizer("qwen3"), template_kwargs={"enable_thinking": False})


@pytest.mark.parametrize(
    "template, reason",
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}(end)", "changes a prompt"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "no special token"),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}</s>{% endif %}{% endfor %}",
            "assistant said",
        ),
        ("<s>hello</s>", "user says"),
        ("{{ messages[0].nothing.at.all }}", "fails"),
        (
            "{{ bos_token }}{{ messages[-1].content }}{% for m in messages[:-1] %}{{ m.content }}</s>{% endfor %}",
            "changes",
        ),
    ],
)
def test_bad_templates_are_refused_with_the_reason(template: str | None, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        Chat(tiny_lm.tokenizer(template))


def test_a_template_that_rewrites_later_is_found() -> None:
    """Turns are numbered from the end: right for one, wrong for two."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' and loop.revindex0 > 2 %}(old) {% endif %}"
        "{{ m.role }} {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    )
    chat = Chat(tiny_lm.tokenizer(template))
    chat.prompt(TALK[:3])
    with pytest.raises(TemplateError, match="rewrites earlier turns"):
        chat.prompt(TALK)
    with pytest.raises(TemplateError, match="rewrites earlier turns"):
        audit(chat, [TALK[:4]])


DATED = {
    "as Llama 3.2": (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}\n"
        "    {%- set date_string = strftime_now('%d %b %Y') %}\n"
        "{%- else %}{%- set date_string = 'none' %}{%- endif %}{%- endif %}{{- 'Today: ' + date_string }}",
        "Today: 26 Jul 2024",
    ),
    "as gpt-oss": (
        "{%- macro told() -%}{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\n' }}{%- endmacro -%}"
        "{{ told() }}",
        "Current date: 2024-07-26\n",
    ),
    "as Granite": (
        "{% if true %}Date: {{ strftime_now('%B %-d, %Y') }}.\n{% endif %}",
        "Date: July 26, 2024.\n",
    ),
    "first of all a line": ("\n  {% if true %}{{ strftime_now('%A') }}{% endif %}", "\nFriday"),
    "first of all blanks": ("  {% if true %}{{ strftime_now('%A') }}{% endif %}", "Friday"),
}


@pytest.mark.parametrize("name", DATED)
def test_templates_write_the_same_date_every_day(name: str) -> None:
    head, said = DATED[name]
    chat = Chat(tiny_lm.tokenizer(head + tiny_lm.PLAIN))
    assert chat.render(TALK[:1], prompt=True).startswith(said + "<|im_start|>user\nThe box")
    assert chat.sha256 == digest(head + tiny_lm.PLAIN)


@pytest.mark.parametrize("name", tiny_lm.TEMPLATES)
def test_system_messages_are_folded_where_they_must_be(name: str) -> None:
    chat = Chat(tiny_lm.tokenizer(name))
    assert chat.folds_system == (name in ("mistral", "gemma"))
    talk = [Message("system", "Open boxes."), *TALK]
    assert "Open boxes." in chat.tokenizer.decode(chat.prompt(talk).token_ids)
    encoded = chat.encode(talk)
    assert chat.prompt(talk).token_ids[: len(encoded.token_ids)] == encoded.token_ids
    assert "2 assistant turns" in audit(chat, [talk])


@pytest.mark.parametrize("name", tiny_lm.TEMPLATES)
def test_markers_in_an_observation_are_plain_text(name: str) -> None:
    chat = Chat(tiny_lm.tokenizer(name))
    end = tiny_lm.ENDS[name]
    talk = [Message("user", f"a page says {end} now"), TALK[1], Message("user", f"and {end}{end}"), TALK[3]]
    plain = [Message("user", "a page says now"), TALK[1], Message("user", "and"), TALK[3]]
    count = chat.prompt(talk[:3]).token_ids.count(chat.end_id)
    assert count == chat.prompt(plain[:3]).token_ids.count(chat.end_id)
    encoded = chat.encode(talk)
    assert chat.prompt(talk[:3]).token_ids == encoded.token_ids[: encoded.turns[1][0]]


@pytest.mark.parametrize(
    "talk, reason",
    [
        ([], "last message"),
        ([TALK[1]], "take turns"),
        ([TALK[0], TALK[0]], "take turns"),
        ([TALK[0], TALK[1]], "last message"),
    ],
)
def test_conversations_take_turns(talk: list[Message], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        Chat(tiny_lm.tokenizer()).prompt(talk)


def test_nothing_to_train_on() -> None:
    chat = Chat(tiny_lm.tokenizer())
    with pytest.raises(TemplateError, match="nothing to train on"):
        chat.encode(TALK[:1])
    with pytest.raises(TemplateError, match="no token"):
        audit(chat, [[TALK[0], Message("assistant", "a")]])


def test_audit_shows_what_is_trained() -> None:
    report = audit(Chat(tiny_lm.tokenizer("phi")), [TALK, TALK, TALK], show=1)
    assert report.count("Action: open box<|end|>") == 1
    assert "3 conversations, 6 assistant turns" in report


def test_a_tokenizer_without_pad_or_eos() -> None:
    tokenizer = tiny_lm.tokenizer("qwen2.5", pad_token=None, eos_token=None, bos_token=None)
    assert tokenizer.eos_token_id is None
    chat = Chat(tokenizer)
    assert tokenizer.convert_ids_to_tokens(chat.end_id) == "<|im_end|>"
