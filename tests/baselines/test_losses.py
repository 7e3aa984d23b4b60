"""Each loss: a number worked by hand, the identities its equation promises, its gradient, and TRL's where it has one."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, tensor  # noqa: E402

from prosegym.baselines import losses  # noqa: E402

torch.set_num_threads(1)
LOG2, LOG3 = math.log(2), math.log(3)


def close(a: Tensor, b: float | list[float] | Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), atol=tolerance, rtol=tolerance)


def f64(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradcheck(loss, *inputs: Tensor) -> None:  # type: ignore[no-untyped-def]
    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in inputs])


# --- log-probabilities ---


def test_token_logp_by_hand() -> None:
    """Logits (0, log 3): softmax is (1/4, 3/4). Token 1 then has log 3/4, token 0 log 1/4."""
    logits = tensor([[[0.0, LOG3], [0.0, LOG3]]])
    close(losses.token_logp(logits, tensor([[1, 0]])), [[math.log(0.75), math.log(0.25)]])


def test_token_logp_is_float32_for_half_precision_logits() -> None:
    logits = f64(2, 5, 7).to(torch.bfloat16)
    assert losses.token_logp(logits, torch.zeros(2, 5, dtype=torch.long)).dtype == torch.float32


def test_sequence_logp_sums_and_does_not_average() -> None:
    """-1 - 2 = -3 over the two masked tokens; the third is read, not written."""
    close(losses.sequence_logp(tensor([[-1.0, -2.0, -4.0]]), tensor([[1, 1, 0]])), [-3.0])


def test_whitening() -> None:
    """1, 3 and a masked 100: mean 2, variance 1, so -1, 1 and 0."""
    close(
        losses.masked_whiten(tensor([[1.0, 3.0, 100.0]]), tensor([[1.0, 1.0, 0.0]])), [[-1.0, 1.0, 0.0]], 1e-5
    )


# --- SFT ---


def test_sft_by_hand() -> None:
    """(1*2 + 1*4 + 0.5*6) / 2.5 = 3.6 with a half weight on the third token, (2 + 4)/2 = 3 without it."""
    logp = tensor([[-2.0, -4.0, -6.0]])
    close(losses.sft(logp, tensor([[1, 1, 0.5]])), 3.6)
    close(losses.sft(logp, tensor([[1.0, 1, 0]])), 3.0)


def test_sft_ignores_what_was_only_read() -> None:
    logp, mask = f64(3, 6), tensor([[0, 1, 0, 1, 1, 0]] * 3, dtype=torch.float64)
    changed = torch.where(mask == 0, logp - 7, logp)
    assert torch.equal(losses.sft(logp, mask), losses.sft(changed, mask))


def test_sft_of_nothing_is_zero() -> None:
    close(losses.sft(tensor([[-1.0]]), tensor([[0.0]])), 0.0)


def test_sft_gradient() -> None:
    mask = (f64(3, 5, seed=1) > 0).double()
    gradcheck(lambda x: losses.sft(x, mask), f64(3, 5))


# --- DPO ---


def test_dpo_by_hand() -> None:
    """beta 1/2, ratios 3 - 1 = 2 and 0 - 0 = 0: -log sigma(1) = log(1 + 1/e) = 0.313262."""
    close(
        losses.dpo(tensor([3.0]), tensor([0.0]), tensor([1.0]), tensor([0.0]), 0.5), math.log1p(math.exp(-1))
    )


def test_dpo_is_log_2_at_the_reference() -> None:
    win, lose = f64(8), f64(8, seed=1)
    close(losses.dpo(win, lose, win, lose, 0.1), LOG2, 1e-12)


def test_dpo_swapping_the_pair_negates_the_gradient_at_the_reference() -> None:
    win, lose = f64(4).requires_grad_(), f64(4, seed=1).requires_grad_()
    there = torch.autograd.grad(losses.dpo(win, lose, win.detach(), lose.detach(), 0.3), win)[0]
    back = torch.autograd.grad(losses.dpo(lose, win, lose.detach(), win.detach(), 0.3), win)[0]
    close(there, -back, 1e-12)


def test_dpo_does_not_see_a_constant_added_to_one_models_log_probabilities() -> None:
    w, x, rw, rx = (f64(4, seed=i) for i in range(4))
    close(losses.dpo(w + 5, x + 5, rw, rx, 0.1), losses.dpo(w, x, rw, rx, 0.1), 1e-12)
    close(losses.dpo(w, x, rw - 3, rx - 3, 0.1), losses.dpo(w, x, rw, rx, 0.1), 1e-12)


def test_dpo_gradient() -> None:
    gradcheck(lambda *x: losses.dpo(*x, 0.7), *(f64(3, seed=i) for i in range(4)))


# --- clipped off-policy policy gradient ---


def test_policy_gradient_by_hand() -> None:
    """eps 0.3, R = 2. rho = 1 and e^1 (clipped to 1.3), logp -1 and -2: -(1*-1*2 + 1.3*-2*2)/2 = 3.6.

    Divided by all four positions in place of the two trained ones: 1.8.
    """
    logp, behaviour = tensor([[0.0, -1.0, -2.0, 0.0]]), tensor([[0.0, -1.0, -3.0, 0.0]])
    mask = tensor([[0.0, 1, 1, 0]])
    close(losses.clipped_policy_gradient(logp, behaviour, tensor([2.0]), mask, 0.3), 3.6)
    close(losses.clipped_policy_gradient(logp, behaviour, tensor([2.0]), mask, 0.3, tensor([4.0])), 1.8)


def test_policy_gradient_on_policy_is_reinforce() -> None:
    logp, reward, mask = f64(3, 4).requires_grad_(), f64(3, seed=1), torch.ones(3, 4, dtype=torch.float64)
    mine = losses.clipped_policy_gradient(logp, logp.detach(), reward, mask, 0.2)
    reinforce = -(logp.mean(-1) * reward).mean()
    close(torch.autograd.grad(mine, logp)[0], torch.autograd.grad(reinforce, logp)[0], 1e-12)


@pytest.mark.parametrize(("gap", "weight"), [(1.0, 1.3), (-1.0, 0.7), (0.1, math.exp(0.1))])
def test_policy_gradient_outside_the_clip_range_is_not_zero(gap: float, weight: float) -> None:
    """d L / d logp = - clip(rho) R for the only token, on either side of the range; R = 5."""
    logp = tensor([[-1.0]], requires_grad=True)
    loss = losses.clipped_policy_gradient(logp, tensor([[-1.0 - gap]]), tensor([5.0]), tensor([[1.0]]), 0.3)
    close(torch.autograd.grad(loss, logp)[0], [[-weight * 5]], 1e-5)


# --- PPO ---


def test_ppo_by_hand() -> None:
    """eps 0.2. rho = 2: A = 1 gives min(2, 1.2) = 1.2; A = -1 gives min(-2, -1.2) = -2. -(1.2 - 2)/2 = 0.4."""
    logp, old = tensor([[LOG2, LOG2]]), tensor([[0.0, 0.0]])
    close(losses.ppo(logp, old, tensor([[1.0, -1.0]]), torch.ones(1, 2), 0.2), 0.4)
    close(losses.clip_share(logp, tensor([[0.0, LOG2]]), torch.ones(1, 2), 0.2), 0.5)


def test_ppo_gradient_is_zero_only_on_the_clipped_side() -> None:
    logp = tensor([[LOG2, LOG2]], requires_grad=True)
    loss = losses.ppo(logp, torch.zeros(1, 2), tensor([[1.0, -1.0]]), torch.ones(1, 2), 0.2)
    close(torch.autograd.grad(loss, logp)[0], [[0.0, 1.0]])  # second: -d(2 * -1)/dlogp / 2 tokens = 1


def test_ppo_gradient() -> None:
    mask, advantage, old = torch.ones(2, 3, dtype=torch.float64), f64(2, 3, seed=1), f64(2, 3, seed=2)
    gradcheck(lambda x: losses.ppo(x, old, advantage, mask, 0.2), f64(2, 3))


def test_value_by_hand() -> None:
    """V = 3, old 1, R = 4, eps 0.5: clipped V 1.5, squares 1 and 6.25, half the larger 3.125."""
    one = torch.ones(1, 1)
    close(losses.value(3 * one, one, 4 * one, one, 0.5), 3.125)
    gradcheck(
        lambda v: losses.value(v, f64(2, 3, seed=1), f64(2, 3, seed=2), torch.ones(2, 3).double(), 0.2),
        f64(2, 3),
    )


def test_gae_by_hand() -> None:
    """gamma 1/2, lambda 1/2, r = (0, 1), V = (2, 4): delta_2 = 1 - 4 = -3, A_2 = -3;

    delta_1 = 0 + 2 - 2 = 0, A_1 = 0 + 1/4 * -3 = -0.75. Returns: 1.25 and 1. A token that the environment wrote
    stands between the two and changes nothing.
    """
    rewards, values = tensor([[0.0, 9.0, 1.0, 9.0]]), tensor([[2.0, 9.0, 4.0, 9.0]])
    advantages, returns = losses.gae(rewards, values, tensor([[1.0, 0, 1, 0]]), 0.5, 0.5)
    close(advantages, [[-0.75, 0, -3.0, 0]])
    close(returns, [[1.25, 0, 1.0, 0]])


def test_gae_with_lambda_one_is_the_discounted_return_less_the_value() -> None:
    rewards, values = f64(2, 5), f64(2, 5, seed=1)
    advantages, returns = losses.gae(rewards, values, torch.ones(2, 5).double(), 0.9, 1.0)
    discounted = sum(0.9**t * rewards[:, t] for t in range(5))
    close(returns[:, 0], discounted, 1e-12)
    close(advantages[:, 0], discounted - values[:, 0], 1e-12)


def test_kl_by_hand() -> None:
    """q = log ref - log pi = log 2: 2 - 1 - log 2; q = 0: 0. Their mean; and the penalty -0.1 * (-log 2)."""
    logp, ref = tensor([[0.0, -1.0]]), tensor([[LOG2, -1.0]])
    close(losses.kl(logp, ref, torch.ones(1, 2)), (1 - LOG2) / 2)
    close(losses.kl_penalty(logp, ref, 0.1), [[0.1 * LOG2, 0.0]])


def test_kl_estimates_the_divergence_of_two_distributions() -> None:
    """Expectation over pi = (1/4, 3/4) of the estimate against ref = (1/2, 1/2) is KL = 1/4 log 1/2 + 3/4 log 3/2."""
    pi, ref = tensor([0.25, 0.75]), tensor([0.5, 0.5])
    mean = sum(
        pi[i] * losses.kl(pi[i].log()[None, None], ref[i].log()[None, None], torch.ones(1, 1)) for i in (0, 1)
    )
    close(torch.as_tensor(mean), 0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_entropy_by_hand() -> None:
    """Uniform over 4 is log 4; one of four for certain is 0; (1/4, 3/4) is log 4 - 3/4 log 3."""
    close(losses.entropy(torch.zeros(1, 4)), [math.log(4)])
    close(losses.entropy(100 * torch.eye(4)[:1]), [0.0])
    close(losses.entropy(tensor([0.0, LOG3])), math.log(4) - 0.75 * LOG3)


# --- rewards ---


def test_discriminator_by_hand() -> None:
    """Logit log 3 means D = 3/4. Agent at 3/4, expert at 1/4: -log 3/4, twice. At D = 1/2: log 2."""
    agent = torch.tensor([True, False, False])
    close(losses.discriminator(tensor([LOG3, -LOG3]), agent[:2]), -math.log(0.75))
    close(losses.discriminator(tensor([LOG3, LOG3]), agent[:2]), -(math.log(0.75) + math.log(0.25)) / 2)
    close(losses.discriminator(torch.zeros(3), agent), LOG2)
    gradcheck(lambda logits: losses.discriminator(logits, agent), f64(3))


def test_discriminator_reward_by_hand() -> None:
    """-log 3/4, and log(1/4) - log(3/4) = -log 3; at D = 1/2 log 2 and 0."""
    close(losses.discriminator_reward(tensor([LOG3, 0.0])), [-math.log(0.75), LOG2])
    close(losses.discriminator_reward(tensor([LOG3, 0.0]), airl=True), [-LOG3, 0.0])


def test_discriminator_on_identical_data_converges_to_a_half() -> None:
    """A logistic D on one feature, agent and expert alike: D goes to 1/2, reward and loss to log 2."""
    x = f64(64, 1)
    agent = torch.arange(128) < 64
    weight, bias = tensor([[2.0]]).double().requires_grad_(), tensor([-1.0]).double().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100)

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = (x @ weight + bias)[:, 0]
        value = losses.discriminator(torch.cat([logits, logits]), agent)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    logits = (x @ weight + bias)[:, 0].detach()
    close(losses.discriminator_reward(logits), torch.full((64,), LOG2), 1e-4)
    close(losses.discriminator(torch.cat([logits, logits]), agent), LOG2, 1e-6)
