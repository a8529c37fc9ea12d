"""Vector environments over another one that belongs to somebody else: everything but closing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, ReportsStatistics, VectorEnv, VectorStep


class ForwardingVectorEnv:
    """Passes every verb on, except `close`: the environments belong to whoever opened them. Subclasses change some.

    Attributes:
        lender: The other one.
    """

    def __init__(self, lender: VectorEnv) -> None:
        self.lender = lender

    @property
    def spec(self) -> EnvSpec:
        """See `VectorEnv`."""
        return self.lender.spec

    @property
    def action_masks(self) -> BoolArray | None:
        """See `VectorEnv`."""
        return self.lender.action_masks

    def reset(self, seed: int | None = None) -> Tree:
        """See `VectorEnv`."""
        return self.lender.reset(seed)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """See `VectorEnv`."""
        return self.lender.reset_to_schedule(seeds)

    def send(self, actions: Tree) -> None:
        """See `VectorEnv`."""
        self.lender.send(actions)

    def recv(self) -> VectorStep:
        """See `VectorEnv`."""
        return self.lender.recv()

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """See `VectorEnv`."""
        return self.lender.call(name, *arguments, rows=rows, **options)

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """See `VectorEnv`."""
        return self.lender.get_attribute(name, rows)

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """See `VectorEnv`."""
        self.lender.set_attribute(name, value, rows)

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """See `VectorEnv`."""
        return self.lender.render(row)

    def get_state(self) -> EnvironmentState:
        """See `VectorEnv`."""
        return self.lender.get_state()

    def set_state(self, state: EnvironmentState) -> Tree:
        """See `VectorEnv`."""
        return self.lender.set_state(state)

    def drain_statistics(self) -> Mapping[str, float]:
        """See `ReportsStatistics`; nothing where the environments report none."""
        return self.lender.drain_statistics() if isinstance(self.lender, ReportsStatistics) else {}

    def close(self) -> None:
        """Leave the environments open."""


class BorrowedVectorEnv(ForwardingVectorEnv):
    """Another one as it is; who looks for what is behind a vector environment may look through this one."""
