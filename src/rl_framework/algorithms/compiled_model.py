"""A model whose passes are compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.core.trees import Tree
from rl_framework.nn.model import Model, ModelOutput


class CompiledModel(Model):
    """The same model, with the same weights, whose passes go through `torch.compile`.

    The model itself stays as it is, so that it can be saved, copied and asked for single observations.

    Args:
        model: What is compiled, when it is first called.
        backend: As `torch.compile` takes it.
    """

    def __init__(self, model: Model, backend: str = "inductor") -> None:
        super().__init__(model.observation_space, model.action_space)
        self.model = model
        compiled: dict[str, Any] = {"backend": backend, "dynamic": False}
        self._step = torch.compile(model.step, **compiled)
        self._act = torch.compile(model.act, **compiled)
        self._values = torch.compile(model.values, **compiled)
        self._unroll = torch.compile(model.unroll, **compiled)

    @property
    def has_memory(self) -> bool:
        """As the model."""
        return self.model.has_memory

    @property
    def has_separate_values(self) -> bool:
        """As the model."""
        return self.model.has_separate_values

    def initial_state(self, n_rows: int) -> Tree:
        """As the model."""
        return self.model.initial_state(n_rows)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """As the model, compiled."""
        return self._step(observations, state, masks)

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """As the model, compiled."""
        return self._act(observations, state, masks)

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        """As the model, compiled."""
        return self._values(observations, state)

    def unroll(self, observations: Tree, state: Tree, starts: Tensor, masks: Tensor | None = None) -> ModelOutput:
        """As the model, compiled."""
        return self._unroll(observations, state, starts, masks)

    def environment_actions(self, targets: Tree) -> Tree:
        """As the model."""
        return self.model.environment_actions(targets)

    def targets(self, actions: Tree) -> Tree:
        """As the model."""
        return self.model.targets(actions)
