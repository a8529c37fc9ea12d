"""Models of a few weights, with and without memory, that give everything a model can give."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.model import Model, ModelOutput
from tests.rollouts.counting_env import OBSERVATIONS

SCALE = 0.1


class TinyModel(Model):
    """A layer for the actions and one for the value, with the value shared or apart.

    Args:
        separate: Whether values are said to cost less apart.
    """

    def __init__(self, *, separate: bool = False, seed: int = 0, action_space: gym.Space[Any] | None = None) -> None:
        super().__init__(OBSERVATIONS, action_space or spaces.Discrete(3))
        self.separate = separate
        self.policy_layer, self.value_layer = nn.Linear(3, 3), nn.Linear(3, 1)
        randomize(self, seed)

    @property
    def has_separate_values(self) -> bool:
        return self.separate

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        acting = self.act(observations, state, masks)
        return ModelOutput(acting.distribution, self.values(observations), None, acting.extras)

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        logits = self.policy_layer(observations * SCALE)
        masked = logits if masks is None else logits.masked_fill(~masks, -1e8)
        return ModelOutput(Categorical(masked), None, None, {"logits": logits})

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        values: Tensor = self.value_layer(observations * SCALE).squeeze(1)
        return values


class TinyRecurrent(Model):
    """A GRU between observation and layers; its memory begins with learned, non-zero numbers."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(OBSERVATIONS, spaces.Discrete(3))
        self.cell = nn.GRUCell(3, 4)
        self.begin = nn.Parameter(torch.zeros(4))
        self.policy_layer, self.value_layer = nn.Linear(4, 3), nn.Linear(4, 1)
        randomize(self, seed)

    def initial_state(self, n_rows: int) -> Tree:
        return {"hidden": self.begin.expand(n_rows, 4), "age": torch.zeros(n_rows, dtype=torch.int64)}

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        hidden = self.cell(observations * SCALE, state["hidden"])
        age = state["age"] + 1
        value = self.value_layer(hidden).squeeze(1)
        distribution = Categorical(self.policy_layer(hidden))
        return ModelOutput(distribution, value, {"hidden": hidden, "age": age}, {"age": age.float()})


def randomize(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    """Of a loss, for each of the model's parameters; zeros where it does not depend on one."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return list(found)
