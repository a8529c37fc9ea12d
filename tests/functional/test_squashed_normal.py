"""Squashed normal numbers: their densities against torch's transformed distribution, and by integration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from rl_framework.functional.squashed_normal import squashed_sample


def twin(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Slow twin: torch's distribution, in float64."""
    distribution = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    squashed = distribution.transforms[0](mean + noise * log_std.exp())
    return squashed, distribution.log_prob(squashed).sum(1)  # type: ignore[no-untyped-call]


def parameters(n: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, log_std, noise = (torch.randn(n, width, generator=generator) for _ in range(3))
    return mean, 0.5 * log_std, noise


def test_densities_and_gradients_are_those_of_torchs_distribution() -> None:
    mean, log_std, noise = parameters(400, 3, 0)
    numbers = mean + noise * log_std.exp()
    mean = mean - (numbers - numbers.clamp(-5.0, 5.0))
    ours = [mean.clone().requires_grad_(), log_std.clone().requires_grad_()]
    theirs = [mean.double().requires_grad_(), log_std.double().requires_grad_()]
    squashed, log_densities = squashed_sample(*ours, noise)  # type: ignore[call-arg]  # two, and one
    wanted, wanted_log_densities = twin(*theirs, noise.double())  # type: ignore[call-arg]  # likewise
    torch.testing.assert_close(squashed.double(), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_densities.double(), wanted_log_densities, atol=1e-4, rtol=0)
    factors = torch.linspace(-1.0, 2.0, 400)
    ((squashed * factors[:, None]).sum() + (log_densities * factors.flip(0)).sum()).backward()  # type: ignore[no-untyped-call]
    loss = (wanted * factors[:, None]).sum() + (wanted_log_densities * factors.flip(0)).sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [-20.0, 20.0])
def test_far_out_densities_are_finite_and_right(number: float) -> None:
    mean = torch.full((1, 1), number, requires_grad=True)
    log_std = torch.zeros(1, 1, requires_grad=True)
    squashed, log_density = squashed_sample(mean, log_std, torch.zeros(1, 1))
    assert squashed.item() == math.copysign(1.0, number)
    log_slope = 2.0 * (math.log(2.0) - 20.0 - math.log1p(math.exp(-40.0)))
    assert log_density.item() == pytest.approx(-0.5 * math.log(2.0 * math.pi) - log_slope, abs=1e-4)
    log_density.sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert mean.grad is not None
    assert float(mean.grad) == pytest.approx(math.copysign(2.0, number), abs=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.4), (-1.5, 0.8)])
def test_densities_integrate_to_one(mean: float, std: float) -> None:
    actions = torch.linspace(-1.0, 1.0, 200_003, dtype=torch.float64)[1:-1]
    noise = ((torch.atanh(actions) - mean) / std).unsqueeze(1)
    means, log_stds = torch.full_like(noise, mean), torch.full_like(noise, math.log(std))
    squashed, log_densities = squashed_sample(means, log_stds, noise)
    torch.testing.assert_close(squashed[:, 0], actions, atol=1e-9, rtol=0)
    assert float(log_densities.exp().mean()) * 2.0 == pytest.approx(1.0, abs=0.01)


def test_gradients_are_those_of_finite_differences() -> None:
    mean, log_std, noise = (numbers.double() for numbers in parameters(4, 2, 1))
    wanted = [mean.requires_grad_(), log_std.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *given: squashed_sample(*given, noise), wanted)  # type: ignore[call-arg]
