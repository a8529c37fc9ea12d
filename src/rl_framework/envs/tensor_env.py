"""Environments that are batched tensors on a device: no array per row, no trip to the host.

A `TensorEnv` plays B episodes at once. Rows whose episode ends go on with their next one in the same step; what they
saw last is in `TensorStep.final`. `SimulatedTask` (`envs.tensor_task`) writes such an environment from three
functions. `VectorTensorEnv` and `TensorVectorEnv` translate between tensors and the arrays of `VectorEnv`, in both
directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError

Device: TypeAlias = str | torch.device


@dataclass(frozen=True, slots=True)
class TensorStep:
    """What one step gave, as tensors on the environment's device.

    Tensors are the caller's to keep: the next step does not write into them.

    Attributes:
        observations: Those of rows whose episode ended are the first of their next episode. `[B, ...]` per leaf
        rewards: `[B]`, float32
        terminated: The task ended: nothing follows, do not bootstrap. `[B]`, bool
        truncated: The episode was cut (a time limit): bootstrap from `final`. Never where `terminated`. `[B]`, bool
        final: What really followed, for every row: equal to `observations` where no episode ended. None where the
            host knows that none did. `[B, ...]` per leaf
        episodes: Summaries of the episodes that ended, where the host keeps the books; None where whoever samples
            has to derive them from rewards and ends.
    """

    observations: Tree
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    final: Tree | None
    episodes: tuple[EpisodeSummary, ...] | None = None


class TensorEnv(ABC):
    """B environments that are stepped together, as tensors on one device.

    Attributes:
        spec: What is known before the first step.
        device: Where all tensors are, those of the actions included.
        can_truncate: Whether an episode may be cut; otherwise `truncated` is always False.
        is_capturable: Whether `step`, and `reset` without a seed, never wait for the host and always do the same
            work, so that a CUDA graph can hold them.
    """

    spec: EnvSpec
    device: torch.device
    can_truncate: bool = True
    is_capturable: bool = False

    @property
    def n_envs(self) -> int:
        """Number of rows, B."""
        return self.spec.n_envs

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """The environment's own random generators, which a CUDA graph that holds its steps has to know."""
        return ()

    @property
    def action_masks(self) -> Tensor | None:
        """Allowed choices for the current observations, None without masks. `[B, n]`, bool"""
        return None

    def successes(self, observations: Tree) -> Tensor | None:  # noqa: ARG002  (for tasks that know)
        """Whether an episode that ends with these observations was a success; None where the task does not say.

        Args:
            observations: The last ones of episodes. `[N, ...]` per leaf

        Returns:
            `[N]`, bool
        """
        return None

    @abstractmethod
    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tree:
        """Open an episode in every row. `[B, ...]` per leaf

        Args:
            seed: Starts the environment's own generator anew; it runs on for None.
            options: What the episodes from now on shall be like (domain randomisation, a curriculum).

        Raises:
            UnknownOptionError: An option that the environment does not have.
        """

    @abstractmethod
    def step(self, actions: Tree) -> TensorStep:
        """One step in every row; rows whose episode ends start their next one.

        Args:
            actions: In the form of the action space, not that of a distribution. `[B, ...]` per leaf

        Raises:
            InvalidInputError: Actions of another shape, type or device.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, bit for bit: tensors, numbers and dicts of them."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> Tree:
        """Go on where `state_dict` was taken, and give the observations of that moment. `[B, ...]` per leaf

        Raises:
            InvalidInputError: The state of another environment, or of another number of rows.
        """

    @abstractmethod
    def with_n_envs(self, n_envs: int) -> TensorEnv:
        """A fresh environment like this one with another number of rows.

        Raises:
            InvalidInputError: There cannot be so many.
        """

    def with_device(self, device: Device) -> TensorEnv:
        """A fresh environment like this one on another device.

        Raises:
            InvalidInputError: It cannot be moved.
        """
        raise InvalidInputError(f"{type(self).__name__} cannot be moved from {self.device} to {device}.")

    def close(self) -> None:
        """Free what this object opened. Calling it twice is fine."""
        return


def settled_device(device: Device) -> torch.device:
    """A device with its index, as tensors on it name it: `cuda` is `cuda:0` or whichever is the current one.

    Raises:
        InvalidInputError: There is no such device here.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInputError(
            f"There is no device {str(device)!r} here: {reason} Choose 'cpu', or 'auto'."
        ) from error


def as_tensor_env(env: TensorEnv | VectorEnv, device: Device) -> TensorEnv:
    """The same environments with tensors on a device; the one place where arrays become tensors.

    Args:
        env: What is stepped. A `TensorEnv` is given back as it is, also one behind a `TensorVectorEnv`; one that was
            opened by its name goes to the device first.
        device: Where the tensors shall be.

    Raises:
        InvalidInputError: A `TensorEnv` of the caller's on another device, or no such device.
    """
    from rl_framework.envs.tensor_vector_env import TensorVectorEnv
    from rl_framework.envs.vector_tensor_env import VectorTensorEnv

    wanted = settled_device(device)
    while isinstance(env, BorrowedVectorEnv):
        env = env.lender
    if isinstance(env, TensorVectorEnv):
        env = env.tensor_env_on(wanted)
    if not isinstance(env, TensorEnv):
        return VectorTensorEnv(env, wanted)
    if settled_device(env.device) != wanted:
        raise InvalidInputError(
            f"{type(env).__name__} keeps its tensors on {env.device}, the learner wants them on {wanted}. Make the "
            f"environment with device={str(wanted)!r}, or choose device={str(env.device)!r} for the learner."
        )
    return env
