"""imitation's SQIL replay buffer on a Stable-Baselines3 whose samples have a field that may be empty.

Stable-Baselines3 2.7 gave `ReplayBufferSamples` a field `discounts`, which is None unless returns run over several
steps; the buffer of imitation 1.0.1 joins every field of its two halves as tensors and fails on it.

https://github.com/HumanCompatibleAI/imitation/blob/v1.0.1/src/imitation/algorithms/sqil.py
https://github.com/DLR-RM/stable-baselines3/pull/2144
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from imitation.algorithms import sqil
from imitation.util.util import split_in_half
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from typing_extensions import override

BROKEN_IN = ("1.0.0", "1.0.1")


def is_needed() -> bool:
    """Whether these two versions need the repair."""
    return version("imitation") in BROKEN_IN and "discounts" in ReplayBufferSamples._fields


class SQILReplayBuffer(sqil.SQILReplayBuffer):
    """The library's buffer: half of what it gives comes from the expert, whatever fields samples have."""

    @override
    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw a batch, the first half of it new, the second half the expert's. `[batch_size, ...]`"""
        if not is_needed():
            samples: ReplayBufferSamples = super().sample(batch_size, env)
            return samples
        n_new, n_expert = split_in_half(batch_size)
        new = ReplayBuffer.sample(self, n_new, env)
        expert = self.expert_buffer.sample(n_expert, env)
        halves: Any = zip(new, expert, strict=True)
        joined: Any = [None if one is None else torch.cat([one, two]) for one, two in halves]
        return ReplayBufferSamples(*joined)
