from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prosegym.baselines import house  # noqa: E402
from prosegym.envs.errors import BadOption, UnknownName  # noqa: E402

torch.set_num_threads(1)
TEXTS = [
    "You are in the kitchen. You see a red potato.",
    "take red potato",
    "go east",
    "Nothing happens.",
] * 4
PIECES = house.tokenizer(TEXTS, 320)


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_text_encodes_and_decodes_to_itself(text: str) -> None:
    ids = PIECES.encode(text, add_special_tokens=False)
    if not any(piece in text for piece in PIECES.all_special_tokens):
        assert PIECES.decode(ids, skip_special_tokens=False) == text


def test_frequent_words_are_one_piece() -> None:
    assert len(PIECES.encode(" potato", add_special_tokens=False)) == 1


def test_chat_template_keeps_the_tokens_of_earlier_messages() -> None:
    chat = [
        {"role": r, "content": c}
        for r, c in [("system", "Play."), ("user", "Hall."), ("assistant", "go"), ("user", "é")]
    ]
    whole = PIECES.apply_chat_template(chat, return_dict=False)
    for n in range(1, len(chat)):
        start = PIECES.apply_chat_template(chat[:n], return_dict=False)
        assert whole[: len(start)] == start
    prompt = PIECES.apply_chat_template(chat[:2], add_generation_prompt=True, return_dict=False)
    assert whole[: len(prompt)] == prompt  # what the policy continues is what it was trained on


def test_chat_template_marks_what_the_assistant_wrote() -> None:
    chat = [{"role": "user", "content": "Hall."}, {"role": "assistant", "content": "go east"}]
    out = PIECES.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert PIECES.decode(marked) == "go east<|end|>"


def test_saved_folder_loads_as_any_other_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    house.scratch(tmp_path / "m", "tiny", TEXTS, vocabulary=300)
    model, pieces = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "m"),
        AutoTokenizer.from_pretrained(tmp_path / "m"),
    )
    ids = torch.tensor([pieces.encode("take red potato")])
    assert model(ids).logits.shape == (1, ids.shape[1], len(pieces))
    assert pieces.chat_template == house.CHAT_TEMPLATE
    assert (pieces.pad_token, pieces.eos_token, model.config.eos_token_id) == (
        "<|pad|>",
        "<|end|>",
        pieces.eos_token_id,
    )


@pytest.mark.parametrize(("size", "millions"), [("350k", 0.33), ("1m", 0.86), ("6m", 5.1)])
def test_sizes(size: str, millions: float) -> None:
    model = house.model(size, PIECES)
    layers = sum(p.numel() for n, p in model.named_parameters() if "embed" not in n)
    assert layers / 1e6 == pytest.approx(millions, rel=0.05)


def test_weights_are_a_function_of_the_seed_and_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    a, b, c = (house.model("tiny", PIECES, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    key = "model.embed_tokens.weight"
    assert torch.equal(a[key], b[key]) and not torch.equal(a[key], c[key])


def test_bad_sizes_are_named() -> None:
    with pytest.raises(UnknownName, match="350k"):
        house.model("35k", PIECES)
    with pytest.raises(BadOption, match="too few"):
        house.tokenizer(TEXTS, 100)
