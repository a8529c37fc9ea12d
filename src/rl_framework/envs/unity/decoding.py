"""A player's messages as ML-Agents' own records: who asks for a decision, and whose episode ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.unity_observations import Float32Array, stacked_observations
from rl_framework.envs.unity.package import BehaviorSpec, DecisionSteps, TerminalSteps
from rl_framework.errors import InvalidInputError


class NotFiniteError(ValueError):
    """A number in a message is NaN or infinite."""


def steps_of(infos: Sequence[Any], spec: BehaviorSpec) -> tuple[DecisionSteps, TerminalSteps]:
    """Who asks for a decision and whose episode ended.

    Args:
        infos: The agents' messages of one behaviour.
        spec: What that behaviour announced.

    Raises:
        InvalidInputError: An observation or a mask does not have the announced shape.
        NotFiniteError: A reward or an observation is NaN or infinite.
    """
    asking = [info for info in infos if not info.done]
    ended = [info for info in infos if info.done]
    decisions = DecisionSteps(
        _observations(asking, spec),
        _rewards(asking, "reward"),
        np.array([info.id for info in asking], dtype=np.int32),
        _masks(asking, spec.action_spec.discrete_branches),
        np.array([info.group_id for info in asking], dtype=np.int32),
        _rewards(asking, "group_reward"),
    )
    terminals = TerminalSteps(
        _observations(ended, spec),
        _rewards(ended, "reward"),
        np.array([info.max_step_reached for info in ended], dtype=np.bool_),
        np.array([info.id for info in ended], dtype=np.int32),
        np.array([info.group_id for info in ended], dtype=np.int32),
        _rewards(ended, "group_reward"),
    )
    return decisions, terminals


def _observations(infos: list[Any], spec: BehaviorSpec) -> list[Float32Array]:
    return [_sensor(infos, index, sensor) for index, sensor in enumerate(spec.observation_specs)]


def _sensor(infos: list[Any], index: int, sensor: Any) -> Float32Array:
    if not infos:
        return np.zeros((0, *sensor.shape), dtype=np.float32)
    try:
        found = stacked_observations([info.observations[index] for info in infos], sensor.shape)
    except (InvalidInputError, IndexError) as error:
        raise InvalidInputError(f"sensor {sensor.name!r}: {error}") from error
    if not np.isfinite(found).all():
        bad = [info.id for info, row in zip(infos, found, strict=True) if not np.isfinite(row).all()]
        raise NotFiniteError(f"sensor {sensor.name!r} gave NaN or an infinite number for the agents {bad}")
    return found


def _rewards(infos: list[Any], field: str) -> Float32Array:
    found = np.array([getattr(info, field) for info in infos], dtype=np.float32)
    if not np.isfinite(found).all():
        bad = [info.id for info, value in zip(infos, found, strict=True) if not np.isfinite(value)]
        raise NotFiniteError(f"{field} is NaN or infinite for the agents {bad}")
    return found


def _masks(infos: list[Any], branches: tuple[int, ...]) -> list[npt.NDArray[np.bool_]] | None:
    """One `[n, branch]` array per branch, True where a choice is forbidden; None where nothing is."""
    if not branches or not any(len(info.action_mask) for info in infos):
        return None
    flat = np.zeros((len(infos), sum(branches)), dtype=np.bool_)
    for row, info in zip(flat, infos, strict=True):
        if len(info.action_mask):
            if len(info.action_mask) != len(row):
                raise InvalidInputError(f"expected a mask of {len(row)} choices, got {len(info.action_mask)}")
            row[:] = info.action_mask
    return np.split(flat, np.cumsum(branches)[:-1], axis=1)
