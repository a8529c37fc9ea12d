from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.kernel_density import (
    KernelDensity,
    Standardization,
    gaussian_log_density,
    tophat_log_density,
)


def slow_gaussian(queries: Tensor, points: Tensor, bandwidth: float) -> list[float]:
    """Sum over points as in the textbook, in logarithms, with Python's floats."""
    width = points.shape[1]
    constant = -math.log(len(points)) - width * math.log(bandwidth * math.sqrt(2.0 * math.pi))
    found = []
    for query in queries.tolist():
        exponents = [
            -sum((a - b) ** 2 for a, b in zip(query, point, strict=True)) / (2.0 * bandwidth**2)
            for point in points.tolist()
        ]
        top = max(exponents)
        found.append(top + math.log(math.fsum(math.exp(each - top) for each in exponents)) + constant)
    return found


def numbers(n: int, width: int, seed: int, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) * spread


@pytest.mark.parametrize("width", range(1, 7))
def test_gaussian_density_is_the_sum_over_all_points_even_far_out(width: int) -> None:
    points = numbers(150, width, seed=width) * 2.0 + 5.0
    queries = torch.cat([points[:20], numbers(20, width, seed=9) * 2.0 + 5.0, numbers(20, width, seed=10, spread=3.0)])
    outside = torch.full((1, width), 11.0, dtype=torch.float64)
    queries = torch.cat([queries, outside, -outside * 10.0])

    fast = gaussian_log_density(queries, points, 0.1)

    assert fast.tolist() == pytest.approx(slow_gaussian(queries, points, 0.1), rel=1e-12, abs=1e-6)


@pytest.mark.parametrize("width", range(1, 7))
def test_three_standard_deviations_out_single_precision_ranks_as_double_precision_does(width: int) -> None:
    points, directions = numbers(2000, width, seed=1), numbers(200, width, seed=2)
    queries = directions / directions.norm(dim=1, keepdim=True) * 3.0 * math.sqrt(width)

    exact = KernelDensity.fit(points).log_density(queries)
    single = KernelDensity.fit(points.float()).log_density(queries.float())

    assert bool(single.isfinite().all())
    assert single.tolist() == pytest.approx(exact.tolist(), rel=2e-6, abs=2e-3)
    assert int(single.argmin()) == int(exact.argmin())


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_tophat_density_counts_points_within_the_radius(width: int) -> None:
    points, queries = numbers(300, width, seed=3), numbers(50, width, seed=4)
    radius = 0.9

    found = tophat_log_density(queries, points, radius)

    ball = math.pi ** (width / 2) / math.gamma(width / 2 + 1) * radius**width
    counts = [sum(math.dist(query, point) <= radius for point in points.tolist()) for query in queries.tolist()]
    wanted = [math.log(count / (300 * ball)) if count else -math.inf for count in counts]
    assert found.tolist() == pytest.approx(wanted)
    assert {count > 0 for count in counts} == {True, False} or width < 3


@pytest.mark.parametrize("kernel", ["gaussian", "tophat"])
def test_density_of_the_numbers_themselves_integrates_to_one(kernel: str) -> None:
    points = numbers(50, 2, seed=5) * torch.tensor([0.5, 3.0]) + torch.tensor([10.0, -4.0])
    density = KernelDensity.fit(points, bandwidth=0.3, kernel=kernel)  # type: ignore[arg-type]  # of two, for mypy
    axes = [torch.linspace(5.0, 15.0, 400, dtype=torch.float64), torch.linspace(-24.0, 16.0, 400, dtype=torch.float64)]
    grid = torch.cartesian_prod(*axes)
    cell = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))

    total = (density.log_density(grid) - density.standardization.log_volume).exp().sum() * cell

    assert float(total) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("evaluate", [gaussian_log_density, tophat_log_density])
def test_looking_at_pairs_in_pieces_changes_nothing(evaluate: Callable[..., Tensor]) -> None:
    points, queries = numbers(70, 2, seed=6), numbers(31, 2, seed=7)

    whole = evaluate(queries, points, 0.5)

    for chunk in (1, 70, 71, 500, 10_000):
        assert evaluate(queries, points, 0.5, chunk=chunk).tolist() == pytest.approx(whole.tolist(), rel=1e-12)


def test_standardization_brings_points_to_mean_0_and_deviation_1_and_back() -> None:
    points = numbers(500, 3, seed=8) * torch.tensor([1.0, 10.0, 0.1]) + 7.0
    units = Standardization.of(points)

    standard = units.apply(points)

    assert standard.mean(0).tolist() == pytest.approx([0.0] * 3, abs=1e-9)
    assert standard.std(0, correction=0).tolist() == pytest.approx([1.0] * 3, abs=2e-3)
    assert units.undo(standard).flatten().tolist() == pytest.approx(points.flatten().tolist())


def test_a_coordinate_that_never_changes_is_no_obstacle() -> None:
    points = torch.cat([numbers(100, 1, seed=11), torch.full((100, 1), 3.0, dtype=torch.float64)], 1)

    density = KernelDensity.fit(points)

    assert bool(density.log_density(points).isfinite().all())
    assert float(density.log_density(points[:1])) > float(density.log_density(points[:1] + torch.tensor([0.0, 1.0])))


def test_draws_are_spread_as_the_density_says() -> None:
    density = KernelDensity.fit(torch.tensor([[0.0], [10.0]], dtype=torch.float64), bandwidth=0.2)
    n = 4000

    drawn = density.sample(n, torch.Generator().manual_seed(0)).squeeze(1)

    units = density.standardization
    edges = torch.tensor([-math.inf, -1.0, 0.0, 1.0, 5.0, 9.0, 10.0, 11.0, math.inf], dtype=torch.float64)
    standard = (edges.clamp(-1e3, 1e3)[:, None] - torch.tensor([0.0, 10.0])) / (0.2 * units.scale)
    below = torch.special.ndtr(standard).mean(1)
    expected = (below[1:] - below[:-1]) * n
    counted = torch.histogram(drawn.clamp(-999.0, 999.0), edges.clamp(-1e3, 1e3)).hist
    chi_square = float(((counted - expected).square() / expected).sum())
    assert chi_square < 24.3  # 7 degrees of freedom, one in a thousand


def test_draws_from_tophat_kernels_fill_their_balls_evenly() -> None:
    density = KernelDensity.fit(torch.zeros(4, 2, dtype=torch.float64), bandwidth=2.0, kernel="tophat")

    radii = density.sample(20_000, torch.Generator().manual_seed(0)).norm(dim=1) / (
        2.0 * density.standardization.scale[0]
    )

    assert float(radii.max()) <= 1.0
    assert float((radii < math.sqrt(0.5)).double().mean()) == pytest.approx(0.5, abs=0.015)


def test_entropy_is_that_of_the_normal_distribution_that_was_fitted() -> None:
    points = numbers(4000, 1, seed=12) * 5.0

    entropy = KernelDensity.fit(points, bandwidth=0.1).entropy(4000, torch.Generator().manual_seed(1))

    assert float(entropy) == pytest.approx(0.5 * math.log(2.0 * math.pi * math.e * 25.0 * 1.01), abs=0.05)


def test_densities_that_make_no_sense_are_refused() -> None:
    points = torch.zeros(3, 2)

    with pytest.raises(UnknownOptionError, match=r"gausian.*gaussian"):
        KernelDensity.fit(points, kernel="gausian")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidInputError, match=r"bandwidth .* above 0, got 0"):
        KernelDensity.fit(points, bandwidth=0.0)
    with pytest.raises(InvalidInputError, match=r"at least one, got \(0, 2\)"):
        KernelDensity.fit(points[:0])
