"""Replay buffers for SQIL: half of every batch is the expert's.

Source: Reddy, Dragan, Levine 2019, https://arxiv.org/abs/1905.11108
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from typing_extensions import override

from rl_framework.compat.imitation_sqil import SQILReplayBuffer

EXPERT_REWARD = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertTransitions:
    """What an expert did, each observation once.

    Attributes:
        observations: Those of all episodes one after the other, last ones included; N transitions of E episodes.
            `[N + E, ...]`
        actions: In the units of the replay buffer. `[N, ...]`
        places: Where each transition's observation stands; the next one stands one further. `[N]`
        dones: Whether the task ended; false where a recording was cut. `[N]`
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    places: npt.NDArray[np.int64]
    dones: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of transitions, N."""
        return len(self.places)


class ExpertReplay(BaseBuffer):
    """A full buffer of the expert's transitions, all of them worth the same reward. Nothing is ever added."""

    def __init__(
        self,
        transitions: ExpertTransitions,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: torch.device | str,
    ) -> None:
        super().__init__(len(transitions), observation_space, action_space, device)
        self.transitions = transitions
        self.full = True

    @override
    def _get_samples(self, batch_inds: npt.NDArray[Any], env: VecNormalize | None = None) -> ReplayBufferSamples:
        content, places = self.transitions, self.transitions.places[batch_inds]
        columns: tuple[Any, ...] = (
            self._normalize_obs(content.observations[places], env),
            content.actions[batch_inds],
            self._normalize_obs(content.observations[places + 1], env),
            content.dones[batch_inds].astype(np.float32)[:, None],
            np.full((len(batch_inds), 1), EXPERT_REWARD, dtype=np.float32),
        )
        return ReplayBufferSamples(*(self.to_torch(np.asarray(column)) for column in columns))


class DemonstratedReplayBuffer(SQILReplayBuffer):
    """The library's buffer, made without demonstrations and filled with them before training.

    Time limits are told from endings, as they are in the demonstrations; the library takes both for endings. With
    `optimize_memory_usage` there is no room for the difference, and it is as in the library.
    """

    def __init__(  # noqa: PLR0917  (Stable-Baselines3 gives the first four by position)
        self,
        buffer_size: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
    ) -> None:
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            demonstrations=None,  # type: ignore[arg-type]  # they come later
            device=device,
            n_envs=n_envs,
            optimize_memory_usage=optimize_memory_usage,
        )
        self.handle_timeout_termination = not optimize_memory_usage

    @override
    def set_demonstrations(self, demonstrations: ExpertTransitions | None) -> None:  # type: ignore[override]  # arrays instead of the library's objects
        """Take up the expert's transitions; None lets go of them."""
        if demonstrations is None:
            vars(self).pop("expert_buffer", None)
        else:
            self.expert_buffer = ExpertReplay(  # type: ignore[assignment]  # it gives the same samples
                demonstrations, self.observation_space, self.action_space, self.device
            )
