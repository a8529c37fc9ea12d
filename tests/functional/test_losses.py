from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.functional.losses import (
    balanced_class_weights,
    behavioural_cloning_losses,
    categorical_cloning_gradient,
    half_squared_norm,
)


def slow_cloning_losses(log_prob: Tensor, entropy: Tensor, ent_weight: float, weights: Tensor) -> list[float]:
    """The imitation library's loss, row by row, with a weight for each."""
    rows = zip(log_prob.tolist(), entropy.tolist(), weights.tolist(), strict=True)
    return [-weight * one - ent_weight * spread for one, spread, weight in rows]


@pytest.mark.parametrize("ent_weight", [0.0, 1e-3, 0.5])
def test_cloning_losses_are_those_of_the_slow_twin(ent_weight: float) -> None:
    log_prob, entropy, weights = torch.randn(7), torch.rand(7), torch.rand(7)
    expected = slow_cloning_losses(log_prob, entropy, ent_weight, weights)
    found = behavioural_cloning_losses(log_prob, entropy, ent_weight=ent_weight, sample_weights=weights)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_cloning_losses_without_entropy_and_weights_are_the_negative_log_probabilities() -> None:
    log_prob = torch.tensor([-0.5, -2.0])
    assert behavioural_cloning_losses(log_prob).tolist() == [0.5, 2.0]


@pytest.mark.parametrize("ent_weight", [0.0, 0.3])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_written_out_gradient_is_that_of_automatic_differentiation(ent_weight: float, is_weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    choices = torch.randint(4, (9,), generator=generator)
    weights = torch.rand(9, dtype=torch.float64, generator=generator) if is_weighted else None
    policy: Any = torch.distributions.Categorical(logits=logits)

    losses = behavioural_cloning_losses(
        policy.log_prob(choices), policy.entropy(), ent_weight=ent_weight, sample_weights=weights
    )
    (expected,) = torch.autograd.grad(losses.mean(), logits)
    found = categorical_cloning_gradient(
        torch.log_softmax(logits.detach(), 1), choices, ent_weight=ent_weight, sample_weights=weights
    )

    torch.testing.assert_close(found, expected)


def test_written_out_gradient_leaves_what_it_is_given() -> None:
    log_probs = torch.log_softmax(torch.randn(3, 2), 1)
    before = log_probs.clone()
    categorical_cloning_gradient(log_probs, torch.tensor([0, 1, 1]), ent_weight=0.1, sample_weights=torch.ones(3))
    assert torch.equal(log_probs, before)


def test_half_squared_norm_has_the_parameters_as_gradient() -> None:
    parameters = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
    half_squared_norm(parameters).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    for parameter in parameters:
        torch.testing.assert_close(parameter.grad, parameter.detach())


def test_balanced_weights_make_classes_equal_and_have_mean_one() -> None:
    counts = torch.tensor([90, 10, 0])
    weights = balanced_class_weights(counts)
    assert (weights * counts).tolist() == pytest.approx([50.0, 50.0, 0.0])
    assert weights[2] == 1.0
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)
