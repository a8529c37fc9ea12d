from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rl_framework.core.seeding import isolated_randomness
from rl_framework.nn.real_nvp import AffineCoupling, RealNVP


def make_flow(width: int, hidden_size: int = 32, seed: int = 0) -> RealNVP:
    with isolated_randomness(seed):
        return RealNVP(width, n_pairs=2, hidden_size=hidden_size)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_log_density_is_the_normal_one_with_the_jacobian_s_determinant(width: int) -> None:
    flow = make_flow(width).double()
    points = torch.randn(6, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    found = flow(points)

    def bend(point: Tensor) -> Tensor:
        numbers = point.unsqueeze(0)
        for layer in flow.layers:
            numbers, _ = layer(numbers)
        return numbers.squeeze(0)

    for point, log_density in zip(points, found.tolist(), strict=True):
        jacobian = torch.autograd.functional.jacobian(bend, point)  # type: ignore[no-untyped-call]  # torch's
        normal = -0.5 * float(bend(point).detach().square().sum()) - 0.5 * width * math.log(2.0 * math.pi)
        assert log_density == pytest.approx(normal + float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)


@pytest.mark.parametrize("transforms_even", [True, False])
def test_a_layer_can_be_undone_and_changes_one_half(transforms_even: bool) -> None:
    with isolated_randomness(2):
        layer = AffineCoupling(5, transforms_even=transforms_even, hidden_size=16).double()
    points = torch.randn(10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    changed, _ = layer(points)

    kept = slice(1 if transforms_even else 0, None, 2)
    moved = slice(0 if transforms_even else 1, None, 2)
    assert torch.equal(changed[:, kept], points[:, kept])
    assert bool((changed[:, moved] != points[:, moved]).all())
    assert torch.allclose(layer.inverse(changed), points, atol=1e-12)


def ring(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    angle = torch.rand(n, generator=generator) * math.pi
    radius = 1.5 + 0.15 * torch.randn(n, generator=generator)
    return torch.stack([angle.cos() * radius, angle.sin() * radius - 1.0], 1)


@pytest.fixture(scope="module")
def fitted() -> RealNVP:
    """A flow that has learned the ring."""
    flow = make_flow(2, hidden_size=32)
    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
    for step in range(250):
        optimizer.zero_grad()
        loss: Tensor = -flow(ring(256, seed=step)).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    return flow


def test_a_learned_density_integrates_to_one_and_knows_the_shape_of_its_data(fitted: RealNVP) -> None:
    held_out = ring(2000, seed=10_000)
    axis = torch.linspace(-6.0, 6.0, 500)

    with torch.no_grad():
        total = fitted(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]).square()
        learned = fitted(held_out).mean()

    normal_entropy = 0.5 * float(torch.logdet(held_out.t().cov())) + math.log(2.0 * math.pi * math.e)
    assert float(total) == pytest.approx(1.0, abs=0.03)
    assert float(learned) > -normal_entropy + 0.5


def test_draws_lie_where_the_density_is(fitted: RealNVP) -> None:
    drawn = fitted.sample(2000, torch.Generator().manual_seed(5))
    again = fitted.sample(2000, torch.Generator().manual_seed(5))

    radius = (drawn + torch.tensor([0.0, 1.0])).norm(dim=1)
    assert torch.equal(drawn, again)
    assert float(radius.median()) == pytest.approx(1.5, abs=0.1)
    assert float((drawn[:, 1] > -1.3).float().mean()) > 0.9
