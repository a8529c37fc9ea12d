"""The repair of SQIL's replay buffer, and how long it is needed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from imitation.algorithms import sqil
from imitation.data.types import Transitions
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from rl_framework.compat import imitation_sqil
from rl_framework.compat.imitation_sqil import SQILReplayBuffer, is_needed

OBSERVATIONS = gym.spaces.Box(-10, 10, (1,))
ACTIONS = gym.spaces.Discrete(2)


def filled(buffer_class: type[sqil.SQILReplayBuffer]) -> sqil.SQILReplayBuffer:
    """Twenty transitions of the expert's at 5, twenty new ones at -5."""
    expert = Transitions(
        obs=np.full((20, 1), 5.0, dtype=np.float32),
        acts=np.ones(20, dtype=np.int64),
        next_obs=np.full((20, 1), 5.0, dtype=np.float32),
        dones=np.zeros(20, dtype=np.bool_),
        infos=np.array([{}] * 20),
    )
    buffer = buffer_class(50, OBSERVATIONS, ACTIONS, expert, device="cpu")
    new = np.full((1, 1), -5.0, dtype=np.float32)
    for _ in range(20):
        buffer.add(new, new, np.zeros((1, 1)), np.ones(1), np.zeros(1), [{}])
    return buffer


def test_the_library_s_own_buffer_still_fails() -> None:
    # Once this fails, the repair is no longer needed: remove compat/imitation_sqil.py and derive from the library's.
    assert is_needed()
    with pytest.raises(TypeError, match="expected Tensor as element 0"):
        filled(sqil.SQILReplayBuffer).sample(8)


def test_half_of_a_batch_is_the_expert_s() -> None:
    samples = filled(SQILReplayBuffer).sample(9)
    assert samples.observations.flatten().tolist() == [-5.0] * 4 + [5.0] * 5
    assert samples.rewards.flatten().tolist() == [0.0] * 4 + [1.0] * 5
    assert samples.actions.flatten().tolist() == [0] * 4 + [1] * 5
    assert samples.discounts is None


def test_fields_with_content_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = filled(SQILReplayBuffer)

    def with_discounts(self: Any, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        column = torch.full((batch_size, 1), 0.5)
        return ReplayBufferSamples(column, column, column, column, column, discounts=column)

    monkeypatch.setattr("stable_baselines3.common.buffers.ReplayBuffer.sample", with_discounts)
    discounts = buffer.sample(6).discounts
    assert discounts is not None
    assert discounts.flatten().tolist() == [0.5] * 6


def test_steps_aside_for_versions_that_need_no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imitation_sqil, "version", lambda name: "1.1.0")
    assert not is_needed()
    with pytest.raises(TypeError, match="expected Tensor as element 0"):
        filled(SQILReplayBuffer).sample(8)


def test_the_library_itself_is_not_changed() -> None:
    assert sqil.SQILReplayBuffer.__module__ == "imitation.algorithms.sqil"
    assert SQILReplayBuffer.__mro__[1] is sqil.SQILReplayBuffer
