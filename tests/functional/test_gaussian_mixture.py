"""A mixture of normal distributions against closed forms and scipy's densities."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from rl_framework.errors import InvalidInputError
from rl_framework.functional.gaussian_mixture import GaussianMixture, fit_gaussian_mixture


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def clusters() -> Tensor:
    """200, 100 and 20 points around three places. `[320, 2]`"""
    places = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], dtype=torch.float64)
    return places.repeat_interleave(torch.tensor([200, 100, 20]), 0) + normal(320, 2)


def test_densities_are_those_of_scipy() -> None:
    factors = torch.tril(normal(3, 4, 4, seed=1), -1) + torch.diag_embed(normal(3, 4, seed=2).abs() + 0.1)
    log_weights, means = normal(3, seed=3).log_softmax(0), normal(3, 4, seed=4)
    points = normal(50, 4, seed=5) * 5

    found = GaussianMixture(log_weights=log_weights, means=means, factors=factors).log_densities(points)

    parts = [
        weight + multivariate_normal(mean, factor @ factor.T).logpdf(points)
        for weight, mean, factor in zip(log_weights.tolist(), means.numpy(), factors.numpy(), strict=True)
    ]
    torch.testing.assert_close(found, torch.from_numpy(logsumexp(parts, axis=0)))


def test_one_component_has_the_mean_and_the_covariance_of_the_points() -> None:
    points = normal(4000, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.3, 0.0, 0.1]], dtype=torch.float64)

    mixture = fit_gaussian_mixture(points, seeded(), n_components=1)

    covariance = points.T.cov(correction=0)
    pulled = (4000 * covariance + 3 * (covariance.diag() + 1e-6).diag()) / 4003
    torch.testing.assert_close(mixture.means[0], points.mean(0))
    torch.testing.assert_close(mixture.factors[0] @ mixture.factors[0].T, pulled)


def test_clusters_are_told_apart_and_the_small_one_is_rare() -> None:
    points = clusters()
    mixture = max(
        (fit_gaussian_mixture(points, seeded(seed)) for seed in range(5)),
        key=lambda each: float(each.log_densities(points).sum()),
    )
    densities = mixture.log_densities(points)

    assert sorted(mixture.log_weights.exp().tolist()) == pytest.approx([20 / 320, 100 / 320, 200 / 320], abs=0.01)
    assert densities[300:].median() < densities[200:300].median() < densities[:200].median()


def test_each_iteration_makes_the_points_likelier() -> None:
    points = clusters()

    likelihoods = [
        fit_gaussian_mixture(points, seeded(3), iterations=count).log_densities(points).sum().item()
        for count in range(1, 20)
    ]

    # The priors, as heavy as two points and one, may cost the likelihood a little.
    assert all(later > earlier - 1.0 for earlier, later in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 100.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_points_of_many_numbers_have_finite_densities(count: int) -> None:
    points = normal(count, 150).float()

    densities = fit_gaussian_mixture(points, seeded()).log_densities(points)

    assert densities.isfinite().all()


def test_points_that_are_all_the_same_have_finite_densities() -> None:
    densities = fit_gaussian_mixture(torch.ones(10, 5), seeded()).log_densities(torch.ones(10, 5))

    assert densities.isfinite().all()
    assert densities.max() == densities.min()


@pytest.mark.parametrize(("count", "settings"), [(0, {}), (3, {"n_components": 0}), (3, {"iterations": 0})])
def test_what_is_missing_is_refused(count: int, settings: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="at least one point, one component and one iteration"):
        fit_gaussian_mixture(torch.zeros(count, 2), seeded(), **settings)
