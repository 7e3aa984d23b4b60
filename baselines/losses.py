"""Every loss of every method: pure functions of tensors, one equation each.

Shapes: (B, T) for quantities of a token, (B,) for quantities of a sequence, () for a loss. `logp[b, t]` is
log pi(token t | tokens before t); `mask` is 1 where the learner is trained on the token and 0 elsewhere (for
`sft` it may be any weight). Log-probabilities are computed in float32 or better, and summed, never averaged,
where an equation has the probability of a text.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def token_logp(logits: Tensor, ids: Tensor) -> Tensor:
    """log pi(ids) = logits_ids - log sum_v exp logits_v: (..., V), (...) to (...), in float32 or better.

    `logits` are those that predict the tokens: a causal model gives them at the token before.
    """
    if logits.dtype != torch.float64:
        logits = logits.float()
    return logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)


def sequence_logp(logp: Tensor, mask: Tensor) -> Tensor:
    """log pi(e|u) = sum_t mask_t logp_t: (B, T) and (B, T) to (B,). ETO, section 2 (arXiv:2403.02502)."""
    return (logp * mask).sum(-1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """sum(mask x) / sum(mask) over everything; 0 where the mask is empty."""
    return (x * mask).sum() / mask.sum().clamp(min=torch.finfo(x.dtype).tiny)


def masked_whiten(x: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over the masked positions of the whole batch; 0 elsewhere."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    return (x - mean) * torch.rsqrt(variance + 1e-8) * mask


def mean_of_texts(x: Tensor, mask: Tensor, counts: Tensor | None = None) -> Tensor:
    """mean_b (sum_t mask_bt x_bt / count_b), count_b = sum_t mask_bt by default: (B, T), (B, T), (B,) to ().

    Texts count the same however long they are, so a batch may be cut into any passes.
    """
    counts = mask.sum(-1) if counts is None else counts
    return ((x * mask).sum(-1) / counts.clamp(min=torch.finfo(x.dtype).tiny)).mean()


def sft(logp: Tensor, mask: Tensor) -> Tensor:
    """L = - sum_bt w_bt logp_bt / sum_bt w_bt: (B, T), (B, T) to (). Behavioural cloning; ETO eq. 3-5.

    `mask` holds the weights w: 1 for what the agent wrote, 0 for what it only read, or a small weight for
    that (a model trained from scratch learns to copy from what it reads sooner when it also predicts it).
    """
    return -masked_mean(logp, mask)


def dpo(win: Tensor, lose: Tensor, ref_win: Tensor, ref_lose: Tensor, beta: float) -> Tensor:
    """L = - mean log sigma(beta [(log pi(w) - log ref(w)) - (log pi(l) - log ref(l))]): four (B,) to ().

    The arguments are summed log-probabilities (`sequence_logp`). Rafailov et al. 2023 (arXiv:2305.18290)
    eq. 7; ETO eq. 11 has whole trajectories for w and l, StepAgent and step-wise ETO single actions.
    """
    return -F.logsigmoid(beta * ((win - ref_win) - (lose - ref_lose))).mean()


def clipped_policy_gradient(
    logp: Tensor,
    behaviour: Tensor,
    reward: Tensor,
    mask: Tensor,
    clip: float,
    counts: Tensor | None = None,
) -> Tensor:
    """L = - mean_b mean_t sg[clip(rho_bt, 1 - eps, 1 + eps)] logp_bt R_b, rho = pi / pi_behaviour: to ().

    REINFORCE off policy: the clipped importance weight is a constant, so a token outside the clip range
    keeps a gradient of (1 +- eps) R, where PPO's would be 0. RetroAct eq. 7 (arXiv:2503.01490), with the
    log-derivative written out as its released code does.

    Args:
        logp: (B, T), of the policy being trained.
        behaviour: (B, T), of the policy that sampled.
        reward: (B,), one for the whole text.
        mask: (B, T).
        clip: eps.
        counts: (B,), what each text's sum is divided by; by default its trained tokens.
    """
    with torch.no_grad():
        weight = (logp - behaviour).exp().clamp(1 - clip, 1 + clip)
    return -mean_of_texts(weight * logp * reward[:, None], mask, counts)


def ppo(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float) -> Tensor:
    """L = - mean_t min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / pi_old: four (B, T) to ().

    Schulman et al. 2017 (arXiv:1707.06347) eq. 7; the mean is over all masked tokens of the batch.
    """
    ratio = (logp - old).exp()
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -masked_mean(objective, mask)


def clip_share(logp: Tensor, old: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Share of masked tokens whose ratio lies outside 1 +- eps: a measure of how far the policy has gone."""
    ratio = (logp - old).exp()
    return masked_mean(((ratio - 1).abs() > clip).to(logp.dtype), mask)


