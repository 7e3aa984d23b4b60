"""The rollout engine against generation one by one, without a cache."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_lm
import torch
import transformers
from tiny_lm import ACTIONS, WORDS, episodes, made, says, small

from prosegym.baselines import attention, cached_engine, draft
from prosegym.baselines.agents import ModelOptions, load_model
from prosegym.baselines.cached_engine import CachedEngine, make_engine
from prosegym.baselines.chat import Chat, TemplateError
from prosegym.baselines.decoding import Writer
from prosegym.baselines.draft import MOST, Drafter
from prosegym.baselines.engine import PlainEngine, Seat, Tree
from prosegym.baselines.lm import Generation, ModelError, Request, Sampling
from prosegym.baselines.local import LocalModel
from prosegym.baselines.train import Lora, add_adapter
from prosegym.baselines.tree import common
from prosegym.envs.errors import BadOption
from prosegym.envs.trajectory import Message

VOCABULARY = len(tiny_lm.tokenizer())


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_lm.llama(VOCABULARY),
    "qwen2": lambda: made(small(transformers.Qwen2Config)),
    "qwen3": lambda: made(small(transformers.Qwen3Config, head_dim=16)),
    "mistral, window 24": lambda: made(small(transformers.MistralConfig, sliding_window=24)),
    "gemma2, window 16 in every other layer": lambda: made(
        small(transformers.Gemma2Config, head_dim=8, sliding_window=16, query_pre_attn_scalar=8)
    ),
    "phi3, window 40": lambda: made(small(transformers.Phi3Config, sliding_window=40)),
    "gpt2": lambda: made(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3,
            bos_token_id=1, eos_token_id=2,
        )
    ),
}  # fmt: skip


def local(model: Any, *, plain: bool = False, **more: Any) -> LocalModel:
    lm = LocalModel(model, tiny_lm.tokenizer(), **({"draft": False} if plain else {}), **more)
    if plain:
        lm._engine = PlainEngine(model)
    return lm


@pytest.mark.parametrize("name", MODELS)
def test_greedy_equals_one_by_one_without_cache(name: str) -> None:
    model = MODELS[name]()
    sampling = Sampling(max_tokens=9)
    lm = local(model)
    batched = episodes(lm, sampling, count=9, turns=4, width=4)
    assert isinstance(lm._engine, CachedEngine)
    alone = episodes(local(model, plain=True, max_batch=1), sampling, count=9, turns=4, width=1)
    assert {i: [a.token_ids for a in answers] for i, answers in batched.items()} == {
        i: [a.token_ids for a in answers] for i, answers in alone.items()
    }
    for a, b in zip(itertools.chain(*batched.values()), itertools.chain(*alone.values()), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.prompt_tokens == b.prompt_tokens


@torch.no_grad()
def test_recorded_logprobs_equal_a_fresh_forward_pass() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    messages = [Message("user", "the box is red")]
    for sampling in (Sampling(max_tokens=8), Sampling(1.3, 0.9, max_tokens=8)):
        talk = list(messages)
        for turn in range(4):
            answer = lm.generate([Request(talk, seed=turn, key=repr(sampling))], sampling)[0]
            prompt = lm.chat.prompt(talk).token_ids
            ids = torch.tensor([prompt + list(answer.token_ids)])
            fresh = torch.log_softmax(model(ids).logits[0].float(), -1)
            expected = [fresh[len(prompt) - 1 + i, t].item() for i, t in enumerate(answer.token_ids)]
            assert answer.logprobs == pytest.approx(expected, abs=1e-4)
            talk += [
                Message("assistant", answer.text, True, list(answer.token_ids)),
                Message("user", "go on"),
            ]


@pytest.mark.parametrize("sampling", [Sampling(1.0, max_tokens=8), Sampling(0.7, 0.8, max_tokens=8)])
def test_what_is_drawn_does_not_depend_on_batch_mates(sampling: Sampling) -> None:
    model = MODELS["llama"]()
    wide = episodes(local(model), sampling, count=8, turns=3, width=8)
    narrow = episodes(local(model), sampling, count=8, turns=3, width=1)
    assert {i: [a.token_ids for a in w] for i, w in wide.items()} == {
        i: [a.token_ids for a in n] for i, n in narrow.items()
    }
    first = {w[0].token_ids for w in wide.values()}
    assert len(first) == 8


def test_top_p_draws_from_the_smallest_sufficient_set() -> None:
    """With p = (0.5, 0.3, 0.15, 0.05) and top_p 0.7 the set is {0, 1}: token 0 in 5 of 8 draws."""
    from prosegym.baselines.decoding import choose

    lm = local(MODELS["llama"]())
    logits = torch.log(torch.tensor([0.05, 0.5, 0.15, 0.3]))
    counts = [0, 0, 0, 0]
    for seed in range(2000):
        writer = Writer(Request([], seed=seed), Sampling(1.0, 0.7), lm.chat, [], frozenset())
        tokens, logprobs = choose([writer], logits[None])
        counts[tokens[0]] += 1
        assert logprobs[0] == pytest.approx(float(logits[tokens[0]]), abs=1e-6)
    assert counts[0] == counts[2] == 0
    assert counts[1] / 2000 == pytest.approx(0.625, abs=0.04)


class OnMac(torch.Tensor):
    """Says that it is on Apple's GPU, and refuses float64 as a tensor there does. No Mac is needed."""

    device = torch.device("mps")  # type: ignore[assignment]

    def double(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self, *args: Any, **kwargs: Any) -> Any:
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7, 0.8)])
@pytest.mark.parametrize("allowed", [None, ("go north", "go south", "look")])
def test_on_a_device_without_float64_the_same_tokens_are_drawn(
    sampling: Sampling, allowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prosegym.baselines import decoding

    def sent(numbers: Any, device: Any) -> Any:
        made = torch.as_tensor(numbers)
        if device.type == "mps" and made.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return made

    lm = local(MODELS["llama"]())
    logits = torch.randn(16, len(lm.chat.tokenizer), generator=torch.Generator().manual_seed(0))

    def drawn(logits: torch.Tensor) -> list[int]:
        requests = [Request([], seed=seed, allowed=allowed) for seed in range(len(logits))]
        writers = [Writer(request, sampling, lm.chat, [], frozenset()) for request in requests]
        return decoding.choose(writers, logits)[0]

    here = drawn(logits)
    assert len(set(here)) > 1
    monkeypatch.setattr(decoding, "sent", sent)
    assert drawn(logits.as_subclass(OnMac)) == here


@pytest.mark.parametrize("cells", [64, 200, 700])
def test_memory_is_bounded_and_changes_nothing(cells: int) -> None:
    model = MODELS["llama"]()
    sampling = Sampling(max_tokens=12)
    per_cell = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, dimension, bytes
    tight = local(model, cache_gb=cells * per_cell / 2**30)
    some = episodes(tight, sampling, count=7, turns=4, width=7)
    engine = tight._engine
    assert isinstance(engine, CachedEngine)
    longest = max(len(seat.token_ids) for seat in engine._seats)
    assert engine._rows * engine._cells <= max(cells, -(-(longest + 1) // 64) * 64)
    plenty = episodes(local(model), sampling, count=7, turns=4, width=7)
    assert [[a.token_ids for a in s] for s in some.values()] == [
        [a.token_ids for a in p] for p in plenty.values()
    ]


@pytest.mark.parametrize("opens", ["", "Action: "])
@pytest.mark.parametrize("cells", [64, 1024, 1500])
def test_memory_is_bounded_where_actions_are_scored(cells: int, opens: str) -> None:
    """The tree of actions is behind every prompt that is seated."""
    model = MODELS["llama"]()
    per_cell = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, dimension, bytes
    allowed = [f"{' '.join(random.Random(i).sample(WORDS, 4))} {i}" for i in range(40)]
    requests = [
        Request([Message("user", word)], allowed=allowed, opens=opens, key=word) for word in WORDS[:9]
    ]
    tight, plenty = local(model, cache_gb=cells * per_cell / 2**30), local(model)
    for _ in range(2):
        answers, others = (
            lm.generate(requests, Sampling(max_tokens=6, choice="action")) for lm in (tight, plenty)
        )
        assert [a.token_ids for a in answers] == [a.token_ids for a in others]
        for mine, other in zip(tight.score(requests), plenty.score(requests), strict=True):
            assert mine == pytest.approx(other, abs=1e-4)
        engine = tight._engine
        assert isinstance(engine, CachedEngine)
        prompts = [len(tight.chat.prompt(request.messages).token_ids) for request in requests]
        one = max(prompts) + 6 + sum(len(tight.chat.answer(opens + a)) for a in allowed)
        assert engine._rows * engine._cells <= max(cells, -(-one // 64) * 64)


class Counted:
    """Counts the tokens that a model computes, and in how many passes."""

    def __init__(self, model: Any) -> None:
        self.tokens = self.passes = 0
        model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module: Any, args: Any, kwargs: Any) -> None:
        self.tokens += kwargs["input_ids"].numel()
        self.passes += 1


def test_a_turn_costs_its_new_tokens_only() -> None:
    model = MODELS["llama"]()
    lm = local(model, draft=False)
    talk = [Message("user", " ".join(WORDS * 4))]
    answer = lm.generate([Request(talk, key=1)], Sampling(max_tokens=5))[0]
    counted = Counted(model)
    before = len(lm.chat.prompt(talk).token_ids) + len(answer.token_ids)
    talk += [Message("assistant", answer.text, True, list(answer.token_ids)), Message("user", "red")]
    again = lm.generate([Request(talk, key=1)], Sampling(max_tokens=5))[0]
    new = again.prompt_tokens - before
    # The last token of an answer has not been fed; of five new ones four are.
    assert counted.tokens == new + 1 + len(again.token_ids) - 1


def test_a_common_beginning_is_computed_once() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    lm.generate([Request([Message("user", "red")])], Sampling(max_tokens=1))
    counted = Counted(model)
    long = " ".join(WORDS * 6)
    talks = [[Message("user", f"{long} {word}")] for word in WORDS[:8]]
    answers = lm.generate([Request(t, key=t[0].content) for t in talks], Sampling(max_tokens=1))
    prompts = [a.prompt_tokens for a in answers]
    assert counted.tokens < prompts[0] + 8 * 16 < sum(prompts) / 3
    plain = local(model, plain=True).generate([Request(t) for t in talks], Sampling(max_tokens=1))
    assert [a.token_ids for a in answers] == [a.token_ids for a in plain]


def test_beginnings_of_some_within_a_beginning_of_all_are_computed_once() -> None:
    """An instruction for all, examples for each type of task, then the task; later one more, of an old key."""
    model = MODELS["llama"]()
    lm = local(model)
    lm.generate([Request([Message("user", "red")], key="old")], Sampling(max_tokens=1))
    instruction = " ".join(WORDS * 4)
    kinds = [" ".join(random.Random(kind).choices(WORDS, k=60)) for kind in range(3)]
    talks = [[Message("user", f"{instruction} {kind} {word}")] for word in WORDS[:6] for kind in kinds]
    count = lm.count_tokens
    counted = Counted(model)
    answers = lm.generate([Request(t, key=t[0].content) for t in talks], Sampling(max_tokens=1))
    whole = count(instruction) + sum(map(count, kinds))
    assert whole <= counted.tokens < whole + len(talks) * 16 < sum(a.prompt_tokens for a in answers) / 3
    counted.tokens = 0
    answers += lm.generate([Request(talks[0], key="old")], Sampling(max_tokens=1))
    assert counted.tokens < 16
    plain = local(model, plain=True).generate(
        [Request(t) for t in [*talks, talks[0]]], Sampling(max_tokens=1)
    )
    assert [a.token_ids for a in answers] == [a.token_ids for a in plain]


def test_scores_equal_separate_forward_passes() -> None:
    model = MODELS["gemma2, window 16 in every other layer"]()
    lm = local(model)
    messages = [Message("user", "the box is red and the key is blue and the mug is green")]
    other = [Message("user", "red")]
    scores = lm.score([Request(messages, allowed=ACTIONS), Request(other, allowed=ACTIONS[:2])])
    assert [len(s) for s in scores] == [6, 2]
    for talk, found in ((messages, scores[0]), (other, scores[1])):
        prompt = lm.chat.prompt(talk).token_ids
        for action, score in zip(ACTIONS, found, strict=False):
            answer = lm.chat.answer(action)
            with torch.no_grad():
                fresh = torch.log_softmax(model(torch.tensor([prompt + answer])).logits[0], -1)
            expected = sum(fresh[len(prompt) - 1 + i, t].item() for i, t in enumerate(answer))
            assert score == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("choice", ["token", "action"])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_constrained_answers_are_allowed_ones(choice: Any, temperature: float) -> None:
    lm = local(MODELS["llama"]())
    sampling = Sampling(
        temperature, choice=choice, max_tokens=2
    )  # shorter than any action: does not cut them
    requests = [Request([Message("user", w)], allowed=ACTIONS, seed=i) for i, w in enumerate(WORDS)]
    answers = lm.generate(requests, sampling)
    assert all(a.text in ACTIONS and a.stop_reason == "end" for a in answers)
    assert len({a.text for a in answers}) > 1
    if choice == "action" and temperature == 0:
        best = [max(range(6), key=s.__getitem__) for s in lm.score(requests)]
        assert [a.text for a in answers] == [ACTIONS[i] for i in best]
    for request, answer in zip(requests, answers, strict=True):
        assert list(answer.token_ids) == lm.chat.answer(answer.text)
        scored = lm.score([Request(request.messages, allowed=[answer.text])])[0][0]
        assert sum(answer.logprobs) == pytest.approx(scored, abs=1e-3)


def test_new_weights_make_held_keys_worthless() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    talk = [
        Message("user", "the box is red and the key is blue"),
        Message("assistant", "a"),
        Message("user", "b"),
    ]
    request = Request(talk, key="episode")
    old = lm.generate([request], Sampling(max_tokens=8))[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model(torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    optimizer.step()
    new = lm.generate([request], Sampling(max_tokens=8))[0]
    expected = local(model, plain=True).generate([request], Sampling(max_tokens=8))[0]
    assert new.token_ids == expected.token_ids != old.token_ids
    assert new.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_common() -> None:
    rng = random.Random(1)
    for _ in range(300):
        a = [rng.randint(0, 1) for _ in range(rng.randint(0, 9))]
        b = a[: rng.randint(0, 9)] + [rng.randint(0, 1) for _ in range(rng.randint(0, 4))]
        slow = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert common(a, b) == slow


def test_a_model_whose_cache_cannot_be_kept_is_computed_anew(caplog: pytest.LogCaptureFixture) -> None:
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        state_size=4,
        num_hidden_layers=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    engine = make_engine(made(config), max_context=64, cache_bytes=1 << 20)
    assert isinstance(engine, PlainEngine)
    assert "no cache between turns" in caplog.text


def test_models_that_count_cells_or_read_padding_are_found_out() -> None:
    """MPT's bias goes by a cell's place, so siblings in a tree are wrong; RWKV reads what is to its left."""
    mpt = transformers.MptConfig(vocab_size=VOCABULARY, d_model=32, n_layers=3, n_heads=4, max_seq_len=512)
    rwkv = transformers.RwkvConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, bos_token_id=1, eos_token_id=2
    )  # fmt: skip
    rows, branches = [[3, 4, 5, 6] * 5, [7, 8, 9]], Tree([5, 9, 7], [-1, 0, -1])
    with torch.inference_mode():
        for model in (made(mpt), made(rwkv)):
            for p in model.parameters():
                p.mul_(3)
            engine = make_engine(model, max_context=64, cache_bytes=1 << 24)
            seats = [held(engine.open(n, row)) for n, row in enumerate(rows)]
            found = engine.feed(seats, rows)
            (spread,) = engine.spread(seats[1:], [branches])
            for logits, tokens in zip(
                [*found, *spread], [*rows, [*rows[1], 5], [*rows[1], 5, 9], [*rows[1], 7]], strict=True
            ):
                own = model(torch.tensor([tokens])).logits[0, -1]
                assert torch.allclose(logits, own, atol=1e-4 * max(1.0, float(own.std())))


def test_windows_and_angles_that_the_cache_does_not_know_are_computed_anew() -> None:
    """Where keys and values would be right in short sequences, as those that a model is tried on, and then not."""
    chunks = small(
        transformers.Llama4TextConfig, head_dim=8, attention_chunk_size=48, num_local_experts=2, intermediate_size_mlp=64,
        layer_types=["chunked_attention", "chunked_attention", "full_attention"],
    )  # fmt: skip
    longer = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    angles = small(
        transformers.Phi3Config,
        rope_parameters={**longer, "rope_theta": 10_000.0, "original_max_position_embeddings": 64},
    )
    row = [(7 * i + i * i // 3) % (VOCABULARY - 5) + 3 for i in range(100)]
    with torch.inference_mode():
        for model in (made(chunks), made(angles)):
            engine = make_engine(model, max_context=512, cache_bytes=1 << 26)
            seats = [held(engine.open("a", row)), held(engine.open("b", row))]
            engine.feed(seats, [row[:40], row[:20]])
            found = engine.feed(seats, [row[40:], row[20:30]], [40, 1])
            for logits, length in zip(found, (*range(61, 101), 30), strict=True):
                own = model(torch.tensor([row[:length]]), use_cache=False).logits[0, -1]
                assert torch.allclose(logits, own, atol=1e-3)
        short = make_engine(model, max_context=64, cache_bytes=1 << 26)
        assert isinstance(short, CachedEngine)


@pytest.mark.parametrize("said", ["\n\n", "\n\nAction: look", "</think>", "look</think>"])
def test_an_odd_answer_that_the_template_rewrites_is_an_error_of_its_own(said: str) -> None:
    tokenizer = tiny_lm.tokenizer("qwen3")
    lm = LocalModel(tiny_lm.llama(len(tokenizer)), tokenizer)
    odd, healthy = (
        Request([Message("user", "red"), Message("assistant", text), Message("user", "blue")])
        for text in (said, "Action: look")
    )
    first, second = lm.generate([odd, healthy], Sampling(max_tokens=3))
    assert (first.text, first.stop_reason) == ("", "error") and "rewrites earlier turns" in str(first.error)
    assert second.token_ids == lm.generate([healthy], Sampling(max_tokens=3))[0].token_ids != ()


def test_a_template_that_no_answers_suit_is_refused() -> None:
    """Nor is one of which a model that thinks loses every turn."""
    rewrites = (
        "{% for m in messages %}{% if m.role == 'assistant' and loop.revindex0 > 2 %}(old) {% endif %}"
        "{{ m.role }} {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    )
    for template, said, reason in (
        (rewrites, "look", "rewrites earlier turns"),
        ("qwen3", "<think>hm</think>\n\nlook", "chat_template"),
    ):
        tokenizer = tiny_lm.tokenizer(template)
        lm = LocalModel(tiny_lm.llama(len(tokenizer)), tokenizer)
        talk = [Message("user", "red"), *(Message("assistant", said), Message("user", "blue")) * 2]
        with pytest.raises(TemplateError, match=reason):
            lm.generate([Request(talk)], Sampling(max_tokens=3))


def test_context_overflow_ends_one_answer_only() -> None:
    lm = local(MODELS["llama"](), max_context=60)
    long, short = [Message("user", " ".join(WORDS * 9))], [Message("user", "red")]
    answers = lm.generate([Request(long), Request(short), Request(long)], Sampling(max_tokens=500))
    assert [a.stop_reason for a in answers][::2] == ["context", "context"]
    assert answers[0].completion_tokens == 0
    assert answers[1].stop_reason in ("end", "context")
    assert answers[1].prompt_tokens + answers[1].completion_tokens <= 60


@pytest.mark.parametrize("room", range(-1, 6))
def test_whole_actions_need_room_for_the_longest(room: int) -> None:
    actions = ["take key", "go"]
    request = Request([Message("user", "the box is red")], allowed=actions, key=1)
    lm = LocalModel(tiny_lm.llama(VOCABULARY), tiny_lm.tokenizer())
    longest = max(len(lm.chat.answer(action)) for action in actions)
    prompt = len(lm.chat.prompt(request.messages).token_ids)
    cut = LocalModel(lm.model, lm.tokenizer, max_context=prompt + room)
    (answer,) = cut.generate([request], Sampling(choice="action"))
    (scores,) = cut.score([request])
    if room < longest - 1:  # the last token is chosen, not computed
        assert (answer.stop_reason, answer.completion_tokens, scores) == ("context", 0, [])
    else:
        assert answer.token_ids == lm.generate([request], Sampling(choice="action"))[0].token_ids
        assert scores == pytest.approx(lm.score([request])[0])


@pytest.mark.parametrize("wrong, taken", [(0.0, True), (0.3, False), (float("nan"), False)])
def test_half_precision_is_judged_by_the_mean_of_a_place(
    wrong: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One word of many that is off by 0.2 of the spread is rounding; all of them are another model."""
    model, feed = MODELS["llama"]().to(torch.bfloat16), CachedEngine.feed

    def worse(self: CachedEngine, *args: Any) -> Any:
        logits = feed(self, *args)
        logits[0, 0] += 0.2 * logits.float().std()
        return logits + wrong * logits.float().std()

    monkeypatch.setattr(CachedEngine, "feed", worse)
    engine = make_engine(model, max_context=64, cache_bytes=1 << 20)
    assert isinstance(engine, CachedEngine) == taken


def test_steps_of_a_fixed_shape_leave_out_the_rows_of_finished_episodes() -> None:
    engine = CachedEngine(MODELS["llama"](), max_context=256, cache_bytes=1 << 24, static=True)
    rows = [[(7 * i + j) % VOCABULARY for i in range(9)] for j in range(16)]
    with torch.inference_mode():
        seats = [seat for row in rows if (seat := engine.open(None, row)) is not None]
        engine.feed(seats, rows)
        for seat in seats[:12]:
            engine.close(seat)
        found = engine.feed(seats[12:], [[5]] * 4)
        wanted = PlainEngine(engine._model).feed(
            [Seat(0) for _ in range(4)], [[*row, 5] for row in rows[12:]]
        )
    assert [shape[0] for shape in engine._steps] == [4]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.skipif(attention.ONEDNN is None, reason="torch without oneDNN")
def test_linear_layers_have_a_stand_in_within_a_pass_alone() -> None:
    model = MODELS["qwen2"]()  # its layers have biases
    rows = [[(7 * i + j) % VOCABULARY for i in range(60)] for j in range(3)]
    plain = PlainEngine(model)
    wanted = torch.cat([plain.feed([Seat(0)], [row]) for row in rows])
    engine = CachedEngine(model, max_context=256, cache_bytes=1 << 20)
    stand_ins = {id(layer): stand_in for layer, stand_in in engine._linear}
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert [id(m.__dict__) in stand_ins for m in linear] == [True] * len(linear)
    seats = [engine.open(None, row) for row in rows]
    during: list[bool] = []
    hook = model.lm_head.register_forward_hook(lambda m, *_: during.append("forward" in m.__dict__))
    with torch.inference_mode():
        found = engine.feed([s for s in seats if s is not None], rows)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    hook.remove()
    assert during == [True]
    assert not any("forward" in m.__dict__ for m in linear)
    with torch.no_grad():  # few tokens and many, the same
        layer = linear[0]
        x = torch.randn(1, 2 * attention.FEW, layer.in_features)
        stand_in = stand_ins[id(layer.__dict__)]
        torch.testing.assert_close(stand_in(x), layer(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(stand_in(x[:, :3]), layer(x[:, :3]), rtol=0, atol=1e-5)
    broken = linear[0].register_forward_hook(lambda *_: 1 / 0)
    with torch.inference_mode(), pytest.raises(ZeroDivisionError):
        engine.feed([s for s in seats if s is not None], [[1], [1], [1]])
    broken.remove()
    assert not any("forward" in m.__dict__ for m in linear)


def test_adapters_share_the_weights() -> None:
    peft = pytest.importorskip("peft")
    model = tiny_lm.llama(VOCABULARY)
    request = Request([Message("user", "the box is red")], key=1)
    base = LocalModel(model, tiny_lm.tokenizer()).generate([request], Sampling(max_tokens=8))[0]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    lm = LocalModel(adapted, tiny_lm.tokenizer())
    assert lm.generate([request], Sampling(max_tokens=8))[0].token_ids == base.token_ids
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter))
    changed = lm.generate([request], Sampling(max_tokens=8))[0]
    assert changed.token_ids != base.token_ids
    with lm.reference():
        assert lm.generate([request], Sampling(max_tokens=8))[0].token_ids == base.token_ids
    assert lm.generate([request], Sampling(max_tokens=8))[0].token_ids == changed.token_ids
    assert isinstance(lm._engine, CachedEngine)
    assert Chat(lm.tokenizer).end_id in lm.end_ids


@pytest.mark.parametrize("form", ["as chosen", "padded", "fixed shapes"])
def test_seats_that_are_given_up_leave_the_others_what_they_hold(form: str) -> None:
    """Longer sequences mean fewer seats: those in use get other rows, and growth is by steps, not cell by cell."""
    model = MODELS["llama"]()
    rng = random.Random(0)
    per_cell = CachedEngine(model, max_context=8, cache_bytes=1)._per_cell
    engine = CachedEngine(
        model, max_context=2048, cache_bytes=9000 * per_cell, max_seats=16, static=form == "fixed shapes"
    )
    engine._row_by_row &= form == "as chosen"
    plain = PlainEngine(model)
    draw = lambda count: [rng.randrange(14, VOCABULARY) for _ in range(count)]  # noqa: E731
    with torch.inference_mode():
        texts = [draw(600 + i) for i in range(12)]
        seats = [held(engine.open(i, text)) for i, text in enumerate(texts)]
        engine.feed(seats, texts)
        for i, seat in enumerate(seats):
            if i % 3:
                engine.close(seat)
        mine, others = seats[::3], [Seat(0) for _ in seats[::3]]
        plain.feed(others, texts[::3])
        sizes = set()
        for _ in range(18):
            more = [draw(35) for _ in mine]
            found, wanted = engine.feed(mine, more), plain.feed(others, more)
            assert torch.allclose(found, wanted, atol=2e-3 * float(wanted.std()))
            sizes.add(engine._cells)
    assert sorted(seat.row for seat in engine._seats) == list(range(len(engine._seats)))
    assert len(engine._seats) < 12 and set(mine) <= set(engine._seats)
    assert len(sizes) <= 6  # 9 without room ahead


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["as chosen", "padded", "fixed shapes"])
def test_every_form_of_pass_gives_the_plain_engines_logits(name: str, form: str) -> None:
    """Pieces smaller than a prompt, several tokens kept, seats between others, trees of unequal size."""
    model = MODELS[name]()
    rng = random.Random(0)
    engine = CachedEngine(
        model, max_context=400, cache_bytes=1 << 24, pass_tokens=50, static=form == "fixed shapes"
    )
    engine._row_by_row &= form == "as chosen"
    plain = PlainEngine(model)
    draw = lambda count: [rng.randrange(14, VOCABULARY) for _ in range(count)]  # noqa: E731
    texts = [draw(count) for count in (70, 3, 41, 8, 120, 2)]
    with torch.inference_mode():
        seats = [engine.open(i, text) for i, text in enumerate(texts)]
        others = [Seat(0) for _ in texts]
        some: list[int] = list(range(len(texts)))
        fed = texts
        for turn in range(8):
            keep = [min(rng.choice([1, 1, 3]), len(new)) for new in fed]
            mine = engine.feed([held(seats[i]) for i in some], fed, keep)
            theirs = plain.feed([others[i] for i in some], fed, keep)
            assert torch.allclose(mine, theirs, atol=2e-3 * float(theirs.std()))
            some = sorted(rng.sample(range(len(texts)), rng.randint(1, len(texts))))
            fed = [draw(1 if turn % 3 else rng.randint(1, 9)) for _ in some]
        trees = [
            Tree(draw(n), [-1, *(rng.randrange(-1, i) for i in range(1, n))]) for n in (1, 9, 4, 30, 2, 7)
        ]
        for mine, theirs in zip(
            engine.spread([held(seat) for seat in seats], trees), plain.spread(others, trees), strict=True
        ):
            assert torch.allclose(mine, theirs, atol=2e-3 * float(theirs.std()))
        assert [held(seat).token_ids for seat in seats] == [seat.token_ids for seat in others]


@pytest.mark.parametrize("name", MODELS)
def test_a_beginning_that_several_hold_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of one beginning, two of another that parts from it, one alone; later one takes another text."""
    monkeypatch.setattr(cached_engine, "SPARED", 20)
    monkeypatch.setattr(cached_engine, "JOIN", 0)
    read: list[int] = []
    flash = attention.FLASH

    def counted(query: Any, key: Any, *rest: Any, **more: Any) -> Any:
        read.append(key.shape[2])
        return flash(query, key, *rest, **more)

    monkeypatch.setattr(attention, "FLASH", counted)
    model = MODELS[name]()
    engine = CachedEngine(model, max_context=400, cache_bytes=1 << 24, pass_tokens=50)
    plain = PlainEngine(model)
    rng = random.Random(0)
    draw = lambda count: [rng.randrange(14, VOCABULARY) for _ in range(count)]  # noqa: E731
    some = draw(60)
    other = some[:9] + draw(50)
    texts = [some + draw(3), other + draw(9), some + draw(7), draw(20), other + draw(1), some + draw(1)]

    def compare(seats: Sequence[Any], others: Sequence[Seat], fed: Sequence[list[int]]) -> None:
        keep = [min(rng.choice([1, 1, 3]), len(new)) for new in fed]
        mine, theirs = engine.feed(seats, fed, keep), plain.feed(others, fed, keep)
        assert torch.allclose(mine, theirs, atol=2e-3 * float(theirs.std()))

    with torch.inference_mode():
        seats: list[Any] = []
        others = [Seat(0) for _ in texts]
        for i, text in enumerate(texts):
            seats.append(engine.open(i, text))
            others[i].token_ids = list(seats[i].token_ids)
            compare(seats[i:], others[i : i + 1], [text[len(seats[i].token_ids) :]])
        for turn in range(6):
            if turn == 3:  # holds the first 9 tokens only of what it held
                engine.close(seats[2])
                text = other + draw(5)
                assert engine.open(2, text) is seats[2]
                others[2].token_ids = text[: len(seats[2].token_ids)]
                compare(seats[2:3], others[2:3], [text[len(seats[2].token_ids) :]])
            if turn % 3 == 1:
                read.clear()
            compare(seats, others, [draw(rng.randint(1, 9) if turn % 3 == 2 else 1) for _ in texts])
            if turn % 3 == 1 and engine._row_by_row and None in engine._windows.values():
                layers = sum(layer._window is None for layer in engine._layers)
                held = sum(len(seat.token_ids) for seat in seats)
                spared = 2 * 60 + 59 if turn == 1 else 60 + 2 * 59
                assert sum(read) == layers * (held - spared)
        trees = [
            Tree(draw(n), [-1, *(rng.randrange(-1, i) for i in range(1, n))]) for n in (1, 9, 4, 30, 2, 7)
        ]
        for mine, theirs in zip(engine.spread(seats, trees), plain.spread(others, trees), strict=True):
            assert torch.allclose(mine, theirs, atol=2e-3 * float(theirs.std()))


def test_runs_of_like_sequences() -> None:
    """Of five, the first three have 3 tokens in common and the last two 7; all have 1."""
    assert list(cached_engine._runs([5, 3, 1, 7], 2)) == [(3, 3), (2, 7)]
    assert list(cached_engine._runs([5, 3, 1, 7], 1)) == [(5, 1)]
    assert list(cached_engine._runs([5, 3, 1, 7], 8)) == [(1, 0)] * 5
    assert list(cached_engine._runs([], 0)) == [(1, 0)]


def held(seat: Seat | None) -> Seat:
    assert seat is not None
    return seat


def test_actions_of_all_requests_are_scored_in_one_pass() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    requests = [Request([Message("user", w)], allowed=ACTIONS[i % 3 :], key=i) for i, w in enumerate(WORDS)]
    alone = [lm.score([request])[0] for request in requests]
    lm.forget()
    counted = Counted(model)
    together = lm.score(requests)
    assert counted.passes == 2  # the prompts, and the trees of actions
    for mine, other in zip(together, alone, strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    counted.passes = 0
    lm.generate(requests, Sampling(choice="action"))
    assert counted.passes <= 2


def test_scores_are_those_of_the_answer_with_what_opens_and_closes_it() -> None:
    lm = local(MODELS["llama"]())
    talk = [Message("user", "red")]
    tagged = lm.score([Request(talk, allowed=ACTIONS, opens="<action>", closes="</action>")])
    plain = lm.score([Request(talk, allowed=[f"<action>{action}</action>" for action in ACTIONS])])
    assert tagged[0] == pytest.approx(plain[0], abs=1e-4)


def test_tokens_that_leave_no_choice_cost_no_pass_of_their_own() -> None:
    model = MODELS["llama"]()
    lm, plain = local(model), local(model, plain=True, max_batch=1)
    allowed = ["take the blue key from the box", "open the red box"]
    requests = [Request([Message("user", w)], allowed=allowed, opens="Action: ", key=w) for w in WORDS[:6]]
    requests += [Request([Message("user", w)], allowed=[ACTIONS[0]]) for w in WORDS[:2]]
    requests += [Request([Message("user", w)], allowed=allowed, key=("bare", w)) for w in WORDS[:6]]
    lm.score(requests[6:7])  # the engine tries itself out
    counted = Counted(model)
    bare = lm.generate(requests[6:], Sampling())
    assert counted.passes == 2  # the choice, and the log-probabilities of the rest
    answers = [*lm.generate(requests[:6], Sampling(max_tokens=5)), *bare]
    for request, answer in zip(requests, answers, strict=True):
        expected = plain.generate([request], Sampling(max_tokens=5))[0]
        assert answer.token_ids == expected.token_ids
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        prompt = lm.chat.prompt(request.messages).token_ids
        with torch.no_grad():
            ids = torch.tensor([prompt + list(answer.token_ids)])
            fresh = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        true = [fresh[len(prompt) - 1 + i, t].item() for i, t in enumerate(answer.token_ids)]
        assert answer.logprobs == pytest.approx(true, abs=1e-4)


def test_an_action_that_does_not_fit_in_the_context_is_cut_before_it() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    request = Request([Message("user", "the box is red")], allowed=["take the red key from the box " * 3])
    whole = lm.generate([request], Sampling())[0]
    needed = whole.prompt_tokens + whole.completion_tokens - 1
    for room in range(whole.prompt_tokens + 1, needed + 3):
        answer = local(model, max_context=room).generate([request], Sampling())[0]
        assert answer.prompt_tokens + answer.completion_tokens <= room + 1
        assert len(answer.token_ids) == len(answer.logprobs)
        assert answer.stop_reason == ("end" if room > needed else "context")


def test_weights_in_four_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter trains over them; the engine's logits are the quantized model's own."""
    made = tiny_lm.llama(VOCABULARY, hidden=64)
    made.save_pretrained(tmp_path)
    tiny_lm.tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        load_model(str(tmp_path), ModelOptions(device="cpu", four_bit=True))
    monkeypatch.undo()
    pytest.importorskip("bitsandbytes")
    lm = load_model(str(tmp_path), ModelOptions(device="cpu", four_bit=True))
    assert isinstance(lm, LocalModel)
    weights = lm.model.model.layers[0].self_attn.q_proj.weight
    assert weights.dtype == torch.uint8 and weights.numel() == 64 * 64 // 2
    assert lm.conditions()["quantization"]["bnb_4bit_quant_type"] == "nf4"
    request = Request([Message("user", "the box is red")], key=1)
    answer = lm.generate([request], Sampling(max_tokens=8))[0]
    assert isinstance(lm._engine, CachedEngine)
    plain = LocalModel(lm.model, tiny_lm.tokenizer())
    plain._engine = PlainEngine(lm.model)
    assert answer.token_ids == plain.generate([request], Sampling(max_tokens=8))[0].token_ids
    add_adapter(lm, Lora(rank=2, four_bit=True))
    ids = torch.tensor([[5, 6, 7, 8]])
    optimizer = torch.optim.AdamW((p for p in lm.model.parameters() if p.requires_grad), lr=0.05)
    before = lm.model(input_ids=ids, labels=ids).loss
    for _ in range(5):
        lm.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert lm.model(input_ids=ids, labels=ids).loss < before
    with lm.reference():
        assert lm.generate([request], Sampling(max_tokens=8))[0].token_ids == answer.token_ids


def test_four_bits_are_for_adapters() -> None:
    with pytest.raises(BadOption, match="--lora.rank"):
        Lora(four_bit=True)


# Guessed tokens change how many passes an answer takes, and nothing else.


class Prompter(Drafter):
    """Guesses what it is told, a wrong token among it now and then."""

    def __init__(self, wrong: float) -> None:
        super().__init__()
        self.answers: dict[tuple[int, ...], Sequence[int]] = {}
        self.wrong, self.rng = wrong, random.Random(0)

    def guess(self, writer: Writer, most: int) -> list[int]:
        answer = self.answers[tuple(writer.prompt)]
        told = list(answer[len(writer.token_ids) : -1][: self.rng.randint(0, max(most, 0))])
        told = [self.rng.randrange(VOCABULARY) if self.rng.random() < self.wrong else t for t in told]
        self.guessed += len(told)
        return told


def talks(lm: LocalModel, sampling: Sampling, **constraint: Any) -> list[tuple[Request, Generation]]:
    """Conversations of four turns, five at a time: what was asked, and what was answered."""
    rng = random.Random(1)
    talk = [[Message("user", says(rng))] for _ in range(5)]
    told = []
    for turn in range(4):
        requests = [Request(list(t), seed=10 * i + turn, key=i, **constraint) for i, t in enumerate(talk)]
        for request, answer, own in zip(requests, lm.generate(requests, sampling), talk, strict=True):
            told.append((request, answer))
            own.append(Message("assistant", answer.text, True, list(answer.token_ids)))
            own.append(Message("user", says(rng, 9)))
    return told


def same(some: Sequence[tuple[Request, Generation]], others: Sequence[tuple[Request, Generation]]) -> None:
    for (_, a), (_, b) in zip(some, others, strict=True):
        assert (a.token_ids, a.text, a.stop_reason) == (b.token_ids, b.text, b.stop_reason)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert (a.prompt_tokens, a.completion_tokens) == (b.prompt_tokens, b.completion_tokens)


CASES: dict[str, tuple[Sampling, dict[str, Any]]] = {
    "greedy": (Sampling(max_tokens=12), {}),
    "drawn": (Sampling(1.0, max_tokens=12), {}),
    "drawn, top p": (Sampling(0.8, 0.7, max_tokens=12), {}),
    "stop strings": (Sampling(1.0, max_tokens=40, stop=("e", "key")), {}),
    "among actions": (Sampling(), {"allowed": ACTIONS}),
    "among actions, drawn": (Sampling(2.0), {"allowed": ACTIONS}),
    "free, then among actions": (Sampling(1.0, max_tokens=30), {"allowed": ACTIONS, "opens": " "}),
    "free, then a whole action": (
        Sampling(1.0, max_tokens=30, choice="action"),
        {"allowed": ACTIONS, "opens": "e"},
    ),
}


@pytest.mark.parametrize("form", ["as chosen", "padded", "fixed shapes", "no cache"])
@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_without_guesses(case: str, form: str) -> None:
    """Rows of different acceptance; later turns go on from what wrong guesses have overwritten."""
    sampling, constraint = CASES[case]
    model = MODELS["llama"]()
    alone = talks(local(model, plain=True, max_batch=1), sampling, **constraint)
    prompter = Prompter(0.25)
    lm = local(model, draft=True, static_shapes=form == "fixed shapes")
    prompter.answers = {tuple(lm.chat.prompt(r.messages).token_ids): a.token_ids for r, a in alone}
    lm.drafter = prompter
    if form == "no cache":
        lm._engine = PlainEngine(model)
    else:
        lm.score([Request([Message("user", "red")], allowed=ACTIONS)])
        assert isinstance(lm._engine, CachedEngine)
        lm._engine._row_by_row &= form == "as chosen"
        lm._engine.forget()
    same(talks(lm, sampling, **constraint), alone)
    if constraint and "opens" not in constraint:
        assert prompter.guessed == 0
    else:
        assert 0 < prompter.right < prompter.guessed
    for request, answer in alone[:5]:
        prompt = lm.chat.prompt(request.messages).token_ids
        with torch.no_grad():
            fresh = torch.log_softmax(model(torch.tensor([[*prompt, *answer.token_ids]])).logits[0], -1)
        expected = [fresh[len(prompt) - 1 + i, t].item() for i, t in enumerate(answer.token_ids)]
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_are_those_of_generate(name: str) -> None:
    """`generate` of transformers, on the same prompts, the wrong guesses of earlier turns behind them."""
    model = MODELS[name]()
    lm = local(model, draft=True)
    for request, answer in talks(lm, Sampling(max_tokens=20)):
        prompt = torch.tensor([lm.chat.prompt(request.messages).token_ids])
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20,
            eos_token_id=sorted(lm.end_ids), pad_token_id=0,
        )  # fmt: skip
        assert out[0, prompt.shape[1] :].tolist() == list(answer.token_ids)
    assert 0 < lm.drafter.right < lm.drafter.guessed


def test_what_is_guessed_right_costs_no_pass() -> None:
    model = MODELS["llama"]()
    lm = local(model)
    sampling = Sampling(max_tokens=MOST + 1)
    request = Request([Message("user", "the box is red")])
    first = lm.generate([request], sampling)[0]
    lm.generate([request], sampling)
    counted = Counted(model)
    assert lm.generate([request], sampling)[0].token_ids == first.token_ids
    assert len(first.token_ids) == MOST + 1 and counted.passes < (MOST + 1) / 2
    lm.forget()
    assert lm.drafter.guessed == 0
    counted.passes = 0
    lm.generate([request], sampling)
    assert counted.passes > (MOST + 1) / 2


def test_a_full_context_ends_an_answer_at_the_same_token() -> None:
    model = MODELS["llama"]()
    for room in range(20, 40):
        for allowed in (None, ["take the red key from the box " * 2]):
            request = Request([Message("user", "the box is red")], allowed=allowed)
            alone = local(model, plain=True, max_context=room).generate([request], Sampling())[0]
            lm = local(model, max_context=room)
            for _ in range(3):
                again = lm.generate([request], Sampling())[0]
                assert (again.token_ids, again.stop_reason) == (alone.token_ids, alone.stop_reason)


def test_memory_is_bounded_with_guesses() -> None:
    model = MODELS["llama"]()
    cells, per_cell = 256, 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, dimension, bytes
    tight = local(model, cache_gb=cells * per_cell / 2**30)
    some = episodes(tight, Sampling(max_tokens=12), count=7, turns=4, width=7)
    engine = tight._engine
    assert isinstance(engine, CachedEngine) and tight.drafter.right
    longest = max(len(seat.token_ids) for seat in engine._seats)
    assert engine._rows * engine._cells <= max(cells, -(-(longest + 1 + MOST) // 64) * 64)
    plenty = episodes(local(model, plain=True), Sampling(max_tokens=12), count=7, turns=4, width=7)
    assert [[a.token_ids for a in s] for s in some.values()] == [
        [a.token_ids for a in p] for p in plenty.values()
    ]


@pytest.mark.parametrize("said", ["", "é", "open🔑", "开", "a "])
def test_a_character_of_many_tokens_before_a_stop_string_is_kept_whole(said: str) -> None:
    lm = local(MODELS["llama"]())
    answer = Writer(
        Request([Message("user", "red")]), Sampling(stop=("\nObservation:",)), lm.chat, [1], lm.end_ids
    )
    written = lm.tokenizer.encode(said, add_special_tokens=False)
    for token in [*written, *lm.tokenizer.encode("\nObservation: red", add_special_tokens=False)]:
        if answer.reason is None:
            answer.push(token, -1.0)
    assert (answer.reason, answer.text) == ("stop", said)
    assert answer.token_ids == written and len(answer.logprobs) == len(written)


def writer(lm: LocalModel, said: str, **more: Any) -> Writer:
    request = Request([Message("user", said)], **more)
    return Writer(request, Sampling(), lm.chat, lm.chat.prompt(request.messages).token_ids, lm.end_ids)


def test_guesses_are_what_followed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one answer a token has the share 1 / 2, the next two 1 / 4 and 1 / 8, which is below 1 / 6; after
    nine answers the shares are 9 / 10."""
    lm = local(tiny_lm.llama(VOCABULARY))
    drafter, answer = Drafter(), lm.chat.answer("go to fridge 1")
    assert drafter.guess(writer(lm, "the fridge is shut"), MOST) == []
    written = writer(lm, "the fridge is shut")
    written.token_ids = answer
    drafter.learn(written)
    assert drafter.guess(writer(lm, "the fridge is shut"), MOST) == answer[:2]
    for _ in range(8):
        drafter.learn(written)
    assert drafter.guess(writer(lm, "the fridge is shut"), MOST) == answer[:-1]  # never an end token
    assert drafter.guess(writer(lm, "the fridge is shut"), 3) == answer[:3]
    assert drafter.guess(writer(lm, "the fridge is shut"), 0) == []
    begun = writer(lm, "something else")
    begun.token_ids = answer[:2]
    assert drafter.guess(begun, 2) == answer[2:4]  # the last tokens are enough
    monkeypatch.setattr(draft, "HELD", 3)
    drafter.learn(writer(lm, "all is forgotten"))
    assert drafter.guess(writer(lm, "the fridge is shut"), MOST) == []
