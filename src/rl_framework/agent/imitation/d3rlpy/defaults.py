"""Scaling: what is taken where the user gave none, and how it is fitted to the recordings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.agent.imitation.d3rlpy.batches import Batches
from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow
from rl_framework.agent.imitation.d3rlpy.translation import Array, Translation
from rl_framework.compat.d3rlpy import import_d3rlpy


def fitted_config(
    row: AlgorithmRow, config: Any, given: Collection[str], translation: Translation, batches: Batches
) -> Any:
    """A copy of the configuration with scalers that are ready for use.

    d3rlpy's actors choose within -1 and 1, so actions are scaled from the bounds of their space, or from the recorded
    ones where the space has no bounds. Images of bytes are scaled to 0 and 1. An `action_scaler` or
    `observation_scaler` among the parameters, None included, is used instead.

    Args:
        row: The algorithm.
        config: Its configuration.
        given: Names of the parameters that the user gave.
        translation: Between the recordings and d3rlpy.
        batches: The recordings.
    """
    preprocessing = import_d3rlpy().preprocessing
    chosen = {}
    if "action_scaler" not in given and isinstance(translation.action_space, gym.spaces.Box):
        low, high = _bounds(translation.action_space, batches)
        if np.any(low != -1) or np.any(high != 1):
            chosen["action_scaler"] = preprocessing.MinMaxActionScaler(minimum=low, maximum=high)
    if "observation_scaler" not in given and translation.is_image:
        chosen["observation_scaler"] = preprocessing.PixelObservationScaler()
    fitted = dataclasses.replace(copy.deepcopy(config), **chosen)
    for scaler in (fitted.observation_scaler, fitted.action_scaler, fitted.reward_scaler):
        if scaler is not None and not scaler.built:
            _fit(row, scaler, batches)
    return fitted


def _fit(row: AlgorithmRow, scaler: Any, batches: Batches) -> None:
    if row.is_transformer:
        scaler.fit_with_trajectory_slicer(batches.episodes, batches.trajectory_slicer)
    else:
        scaler.fit_with_transition_picker(batches.episodes, batches.transition_picker)


def _bounds(space: gym.spaces.Box, batches: Batches) -> tuple[Array, Array]:
    """Where the scale begins and ends, entry by entry; never the same."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        recorded = [(episode.actions.min(axis=0), episode.actions.max(axis=0)) for episode in batches.episodes]
        low = np.where(np.isfinite(low), low, np.min([least for least, _ in recorded], axis=0))
        high = np.where(np.isfinite(high), high, np.max([most for _, most in recorded], axis=0))
    is_constant = low == high
    return np.where(is_constant, low - 1, low), np.where(is_constant, high + 1, high)
