"""Exact kernel density estimates: every point counts for every query, as a sum of exponentials in logarithms.

Tree-based estimates stop early where kernels are small; far from all points, where novel goals lie, they are off by
tens to hundreds of nats.

Source: Parzen, On Estimation of a Probability Density Function and Mode, 1962
(https://doi.org/10.1214/aoms/1177704472).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError, UnknownOptionError

Kernel: TypeAlias = Literal["gaussian", "tophat"]
KERNELS = ("gaussian", "tophat")
CHUNK = 1_000_000
"""Pairs of a query and a point that are looked at at a time."""
LEAST_SCALE = 1e-4


def gaussian_log_density(queries: Tensor, points: Tensor, bandwidth: float, *, chunk: int = CHUNK) -> Tensor:
    """Logarithm of the mean of normal densities around points.

    Distances are those of coordinates relative to the points' mean, by one matrix product; float32 costs an error of
    about 1e-6 of the squared distance from that mean, in bandwidths.

    Args:
        queries: Where. `[N, D]`
        points: The centres. `[M, D]`
        bandwidth: Standard deviation of each.
        chunk: Most pairs of a query and a point at a time.

    Returns:
        Finite however far a query is. `[N]`
    """
    centre = points.mean(0)
    points, queries = (points - centre) / bandwidth, (queries - centre) / bandwidth
    n_points, width = points.shape
    halves = points.square().sum(1).mul(-0.5)
    parts = [
        torch.logsumexp(torch.addmm(halves, rows, points.t()), 1) - rows.square().sum(1).mul(0.5)
        for rows in queries.chunk(_n_parts(len(queries) * n_points, chunk))
    ]
    constant = math.log(n_points) + width * (math.log(bandwidth) + 0.5 * math.log(2.0 * math.pi))
    return torch.cat(parts) - constant


def tophat_log_density(queries: Tensor, points: Tensor, bandwidth: float, *, chunk: int = CHUNK) -> Tensor:
    """Logarithm of the mean of uniform densities in balls around points.

    Args:
        queries: Where. `[N, D]`
        points: The centres. `[M, D]`
        bandwidth: Radius of each ball.
        chunk: Most pairs of a query and a point at a time.

    Returns:
        Minus infinity where there is no point within the bandwidth. `[N]`
    """
    n_points, width = points.shape
    parts = [
        (torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist") <= bandwidth).sum(1)
        for rows in queries.chunk(_n_parts(len(queries) * n_points, chunk))
    ]
    ball = 0.5 * width * math.log(math.pi) - math.lgamma(0.5 * width + 1.0) + width * math.log(bandwidth)
    return torch.cat(parts).to(queries.dtype).log() - (math.log(n_points) + ball)


def _n_parts(n_pairs: int, chunk: int) -> int:
    return max(1, -(-n_pairs // chunk))


@dataclass(frozen=True, slots=True)
class Standardization:
    """What brings numbers to mean 0 and standard deviation 1.

    Attributes:
        mean: Is subtracted. `[D]`
        scale: Is divided by. `[D]`
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Standardization:
        """That of points, with a little more than their standard deviation, lest it be 0. `[M, D]`"""
        mean = points.mean(0)
        return cls(mean, (points - mean).square().mean(0).sqrt() + LEAST_SCALE)

    def apply(self, points: Tensor) -> Tensor:
        """Standardised points. `[N, D]`"""
        return (points - self.mean) / self.scale

    def undo(self, points: Tensor) -> Tensor:
        """Points whose standardised ones these are. `[N, D]`"""
        return points * self.scale + self.mean

    @property
    def log_volume(self) -> Tensor:
        """Logarithm of how much room one unit of standardised volume takes; `[]`."""
        return self.scale.log().sum()


@dataclass(frozen=True, slots=True)
class KernelDensity:
    """A density around points.

    Attributes:
        points: The centres, standardised. `[M, D]`
        standardization: What standardised them.
        bandwidth: Width of the kernels, in units of standardised numbers.
        kernel: "gaussian" or "tophat".
    """

    points: Tensor
    standardization: Standardization
    bandwidth: float = 0.1
    kernel: Kernel = "gaussian"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise UnknownOptionError.of("kernel", self.kernel, KERNELS)
        if not 0.0 < self.bandwidth < math.inf:
            raise InvalidInputError(f"bandwidth of a density must be a finite number above 0, got {self.bandwidth}.")
        if self.points.dim() != 2 or len(self.points) == 0:
            raise InvalidInputError(f"A density needs points [M, D], at least one, got {tuple(self.points.shape)}.")

    @classmethod
    def fit(
        cls,
        points: Tensor,
        *,
        bandwidth: float = 0.1,
        kernel: Kernel = "gaussian",
        standardization: Standardization | None = None,
    ) -> KernelDensity:
        """The density of points.

        Args:
            points: `[M, D]`
            bandwidth: Width of the kernels, in units of standardised numbers.
            kernel: "gaussian" or "tophat".
            standardization: What standardises them; their own mean and standard deviation if None.
        """
        chosen = standardization or Standardization.of(points)
        return cls(chosen.apply(points), chosen, bandwidth, kernel)

    def log_density(self, queries: Tensor, *, chunk: int = CHUNK) -> Tensor:
        """Logarithm of the density of standardised numbers, at numbers that are not yet standardised.

        For the density of the numbers themselves, subtract `standardization.log_volume`.

        Args:
            queries: `[N, D]`
            chunk: Most pairs of a query and a point at a time.

        Returns:
            `[N]`
        """
        evaluate = gaussian_log_density if self.kernel == "gaussian" else tophat_log_density
        return evaluate(self.standardization.apply(queries), self.points, self.bandwidth, chunk=chunk)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Numbers drawn from the density. `[n, D]`"""
        rows = torch.randint(len(self.points), (n,), generator=generator, device=self.points.device)
        offsets = torch.randn(
            n, self.points.shape[1], generator=generator, device=self.points.device, dtype=self.points.dtype
        )
        if self.kernel == "tophat":
            radii = torch.rand(n, 1, generator=generator, device=offsets.device, dtype=offsets.dtype)
            offsets = offsets / offsets.norm(dim=1, keepdim=True) * radii.pow(1.0 / offsets.shape[1])
        return self.standardization.undo(self.points[rows] + offsets * self.bandwidth)

    def entropy(self, n: int, generator: torch.Generator) -> Tensor:
        """Differential entropy of the numbers, in nats, estimated from n draws; `[]`."""
        return self.standardization.log_volume - self.log_density(self.sample(n, generator)).mean()
