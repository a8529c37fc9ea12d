"""Everything that a rollout or an update changes, to go back to after an attempt that does not count."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from rl_framework.algorithms.good_weights import GoodWeights
from rl_framework.core.seeding import capture_random_state, restore_random_state
from rl_framework.envs.tensor_env import TensorEnv


class LearnerSnapshot:
    """A learner as it is now.

    Args:
        model: Its weights and statistics.
        optimizer: Its state.
        generators: Their states; those of the process's own generators are kept as well.
        env: Its state; None where it is not touched.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        generators: Sequence[torch.Generator],
        env: TensorEnv | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._weights = GoodWeights(model, optimizer)
        self._env = env
        self._env_state = None if env is None else deepcopy(env.state_dict())
        self._generators = [(generator, generator.get_state()) for generator in generators]
        self._random_state = capture_random_state()

    def put_back(self) -> None:
        """Make the learner what it was, in the memory in which it is; gradients are forgotten."""
        self._weights.put_back()
        self._optimizer.zero_grad()
        if self._env is not None and self._env_state is not None:
            self._env.load_state_dict(self._env_state)
        for generator, state in self._generators:
            generator.set_state(state)
        restore_random_state(self._random_state)