def value(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """L = 1/2 mean_t max[(V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2]: four (B, T) to ().

    The clipped value loss of the PPO implementations (Huang et al. 2022, "The 37 implementation details",
    detail 9), with the factor 1/2 inside.
    """
    clipped = torch.minimum(torch.maximum(values, old - clip), old + clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages A and returns A + V over the masked tokens of each row: three (B, T) to two (B, T).

    A_t = delta_t + gamma lam A_{t'}, delta_t = r_t + gamma V_{t'} - V_t, with t' the next masked token of the
    row; after the last one V and A are 0. Schulman et al. 2016 (arXiv:1506.02438) eq. 16. Positions outside
    the mask (what the environment wrote) are stepped over: they are part of the transition, not actions.
    """
    advantages = torch.zeros_like(values)
    next_value = torch.zeros_like(values[:, 0])
    next_advantage = torch.zeros_like(next_value)
    for t in reversed(range(values.shape[1])):
        acted = mask[:, t].bool()
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(acted, advantage, torch.zeros_like(advantage))
        next_value = torch.where(acted, values[:, t], next_value)
        next_advantage = torch.where(acted, advantage, next_advantage)
    return advantages, (advantages + values) * mask


def kl(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """mean_t [exp(q) - 1 - q], q = log ref - log pi: an estimate of KL(pi || ref) that is never negative.

    From tokens sampled from pi, unbiased: three (B, T) to (). Schulman 2020, "Approximating KL divergence".
    """
    q = ref - logp
    return masked_mean(q.exp() - 1 - q, mask)


def kl_penalty(logp: Tensor, ref: Tensor, coefficient: float) -> Tensor:
    """r_t = - coefficient (log pi - log ref), the reward a token gets for staying near ref: (B, T).

    Ziegler et al. 2019 (arXiv:1909.08593) section 2; Retroformer's "beta log(M_phi / M_ref)".
    """
    return -coefficient * (logp - ref)


def entropy(logits: Tensor) -> Tensor:
    """H = - sum_v p_v log p_v, in nats, of what chose each token: (..., V) to (...)."""
    log_p = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def discriminator(logits: Tensor, agent: Tensor) -> Tensor:
    """L = - mean_b [log D_b where the agent wrote b, log(1 - D_b) elsewhere], D = sigma(logit): (B,)s to ().

    `agent` says where. With as many of either it is half of GAIL's objective (Ho & Ermon 2016,
    arXiv:1606.03476, eq. 16) with the sign of a loss; StepAgent-Inverse. At D = 1/2 everywhere it is log 2.
    """
    return torch.where(agent, F.softplus(-logits), F.softplus(logits)).mean()


def discriminator_reward(agent: Tensor, *, airl: bool = False) -> Tensor:
    """r = - log D (GAIL's negative cost, above 0), or r = log(1 - D) - log D (AIRL): (B,) logits to (B,).

    The second is AIRL's (Fu et al. 2018, arXiv:1710.11248), of either sign: it rewards and punishes.
    """
    return -agent if airl else -F.logsigmoid(agent)
