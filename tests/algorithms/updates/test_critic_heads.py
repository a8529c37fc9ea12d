from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.updates.critic_heads import make_critic_head
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from tests.algorithms.updates.rule_workshops import make_batch

ENSEMBLE = DDPGConfig(n_critics=3, combination="random_ensemble")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("member", [0, 1, 2])
def test_an_ensemble_of_one_weight_is_a_single_critic(member: int) -> None:
    several, single = make_critic_head(ENSEMBLE, (0.9,)), make_critic_head(DDPGConfig(), (0.9,))
    outputs, targets, weights = random(3, 5, 1), random(5, 1, 1, seed=1), torch.eye(3)[member]
    alone = outputs[member : member + 1]
    torch.testing.assert_close(several.samples(outputs, weights), single.samples(alone, None))
    found, right = several.loss(outputs, targets, weights), single.loss(alone, targets, None)
    torch.testing.assert_close(found.losses, right.losses)
    torch.testing.assert_close(found.errors, right.errors)


def test_weights_are_drawn_for_random_ensembles_only() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert make_critic_head(DDPGConfig(), (0.9,)).draw_weights(generator, torch.device("cpu")) is None
    assert torch.equal(before, generator.get_state())
    drawn = make_critic_head(ENSEMBLE, (0.9,)).draw_weights(generator, torch.device("cpu"))
    assert drawn is not None
    assert drawn.shape == (3,)


@pytest.mark.parametrize(
    ("settings", "n_values", "n_outputs"),
    [
        (DDPGConfig(), 2, 2),
        (DDPGConfig(critic="gaussian"), 2, 4),
        (DDPGConfig(critic="quantile", n_quantiles=7), 2, 14),
    ],
)
def test_outputs_are_counted(settings: DDPGConfig, n_values: int, n_outputs: int) -> None:
    head = make_critic_head(settings, (0.5, 0.9))
    assert (head.n_values, head.n_outputs) == (n_values, n_outputs)
    horizons = make_critic_head(replace(settings, horizons=3), (0.9,))
    assert (horizons.n_values, horizons.n_outputs) == (3, n_outputs // 2 * 3)


def test_the_last_discount_and_the_longest_horizons_are_acted_on() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0]])
    assert make_critic_head(DDPGConfig(), (0.1, 0.2, 0.3)).acting(values).tolist() == [4.0]
    assert make_critic_head(DDPGConfig(horizons=3, acting_horizons=2), (0.9,)).acting(values).tolist() == [3.0]
    assert make_critic_head(DDPGConfig(horizons=3), (0.9,)).acting(values)[0] == pytest.approx(7.0 / 3.0)


def test_gaussian_critics_say_their_mean() -> None:
    head = make_critic_head(DDPGConfig(critic="gaussian", n_critics=2), (0.5, 0.9))
    outputs = torch.tensor([[[1.0, 2.0, 90.0, 91.0]], [[0.0, 3.0, 92.0, 93.0]]])
    assert head.means(outputs).tolist() == [[[1.0, 2.0]], [[0.0, 3.0]]]
    assert head.samples(outputs, None).tolist() == [[[0.0], [2.0]]]


def test_quantiles_of_one_value_lie_side_by_side() -> None:
    head = make_critic_head(DDPGConfig(critic="quantile", n_quantiles=2, n_critics=2), (0.5, 0.9))
    outputs = torch.tensor([[[1.0, 3.0, 10.0, 30.0]], [[2.0, 2.0, 20.0, 20.0]]])
    assert head.means(outputs).tolist() == [[[2.0, 20.0]], [[2.0, 20.0]]]
    assert head.samples(outputs, None).tolist() == [[[1.0, 2.0], [10.0, 20.0]]]


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize(
    ("settings", "gammas"),
    [
        (DDPGConfig(), (0.9,)),
        (DDPGConfig(n_critics=2), (0.5, 0.9)),
        (DDPGConfig(n_critics=2, horizons=3, acting_horizons=2), (0.9,)),
        (ENSEMBLE, (0.5, 0.9)),
        (DDPGConfig(n_critics=2, critic="gaussian"), (0.9,)),
        (DDPGConfig(n_critics=2, critic="quantile", n_quantiles=4), (0.9,)),
    ],
)
def test_descents_have_the_gradient_of_the_loss(
    settings: DDPGConfig, gammas: tuple[float, ...], *, counts: bool
) -> None:
    head = make_critic_head(settings, gammas)
    outputs = random(settings.n_critics, 6, head.n_outputs).double().requires_grad_()
    targets = random(6, head.n_values, 1, seed=1)
    weights = head.draw_weights(torch.Generator().manual_seed(2), torch.device("cpu"))
    importance = random(6, seed=3).abs() if counts else None
    loss = head.loss(outputs, targets, weights)
    mean = loss.mean(importance)
    (expected,) = torch.autograd.grad(mean, outputs)
    found = head.descent(outputs.detach().float(), targets, weights, importance)
    torch.testing.assert_close(found.gradient, expected.float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.loss, mean.detach().float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.errors, loss.errors.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("horizons", [None, 2])
def test_costs_come_off_what_follows(horizons: int | None) -> None:
    head = make_critic_head(DDPGConfig(horizons=horizons), (0.9,))
    batch = make_batch(4)
    following, cost = random(4, head.n_values, 1), random(4, seed=2)
    found = head.targets(batch, following, cost)
    expected = batch.rewards + batch.discounts * (following[:, -1 if horizons is None else 0] - cost[:, None])
    torch.testing.assert_close(found[:, -1], expected)
    if horizons is not None:
        torch.testing.assert_close(found[:, 0], batch.rewards)
