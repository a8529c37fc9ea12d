"""From observations to features: what a network's first layers see of each kind of space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.spaces import check_supported, leaf_shape, leaf_spaces
from rl_framework.core.trees import Path, Tree
from rl_framework.errors import SpaceError
from rl_framework.nn.normalization import RunningNormalization, Total

SMALLEST_PICTURE = 8
NATURE_SIZE = 36
NATURE_LAYERS = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))
SMALL_LAYERS = ((32, 3, 2, 1), (64, 3, 2, 1), (64, 3, 1, 1))


class ObservationEncoder(nn.Module):
    """Features of observations of any supported space, those of a Dict's or Tuple's entries side by side.

    Args:
        space: The observations.
        image_features: Number of features made of each picture.
        normalize: Whether numbers of float Box entries are normalised by statistics that `update_normalization`
            gathers.

    Attributes:
        n_features: Number of features.

    Raises:
        SpaceError: The space is not supported, or its values hold no numbers.
    """

    def __init__(self, space: gym.Space[Any], *, image_features: int = 512, normalize: bool = False) -> None:
        super().__init__()
        check_supported(space, "observation")
        found = list(leaf_spaces(space))
        self._paths: list[Path] = [path for path, _ in found]
        parts = [make_encoder(leaf, image_features=image_features, normalize=normalize) for _, leaf in found]
        self.parts = nn.ModuleList(parts)
        self._parts = tuple(parts)  # to walk through a ModuleList takes longer than to look at a tuple
        self._has_parts = self._paths != [()]
        self.n_features = sum(part.n_features for part in parts)
        if self.n_features == 0:
            raise SpaceError(f"Observations of {space} hold no numbers from which a network could tell what to do.")

    def forward(self, observations: Tree) -> Tensor:
        """Features of a batch of observations. `[B, n_features]`"""
        if not self._has_parts:
            features: Tensor = self._parts[0](observations)
            return features
        encoded = [part(leaf) for part, leaf in zip(self._parts, self._leaves(observations), strict=True)]
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded, 1)

    @property
    def is_normalized(self) -> bool:
        """Whether there are statistics to gather."""
        return any(isinstance(module, RunningNormalization) for module in self.modules())

    def update_normalization(self, observations: Tree, total: Total | None = None) -> None:
        """Take a batch of observations into the statistics.

        Args:
            observations: `[B, ...]` per leaf
            total: As for `RunningNormalization.update`.
        """
        for part, leaf in zip(self.parts, self._leaves(observations), strict=True):
            if isinstance(part, VectorEncoder):
                part.update_normalization(leaf, total)

    def _leaves(self, observations: Tree) -> Iterator[Tensor]:
        for path in self._paths:
            leaf = observations
            for key in path:
                leaf = leaf[key]
            yield leaf


def make_encoder(leaf: gym.Space[Any], *, image_features: int, normalize: bool) -> LeafEncoder:
    """The encoder for one leaf space."""
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        return OneHotEncoder(leaf)
    if isinstance(leaf, spaces.Box) and is_picture(leaf):
        return PictureEncoder(leaf, image_features)
    return VectorEncoder(leaf, normalize=normalize)


class LeafEncoder(nn.Module):
    """Base of what encodes one leaf space.

    Attributes:
        n_features: Number of features.
    """

    n_features: int


class VectorEncoder(LeafEncoder):
    """Numbers and bits as they are, flattened; bytes are scaled to [0, 1].

    Args:
        space: A Box or MultiBinary.
        normalize: Whether the numbers of a float Box are normalised.
    """

    def __init__(self, space: gym.Space[Any], *, normalize: bool = False) -> None:
        super().__init__()
        shape, kind = leaf_shape(space), np.dtype(space.dtype)
        is_box = isinstance(space, spaces.Box)
        self.n_features = int(np.prod(shape))
        self.unit = 255.0 if is_box and kind == np.uint8 else 1.0
        self.normalization = RunningNormalization(shape) if normalize and is_box and kind.kind == "f" else None

    def forward(self, values: Tensor) -> Tensor:
        """`[B, ...]` to `[B, n_features]`."""
        numbers = values if self.normalization is None else self.normalization(values)
        if numbers.dtype != torch.float32:
            numbers = numbers.float()
        if numbers.dim() != 2:
            numbers = numbers.unsqueeze(1).flatten(1)
        return numbers if self.unit == 1.0 else numbers / self.unit

    def update_normalization(self, values: Tensor, total: Total | None = None) -> None:
        """Take values into the statistics, if there are any; `total` as there. `[B, ...]`"""
        if self.normalization is not None:
            self.normalization.update(values, total)


class OneHotEncoder(LeafEncoder):
    """A 1 for each choice that was made, a 0 for each that was not.

    Args:
        space: A Discrete or MultiDiscrete.
    """

    which: Tensor
    value: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        sizes = np.reshape(space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n, -1)
        starts = np.reshape(space.start, -1)
        values = [np.arange(size) + start for size, start in zip(sizes, starts, strict=True)]
        self._n_choices = len(sizes)
        self.n_features = int(sizes.sum())
        self.register_buffer("which", torch.as_tensor(np.repeat(np.arange(len(sizes)), sizes)), persistent=False)
        self.register_buffer("value", torch.as_tensor(np.concatenate(values).astype(np.int64)), persistent=False)

    def forward(self, choices: Tensor) -> Tensor:
        """`[B, ...]` to `[B, n_features]`."""
        flat = choices.long().reshape(-1, self._n_choices)
        return (flat[:, self.which] == self.value).float()


class PictureEncoder(LeafEncoder):
    """A convolutional network over pictures; bytes are scaled to [0, 1].

    Channels come first or last, as the space's shape tells; a picture without an axis for them has one channel.

    Args:
        space: A Box for which `is_picture` holds.
        n_features: Number of features.

    Source: from 36 by 36 pixels the layers of Mnih et al., Human-level control through deep reinforcement learning,
    Nature 518, 2015; for smaller pictures three layers of 3 by 3 pixels.
    """

    def __init__(self, space: spaces.Box, n_features: int = 512) -> None:
        super().__init__()
        self.n_features = n_features
        self.axis = channel_axis(space.shape)
        sizes = list(space.shape)
        n_channels = 1 if self.axis is None else sizes.pop(self.axis)
        self.unit = 255.0 if np.dtype(space.dtype) == np.uint8 else 1.0
        layers: list[nn.Module] = []
        for n_outputs, kernel, stride, padding in NATURE_LAYERS if min(sizes) >= NATURE_SIZE else SMALL_LAYERS:
            layers += [nn.Conv2d(n_channels, n_outputs, kernel, stride, padding), nn.ReLU()]
            sizes = [(size + 2 * padding - kernel) // stride + 1 for size in sizes]
            n_channels = n_outputs
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_channels * sizes[0] * sizes[1], n_features))

    def forward(self, pictures: Tensor) -> Tensor:
        """`[B, ...]` to `[B, n_features]`."""
        if self.axis is None:
            pictures = pictures.unsqueeze(1)
        elif self.axis != 0:
            pictures = pictures.permute(0, 3, 1, 2)
        features: Tensor = self.layers(pictures.float() / self.unit)
        return torch.relu(features)


def holds_pictures(space: gym.Space[Any]) -> bool:
    """Whether a space has pictures among its entries."""
    return any(isinstance(leaf, spaces.Box) and is_picture(leaf) for _, leaf in leaf_spaces(space))


def is_picture(space: spaces.Box) -> bool:
    """Whether a Box holds pictures: bytes, or numbers within [0, 1], at least 8 by 8 pixels."""
    shape, kind = space.shape, np.dtype(space.dtype)
    if len(shape) not in (2, 3):
        return False
    if kind != np.uint8 and not (kind.kind == "f" and len(shape) == 3 and _is_within_one(space)):
        return False
    axis = channel_axis(shape)
    sizes = [size for index, size in enumerate(shape) if index != axis]
    return min(sizes) >= SMALLEST_PICTURE


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of a picture's channels: of the first and the last the shorter; None if there are only two axes."""
    if len(shape) == 2:
        return None
    return 0 if shape[0] < shape[2] else 2


def _is_within_one(space: spaces.Box) -> bool:
    return bool((space.low >= 0).all() and (space.high <= 1).all())
