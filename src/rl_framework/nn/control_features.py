"""From observations to what the networks of control learners take in, with statistics that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.goals import DESIRED_GOAL, OBSERVATION, is_goal_space
from rl_framework.core.spaces import check_supported, leaf_spaces
from rl_framework.core.trees import Path, Tree
from rl_framework.errors import SpaceError
from rl_framework.nn.encoders import LeafEncoder, OneHotEncoder, PictureEncoder, VectorEncoder, is_picture
from rl_framework.nn.normalization import RunningNormalization, Total

LARGEST_RAW = 200.0
LARGEST_NORMALIZED = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Observations of which only pictures are left to encode; networks take them like observations.

    Attributes:
        numbers: Everything else, side by side. `[N, n]`
        pictures: As they were observed. `[N, ...]` each
    """

    numbers: Tensor
    pictures: tuple[Tensor, ...] = ()


class ControlFeatures(nn.Module):
    """What networks see of observations: numbers side by side, brought to mean 0 and standard deviation 1 if wanted.

    Of observations with goals they see what is observed and the desired goal, not the achieved one. Numbers of float
    Boxes come first, then what comes of other entries. Nothing here is learned by gradients: the statistics are
    gathered once for all networks that share them.

    Args:
        observation_space: What is observed.
        normalize: Whether numbers of float Boxes are normalised by the statistics of `update_normalization`; numbers
            beyond 200 count as 200, and normalised ones beyond 5 as 5.
        octaves: Behind all numbers come the sines and then the cosines of those of float Boxes, at 1, 2, 4, ... radians
            per unit, so many times; after Mildenhall et al., NeRF, 2020 (https://arxiv.org/abs/2003.08934), equation 4.

    Attributes:
        n_numbers: Width of `Prepared.numbers`.
        n_features: Width of what `forward` gives.

    Raises:
        SpaceError: The space is not supported, or its values hold no numbers.
    """

    def __init__(self, observation_space: gym.Space[Any], *, normalize: bool = False, octaves: int = 0) -> None:
        super().__init__()
        check_supported(observation_space, "observation")
        found = sorted(_seen(observation_space), key=lambda leaf: _rank(leaf[1]))
        self._paths = [path for path, _ in found]
        leaves = [leaf for _, leaf in found]
        self.picture_spaces = [leaf for leaf in leaves if isinstance(leaf, spaces.Box) and is_picture(leaf)]
        self._encoders: list[LeafEncoder] = [
            _encoder(leaf) for leaf in leaves[: len(leaves) - len(self.picture_spaces)]
        ]
        self.parts = nn.ModuleList(self._encoders)
        n_normal = sum(
            encoder.n_features for encoder, leaf in zip(self._encoders, leaves, strict=False) if _rank(leaf) == 0
        )
        self._n_normal, self._octaves = n_normal, octaves
        self._n_observed = sum(encoder.n_features for encoder in self._encoders)
        self.n_numbers = self._n_observed + 2 * octaves * n_normal
        self.n_features = self.n_numbers + sum(int(np.prod(space.shape)) for space in self.picture_spaces)
        if self.n_features == 0:
            raise SpaceError(
                f"Observations of {observation_space} hold no numbers from which one could tell what to do."
            )
        self._is_plain = self._paths == [()] and _rank(leaves[0]) == 0 and len(leaves[0].shape or ()) == 1
        self.normalization = (
            RunningNormalization((n_normal,), clip=LARGEST_NORMALIZED) if normalize and n_normal else None
        )

    def forward(self, observations: Tree) -> Tensor:
        """All of it as numbers, the points of pictures too: `[N, ...]` per leaf to `[N, n_features]`."""
        prepared = self.prepare(observations)
        if not prepared.pictures:
            return prepared.numbers
        points = [_points(*pair) for pair in zip(prepared.pictures, self.picture_spaces, strict=True)]
        return torch.cat([prepared.numbers, *points], 1)

    def prepare(self, observations: Tree | Prepared) -> Prepared:
        """What networks take, which is worth keeping where several of them are asked. `[N, ...]` per leaf"""
        if isinstance(observations, Prepared):
            return observations
        if self._is_plain and observations.dtype is torch.float32:
            return Prepared(self._with_waves(self._normalized(observations)))
        leaves = list(self._leaves(observations))
        return Prepared(self._with_waves(self._normalized(self._numbers(leaves))), tuple(leaves[len(self._encoders) :]))

    @property
    def is_normalized(self) -> bool:
        """Whether there are statistics to gather."""
        return self.normalization is not None

    def update_normalization(self, observations: Tree, total: Total | None = None) -> None:
        """Take a batch of observations into the statistics; nothing else changes them.

        Args:
            observations: `[N, ...]` per leaf
            total: As for `RunningNormalization.update`.
        """
        if self.normalization is not None:
            numbers = self._numbers(list(self._leaves(observations)))[:, : self._n_normal]
            self.normalization.update(numbers.clamp(-LARGEST_RAW, LARGEST_RAW), total)

    def _normalized(self, numbers: Tensor) -> Tensor:
        """What was observed, of which the first numbers are normalised. `[N, n]`, the same"""
        if self.normalization is None:
            return numbers
        if self._n_normal == self._n_observed:
            return self.normalization(numbers.clamp(-LARGEST_RAW, LARGEST_RAW))  # type: ignore[no-any-return]
        normal, others = numbers[:, : self._n_normal], numbers[:, self._n_normal :]
        return torch.cat([self.normalization(normal.clamp(-LARGEST_RAW, LARGEST_RAW)), others], 1)

    def _with_waves(self, numbers: Tensor) -> Tensor:
        """Numbers, and what tells those apart that are close to each other. `[N, n]` to `[N, n_numbers]`"""
        if not self._octaves or not self._n_normal:
            return numbers
        normal = numbers[:, : self._n_normal]
        angles = torch.cat([normal * 2.0**octave for octave in range(self._octaves)], 1)
        return torch.cat([numbers, angles.sin(), angles.cos()], 1)

    def _numbers(self, leaves: list[Tensor]) -> Tensor:
        encoded = [encoder(leaf) for encoder, leaf in zip(self._encoders, leaves, strict=False)]
        if not encoded:
            return leaves[0].new_zeros(leaves[0].shape[0], 0, dtype=torch.float32)
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded, 1)

    def _leaves(self, observations: Tree) -> Iterator[Tensor]:
        for path in self._paths:
            leaf = observations
            for key in path:
                leaf = leaf[key]
            yield leaf


