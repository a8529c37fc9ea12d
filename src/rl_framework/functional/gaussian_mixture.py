"""A density of few points with many numbers each: a mixture of normal distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianMixture:
    """K normal distributions, all float64.

    Attributes:
        log_weights: Logarithms of their shares. `[K]`
        means: `[K, D]`
        factors: Lower triangular roots of their covariances. `[K, D, D]`
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def log_densities(self, points: Tensor) -> Tensor:
        """Natural logarithms of the density. `[M, D]` to `[M]`, float64"""
        return self.log_shares(points).logsumexp(1)

    def log_shares(self, points: Tensor) -> Tensor:
        """What each distribution contributes. `[M, D]` to `[M, K]`, float64"""
        apart = points.double().unsqueeze(0) - self.means.unsqueeze(1)
        white = torch.linalg.solve_triangular(self.factors, apart.mT, upper=False)
        roots = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constants = self.log_weights - roots - 0.5 * points.shape[1] * math.log(2.0 * math.pi)
        shares: Tensor = constants.unsqueeze(1) - 0.5 * white.square().sum(1)
        return shares.T


def fit_gaussian_mixture(
    points: Tensor, generator: torch.Generator, *, n_components: int = 3, iterations: int = 30
) -> GaussianMixture:
    """Fit a mixture by expectation and maximisation.

    With priors that keep it well-defined for any number of points: each covariance is pulled towards the variances of
    all points, as if by D more of them, and shares towards equal ones, as if by one more point.

    Source: Dempster, Laird and Rubin, Maximum Likelihood from Incomplete Data via the EM Algorithm (1977); with priors,
    Bishop, Pattern Recognition and Machine Learning (2006), section 9.3.4.

    Args:
        points: `[M, D]`
        generator: Draws the points at which the distributions start.
        n_components: K.
        iterations: How often both steps are made.

    Raises:
        InvalidInputError: There is no point, no component, or no iteration.
    """
    if len(points) < 1 or n_components < 1 or iterations < 1:
        raise InvalidInputError(
            "A mixture needs at least one point, one component and one iteration; got "
            f"{len(points)}, {n_components} and {iterations}."
        )
    points = points.double()
    variances = points.var(0, correction=0) + 1e-6
    chosen = torch.randint(len(points), (n_components,), generator=generator, device=points.device)
    mixture = GaussianMixture(
        log_weights=points.new_full((n_components,), -math.log(n_components)),
        means=points[chosen],
        factors=variances.sqrt().diag().repeat(n_components, 1, 1),
    )
    for _ in range(iterations):
        mixture = _improved(mixture, points, variances)
    return mixture


def _improved(mixture: GaussianMixture, points: Tensor, variances: Tensor) -> GaussianMixture:
    """The mixture after one more iteration."""
    shares = mixture.log_shares(points).softmax(1)
    n_components, width = mixture.means.shape
    counts = shares.sum(0)
    weights = (counts + 1.0 / n_components) / (len(points) + 1.0)
    means = (shares.T @ points) / (counts + 1e-12).unsqueeze(1)
    apart = points.unsqueeze(0) - means.unsqueeze(1)
    scatter = (apart * shares.T.unsqueeze(2)).mT @ apart
    covariances = (scatter + width * variances.diag()) / (counts + width).view(-1, 1, 1)
    return GaussianMixture(log_weights=weights.log(), means=means, factors=torch.linalg.cholesky(covariances))
