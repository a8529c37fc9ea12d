"""Stands where environments will be: an algorithm that only acts knows their spaces and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, VectorEnv, VectorStep
from rl_framework.errors import RLFrameworkError


class DetachedEnv(VectorEnv):
    """A `VectorEnv` that has a spec and no environments: every verb but `close` raises `RLFrameworkError`."""

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> EnvSpec:
        """What the environments would be."""
        return self._spec

    @property
    def action_masks(self) -> BoolArray | None:
        """Raises."""
        _refuse()

    @override
    def reset(self, seed: int | None = None) -> Tree:
        """Raises."""
        _refuse()

    @override
    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Raises."""
        _refuse()

    @override
    def send(self, actions: Tree) -> None:
        """Raises."""
        _refuse()

    def recv(self) -> VectorStep:
        """Raises."""
        _refuse()

    @override
    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Raises."""
        _refuse()

    @override
    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Raises."""
        _refuse()

    @override
    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Raises."""
        _refuse()

    @override
    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """Raises."""
        _refuse()

    def get_state(self) -> EnvironmentState:
        """Raises."""
        _refuse()

    @override
    def set_state(self, state: EnvironmentState) -> Tree:
        """Raises."""
        _refuse()

    def close(self) -> None:
        """There is nothing to close."""


def _refuse() -> NoReturn:
    raise RLFrameworkError("There are no environments here, only their spaces. Train the agent to give it some.")
