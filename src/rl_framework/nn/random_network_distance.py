"""How new something is: how badly a network predicts what another one, with fixed random weights, makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.mlp import MLP


class RandomNetworkDistance(nn.Module):
    """Squared distance between what a learned and a fixed random network make of something.

    Only the learned network's parameters require gradients; minimising the mean of the distances makes what is seen
    often known.

    Args:
        target: The fixed network.
        predictor: The learned one, with the same inputs and outputs.

    Source: Burda et al., Exploration by Random Network Distillation, 2018 (https://arxiv.org/abs/1810.12894).
    """

    def __init__(self, target: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.target = target.requires_grad_(requires_grad=False)
        self.predictor = predictor

    @classmethod
    def of_numbers(cls, n_inputs: int, sizes: Sequence[int] = (256,), n_outputs: int = 256) -> RandomNetworkDistance:
        """That of two networks over rows of numbers.

        Args:
            n_inputs: Width of what comes in.
            sizes: Widths of the hidden layers.
            n_outputs: Width of what the networks make of it.
        """
        return cls(make_layers(n_inputs, sizes, n_outputs), make_layers(n_inputs, sizes, n_outputs))

    @classmethod
    def of_observations(
        cls, space: gym.Space[Any], sizes: Sequence[int] = (256,), n_outputs: int = 256
    ) -> RandomNetworkDistance:
        """That of two networks over observations, whose numbers are normalised.

        Args:
            space: Of the observations.
            sizes: Widths of the hidden layers behind the encoder.
            n_outputs: Width of what the networks make of them.
        """
        return cls(EncodedLayers(space, sizes, n_outputs), EncodedLayers(space, sizes, n_outputs))

    def forward(self, inputs: Tree) -> Tensor:
        """Mean squared differences of the outputs. `[N, ...]` per leaf to `[N]`"""
        with torch.no_grad():
            wanted = self.target(inputs)
        distance: Tensor = (self.predictor(inputs) - wanted).square().mean(1)
        return distance

    def update_normalization(self, observations: Tree) -> None:
        """Take observations into the statistics by which they are normalised. `[N, ...]` per leaf"""
        for network in (self.target, self.predictor):
            if isinstance(network, EncodedLayers):
                network.encoder.update_normalization(observations)


class EncodedLayers(nn.Module):
    """An encoder of observations, and layers behind it.

    Args:
        space: Of the observations.
        sizes: Widths of the hidden layers.
        n_outputs: Width of what comes out.
    """

    def __init__(self, space: gym.Space[Any], sizes: Sequence[int], n_outputs: int) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(space, normalize=True)
        self.layers = make_layers(self.encoder.n_features, sizes, n_outputs)

    def forward(self, observations: Tree) -> Tensor:
        """`[N, ...]` per leaf to `[N, n_outputs]`"""
        outputs: Tensor = self.layers(self.encoder(observations))
        return outputs


def make_layers(n_inputs: int, sizes: Sequence[int], n_outputs: int) -> nn.Module:
    """Hidden layers with rectified linear units, and a linear one behind them."""
    return nn.Sequential(MLP(n_inputs, sizes, nn.ReLU), nn.Linear(sizes[-1] if sizes else n_inputs, n_outputs))