class NetworkInputs(nn.Module):
    """The first layers of one network: its own view of pictures beside the numbers that all networks share.

    Args:
        features: What makes numbers of observations; shared, and copied with no network.
        image_features: Number of features made of each picture.

    Attributes:
        n_features: Width of what comes out.
    """

    def __init__(self, features: ControlFeatures, image_features: int) -> None:
        super().__init__()
        self.features = features
        self.pictures = nn.ModuleList(PictureEncoder(space, image_features) for space in features.picture_spaces)
        self.n_features = features.n_numbers + image_features * len(features.picture_spaces)

    def forward(self, observations: Tree | Prepared) -> Tensor:
        """`[N, ...]` per leaf to `[N, n_features]`."""
        prepared = self.features.prepare(observations)
        if not prepared.pictures:
            return prepared.numbers
        seen = [encoder(picture) for encoder, picture in zip(self.pictures, prepared.pictures, strict=True)]
        return torch.cat([prepared.numbers, *seen], 1)


def _seen(space: gym.Space[Any]) -> Iterator[tuple[Path, gym.Space[Any]]]:
    """The leaves that networks see, with their paths."""
    for key in (OBSERVATION, DESIRED_GOAL) if is_goal_space(space) else (None,):
        for path, leaf in leaf_spaces(space):
            if key is None or path[0] == key:
                yield path, leaf


def _rank(leaf: gym.Space[Any]) -> int:
    """Float numbers first, pictures last."""
    if isinstance(leaf, spaces.Box) and is_picture(leaf):
        return 2
    return 0 if isinstance(leaf, spaces.Box) and np.dtype(leaf.dtype).kind == "f" else 1


def _encoder(leaf: gym.Space[Any]) -> LeafEncoder:
    return OneHotEncoder(leaf) if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete) else VectorEncoder(leaf)


def _points(picture: Tensor, space: spaces.Box) -> Tensor:
    return picture.float().flatten(1) / (255.0 if np.dtype(space.dtype) == np.uint8 else 1.0)
