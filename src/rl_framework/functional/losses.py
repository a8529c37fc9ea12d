"""What learners minimise, as functions of tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def behavioural_cloning_losses(
    log_prob: Tensor, entropy: Tensor | None = None, *, ent_weight: float = 0.0, sample_weights: Tensor | None = None
) -> Tensor:
    """Negative log-probability of each recorded action, less a bonus for entropy; the mean is minimised.

    Args:
        log_prob: Log-probability of each recorded action. `[B]`
        entropy: Entropy of the policy at each observation; None where it has no part in the loss. `[B]`
        ent_weight: What one nat of entropy is worth.
        sample_weights: How much each action counts; all alike if None. Of mean 1 over the whole data set, so that
            the loss keeps its size. `[B]`

    Returns:
        `[B]`

    Source: the loss of `BC` in the imitation library 1.0.1, with weights added.
    """
    weighted = log_prob if sample_weights is None else log_prob * sample_weights
    return -weighted if entropy is None else torch.sub(-weighted, entropy, alpha=ent_weight)


def categorical_cloning_gradient(
    log_probs: Tensor, choices: Tensor, *, ent_weight: float = 0.0, sample_weights: Tensor | None = None
) -> Tensor:
    """Gradient of the mean of `behavioural_cloning_losses` for one choice per row, by the logits.

    Written out, because automatic differentiation of these few numbers takes as long as that of a small network:
    with p the probabilities, H the entropy and w the weight of a row, it is w (p - 1[choice]) + c p (log p + H).

    Args:
        log_probs: Normalised log-probabilities of all choices. `[B, n]`
        choices: Which one was made, counted from 0. `[B]`
        ent_weight: What one nat of entropy is worth, c.
        sample_weights: As for `behavioural_cloning_losses`. `[B]`

    Returns:
        `[B, n]`
    """
    probs = log_probs.exp()
    index = choices.unsqueeze(1)
    gradient = probs.scatter_add(1, index, torch.full_like(index, -1, dtype=probs.dtype))
    if sample_weights is not None:
        gradient *= sample_weights.unsqueeze(1)
    if ent_weight:
        terms = probs * log_probs
        terms.addcmul_(probs, terms.sum(1, keepdim=True), value=-1.0)
        gradient.add_(terms, alpha=ent_weight)
    return gradient.div_(len(choices))


def half_squared_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Half the sum of all squares, whose gradient is the parameters themselves. One number."""
    return 0.5 * torch.stack([parameter.square().sum() for parameter in parameters]).sum()


def balanced_class_weights(counts: Tensor) -> Tensor:
    """Weights under which all classes that occur count alike, of mean 1 over the samples.

    Args:
        counts: How often each class occurs; at least one does. `[n]`

    Returns:
        Weight of a sample of each class; 1 for a class that does not occur. `[n]`

    Source: `compute_class_weight("balanced", ...)` of scikit-learn, after King & Zeng, Logistic Regression in Rare
    Events Data, Political Analysis 9, 2001.
    """
    occurs = counts > 0
    balanced = counts.sum() / (occurs.sum() * counts.clamp(min=1))
    return torch.where(occurs, balanced, torch.ones_like(balanced))
