from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.core.trees import leaves
from rl_framework.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    Joint,
    MultiCategorical,
    PointEstimate,
)

distributions: Any = torch.distributions  # its functions have no types
LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
LOG_STD = torch.tensor([-1.0, 0.0, 0.5, 1.0])
MAKERS: dict[str, Callable[[Tensor], Distribution]] = {
    "categorical": Categorical,
    "multi-categorical": lambda outputs: MultiCategorical(outputs, [3, 1]),
    "bernoulli": Bernoulli,
    "gaussian": lambda outputs: DiagonalGaussian(outputs, LOG_STD),
    "gaussian-in-units": lambda outputs: DiagonalGaussian(outputs, LOG_STD, log_unit=0.7),
    "joint": lambda outputs: Joint({"a": Categorical(outputs[:, :2]), "b": (Bernoulli(outputs[:, 2:]),)}),
}


@pytest.fixture(params=list(MAKERS))
def distribution(request: pytest.FixtureRequest) -> Distribution:
    return MAKERS[request.param](LOGITS)


def test_one_number_per_row(distribution: Distribution) -> None:
    assert distribution.log_prob(distribution.sample()).shape == (5,)
    assert distribution.entropy().shape == (5,)


def test_nothing_is_more_probable_than_the_mode(distribution: Distribution) -> None:
    best = distribution.log_prob(distribution.mode())
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        assert (distribution.log_prob(distribution.sample(generator)) <= best + 1e-6).all()


def test_entropy_is_the_mean_negative_log_probability_of_samples(distribution: Distribution) -> None:
    generator = torch.Generator().manual_seed(2)
    found = torch.stack([-distribution.log_prob(distribution.sample(generator)) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(found, distribution.entropy(), atol=0.1, rtol=0.0)


def test_the_same_generator_gives_the_same_samples(distribution: Distribution) -> None:
    one, other = (leaves(distribution.sample(torch.Generator().manual_seed(3))) for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_samples_without_a_generator_follow_the_global_one(distribution: Distribution) -> None:
    samples = []
    for _ in range(2):
        torch.manual_seed(4)
        samples.append(leaves(distribution.sample()))
    assert all(torch.equal(first, second) for first, second in zip(*samples, strict=True))


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_gradients_are_those_of_torch_distributions(name: str) -> None:
    twins: dict[str, Callable[[Tensor], Any]] = {
        "categorical": lambda outputs: distributions.Categorical(logits=outputs),
        "bernoulli": lambda outputs: distributions.Bernoulli(logits=outputs),
        "gaussian": lambda outputs: distributions.Normal(outputs, LOG_STD.exp()),
    }
    gradients = []
    targets = MAKERS[name](LOGITS).sample(torch.Generator().manual_seed(5))
    for make in (MAKERS[name], twins[name]):
        outputs = LOGITS.clone().requires_grad_()
        made = make(outputs)
        (made.log_prob(targets).sum() + 0.1 * made.entropy().sum()).backward()
        gradients.append(outputs.grad)
    torch.testing.assert_close(*gradients)


def test_density_is_that_of_the_action_in_its_own_units() -> None:
    unit = torch.tensor([2.0, 5.0])
    mean, log_std = torch.randn(3, 2), torch.tensor([0.1, -0.3])
    ours = DiagonalGaussian(mean, log_std, log_unit=float(unit.log().sum()))
    actions = torch.randn(3, 2) * unit
    theirs = distributions.Normal(mean * unit, log_std.exp() * unit)
    torch.testing.assert_close(ours.log_prob(actions / unit), theirs.log_prob(actions).sum(1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(1))


def test_point_estimates_never_spread_and_cost_half_the_squared_error() -> None:
    mean = torch.tensor([[1.0, 2.0]])
    estimate = PointEstimate(mean)
    assert torch.equal(estimate.sample(), mean)
    assert estimate.log_prob(torch.tensor([[0.0, 4.0]])).tolist() == [-2.5]
    assert estimate.entropy().tolist() == [0.0]
