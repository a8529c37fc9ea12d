"""Observations and actions as d3rlpy has them: vectors or channel-first images; vectors or numbers from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow
from rl_framework.errors import SpaceError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Translation:
    """Between the spaces of the recordings and d3rlpy. Nothing is copied on the way in; number types stay.

    Attributes:
        observation_space: A Box of one axis, or an image of three, whose channels come first or last.
        action_space: A Box of one axis, or Discrete.
    """

    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box | gym.spaces.Discrete

    @classmethod
    def between(cls, row: AlgorithmRow, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Translation:
        """The translation for an algorithm.

        Raises:
            SpaceError: The algorithm cannot learn in these spaces.
        """
        if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) not in (1, 3):
            raise SpaceError(
                f"d3rlpy learns from observations that are one vector or one image (a Box with one or three axes), got "
                f"{observation_space}. Wrap the environment before recording, e.g. in "
                "gymnasium.wrappers.FlattenObservation, or use a learner that takes any observation."
            )
        _check_actions(row, action_space)
        return cls(observation_space, action_space)  # type: ignore[arg-type]  # checked in the line above

    @property
    def is_discrete(self) -> bool:
        """Whether actions are numbered."""
        return isinstance(self.action_space, gym.spaces.Discrete)

    @property
    def is_image(self) -> bool:
        """Whether observations are images of bytes."""
        return len(self.observation_space.shape) == 3 and self.observation_space.dtype == np.uint8

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation on d3rlpy's side."""
        shape = self.observation_space.shape
        return (shape[2], *shape[:2]) if self._channels_last else shape

    @property
    def action_size(self) -> int:
        """Number of actions, or of entries of an action."""
        space = self.action_space
        return int(space.n) if isinstance(space, gym.spaces.Discrete) else space.shape[0]

    def observations(self, observations: Array) -> Array:
        """Observations on their way in. `[B, ...]`"""
        return np.moveaxis(observations, -1, 1) if self._channels_last else observations

    def recorded_actions(self, actions: Array) -> Array:
        """Recorded actions on their way in. `[T, ...]` to `[T, entries]`"""
        if isinstance(self.action_space, gym.spaces.Discrete):
            start = self.action_space.start
            return (actions - start if start else actions).reshape(-1, 1)
        return actions

    def actions(self, chosen: Array) -> Array:
        """Chosen actions on their way out, within the space. `[B, ...]`"""
        space = self.action_space
        if isinstance(space, gym.spaces.Discrete):
            return (chosen + space.start).astype(space.dtype)
        return np.clip(chosen, space.low, space.high).astype(space.dtype)

    @property
    def _channels_last(self) -> bool:
        """The axis of the channels is the shortest."""
        shape = self.observation_space.shape
        return len(shape) == 3 and int(np.argmin(shape)) == 2


def _check_actions(row: AlgorithmRow, space: gym.Space[Any]) -> None:
    is_vector = isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
    is_discrete = isinstance(space, gym.spaces.Discrete)
    if is_discrete if row.discrete else is_vector:
        return
    wanted = "numbered actions (Discrete)" if row.discrete else "vectors of real numbers (a Box with one axis)"
    hint = f" For these actions d3rlpy has {row.instead}." if is_discrete or is_vector else ""
    raise SpaceError(f"{row.name} chooses {wanted}, the action space is {space}.{hint}")
