"""Bit-flipping: flip bits, one per step, until they equal the goal; hopeless without hindsight for many bits.

Source: Andrychowicz et al., Hindsight Experience Replay, 2017 (https://arxiv.org/abs/1707.01495), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.goal_rewards import MatchReward
from rl_framework.envs.goal_tasks.goal_task import GoalTask
from rl_framework.envs.tensor_env import Device
from rl_framework.errors import InvalidInputError

_N_BITS = 12


class BitFlipping(GoalTask):
    """n bits, of which an action flips one; the reward is 0 where they equal the goal, -1 elsewhere.

    Args:
        n_envs: Number of rows, B.
        n_bits: How many bits, and actions.
        max_episode_steps: Steps after which an episode is truncated; as many as there are bits for None.
        first_visit: Whether an episode ends, as a terminated one, as soon as the goal is achieved.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        n_bits: int = _N_BITS,
        *,
        max_episode_steps: int | None = None,
        first_visit: bool = True,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if type(n_bits) is not int or n_bits < 1:
            raise InvalidInputError(f"Expected n_bits to be a whole number of at least 1, got {n_bits!r}.")
        self.n_bits = n_bits
        is_default = (n_bits, max_episode_steps, first_visit) == (_N_BITS, None, True)
        super().__init__(
            n_envs,
            spaces.Box(0.0, 1.0, (n_bits,), np.float32),
            spaces.Discrete(n_bits),
            goal_reward=MatchReward(),
            first_visit=first_visit,
            max_episode_steps=n_bits if max_episode_steps is None else max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="rl_framework/BitFlipping-v0" if is_default else None,
        )

    @override
    def initial_state(self, n_rows: int) -> dict[str, Tensor]:
        return {"place": self._random_bits(n_rows), "goal": self._random_bits(n_rows)}

    @override
    def advance(
        self, state: Mapping[str, Tensor], actions: Tensor
    ) -> tuple[Mapping[str, Tensor], Tensor, Tensor | None]:
        bits, chosen = state["place"], actions.long().unsqueeze(1)
        try:
            flipped = bits.scatter(1, chosen, 1.0 - bits.gather(1, chosen))
        except RuntimeError as error:
            raise InvalidInputError(
                f"Expected actions of {self.spec.action_space}, got {actions.min()} to {actions.max()}."
            ) from error
        return self.judge({"place": flipped, "goal": state["goal"]})

    def _random_bits(self, n_rows: int) -> Tensor:
        return torch.randint(2, (n_rows, self.n_bits), generator=self.generator, device=self.device, dtype=self.dtype)
