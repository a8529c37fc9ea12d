"""The functions of a learner that are captured, and what has to be put back where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.algorithms.cuda_graphs import CapturedFunction, GraphBackend
from rl_framework.algorithms.learner_snapshot import LearnerSnapshot
from rl_framework.envs.tensor_env import TensorEnv


class LearnerGraphs:
    """Makes captured functions of a learner's own.

    Args:
        learner: What to call the learner in warnings.
        backend: What captures and replays.
        model: Whose weights and statistics the functions change.
        optimizer: Whose state they change.
        generator: What they draw from.
    """

    def __init__(
        self,
        learner: str,
        backend: GraphBackend,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        self._learner = learner
        self._backend = backend
        self._model = model
        self._optimizer = optimizer
        self._generator = generator
        self._captured: list[CapturedFunction[Any]] = []

    def capture_acting(self, function: Callable[..., Any], what: str, env: TensorEnv) -> CapturedFunction[Any]:
        """A function that steps environments, captured when it has been called a few times."""
        generators = (self._generator, *env.generators)
        snapshot = partial(LearnerSnapshot, self._model, self._optimizer, generators, env)
        return self._keep(function, what, generators=generators, snapshot=snapshot)

    def capture_learning(self, function: Callable[..., Any], what: str) -> CapturedFunction[Any]:
        """A function that learns from what it is given, captured when it has been called a few times.

        Its arguments are results of other captured functions, or otherwise of no use to anybody but the learner.
        """
        generators = (self._generator,)
        snapshot = partial(LearnerSnapshot, self._model, self._optimizer, generators)
        return self._keep(function, what, generators=generators, snapshot=snapshot, adopts=True)

    def number(self, value: float) -> Tensor:
        """A number that changes between calls, in the form in which a captured function can be given it. `[]`"""
        return torch.full((), value, device=self._backend.device)

    def forget(self) -> None:
        """Capture everything anew: the learner's tensors have moved."""
        for captured in self._captured:
            captured.forget()

    def _keep(self, function: Callable[..., Any], what: str, **options: Any) -> CapturedFunction[Any]:
        captured = CapturedFunction(function, f"The {what} of {self._learner}", self._backend, **options)
        self._captured.append(captured)
        return captured
