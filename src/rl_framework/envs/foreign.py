"""What the adapters of foreign vector environments share: bookkeeping, checks, state, and one way to fail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds
from rl_framework.core.spaces import check_supported, is_batch
from rl_framework.core.trees import Tree, copy_tree
from rl_framework.envs import masks
from rl_framework.envs import state as environment_state
from rl_framework.envs.batch import ActionReader, find_invalid_number
from rl_framework.envs.serial import check_state, stack_masks
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, RLFrameworkError, SpaceError


@dataclass(frozen=True, slots=True)
class ForeignStep:
    """One step of a foreign vector environment, in our terms.

    Attributes:
        observations: Those of finished rows belong to the next episode. `[B, ...]`
        rewards: `[B]`
        terminated: `[B]`
        truncated: `[B]`
        final: True last observation of each finished row.
        infos: Remarks on the step, one dict per row.
        masks: What the environments say in their infos on the choices allowed now, None where they say nothing.
    """

    observations: Tree
    rewards: npt.NDArray[Any]
    terminated: BoolArray
    truncated: BoolArray
    final: Mapping[int, Tree]
    infos: Sequence[Mapping[str, Any]]
    masks: Sequence[Any]


class ForeignVectorEnv(ABC):
    """A `VectorEnv` over a vector environment of another library, which stays its maker's to close.

    Such an environment opens its episodes by itself, so they cannot be seeded one by one.

    Args:
        spec: What is known about it.
        environments: The single environments where they can be reached and nothing stands between, else None.
    """

    def __init__(self, spec: EnvSpec, environments: Sequence[gym.Env[Any, Any]] | None) -> None:
        check_supported(spec.observation_space, "observation")
        check_supported(spec.action_space, "action")
        self._spec = replace(spec, seeds_episodes=False)
        self._has_mask_method = spec.has_action_masks
        self._environments = environments
        self._actions = ActionReader(spec.action_space, spec.n_envs)
        self._masks: BoolArray | None = None
        self._sent: Tree = None
        self._is_open = True
        self._totals = np.zeros(spec.n_envs)
        self._lengths = np.zeros(spec.n_envs, np.int64)
        self._seeds: list[int | None] = [None] * spec.n_envs
        self._observations: Tree = None

    @property
    def spec(self) -> EnvSpec:
        """What is known about the environments; masks that travel in infos are known after the first reset."""
        return self._spec

    @property
    def environments(self) -> Sequence[gym.Env[Any, Any]] | None:
        """The single environments, None where they cannot be reached from this process."""
        return self._environments

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions for the current observations. `[B, n]`"""
        return self._masks

    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every row. `[B, ...]`"""
        self._check_open()
        with self._failing():
            observations, self._seeds, given = self._reset(seed)
            self._totals[:], self._lengths[:], self._sent = 0.0, 0, None
            self._spec = replace(
                self._spec, has_action_masks=self._has_mask_method or all(mask is not None for mask in given)
            )
            return self._show(observations, given)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:  # noqa: ARG002  It is part of the protocol.
        """Not possible here.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            f"{type(self).__name__} opens its episodes by itself, so they cannot be seeded one by one. Pass the single "
            "environments, an id or a factory instead."
        )

    def send(self, actions: Tree) -> None:
        """Take the actions of one step. `[B, ...]`"""
        self._check_open()
        if self._observations is None:
            raise RLFrameworkError("These environments have no episode yet: call reset() first.")
        self._sent = self._actions.read(actions)

    def recv(self) -> VectorStep:
        """Step every row with the actions that were sent."""
        self._check_open()
        if self._sent is None:
            raise RLFrameworkError("recv() was called without send(actions) before it.")
        actions, self._sent = self._sent, None
        with self._failing():
            step = self._step(actions)
            rewards = np.array(step.rewards, dtype=np.float64)
            self._totals += rewards
            self._lengths += 1
            self._check_rewards(rewards)
            return VectorStep(
                episodes=tuple(self._summarise(row, step.infos[row]) for row in sorted(step.final)),
                observations=self._show(step.observations, step.masks),
                rewards=rewards,
                terminated=np.array(step.terminated, np.bool_),
                truncated=np.array(step.truncated, np.bool_),
                final={row: copy_tree(step.final[row]) for row in sorted(step.final)},
                infos=step.infos,
            )

    def get_state(self) -> EnvironmentState:
        """Where the environments are: exact if each can be reached and captured."""
        self._check_open()
        if self._environments is None:
            return EnvironmentState(level=StateLevel.APPROXIMATE, rows=(None,) * self._spec.n_envs)
        with self._failing():
            captured = [environment_state.capture(env) for env in self._environments]
        rows = [
            {
                "environment": tree,
                "total": float(self._totals[row]),
                "length": int(self._lengths[row]),
                "seed": self._seeds[row],
                "level": int(level),
                "mask": None if self._masks is None else self._masks[row].copy(),
            }
            for row, (level, tree) in enumerate(captured)
        ]
        observations = environment_state.plain_observation(self._observations, self._spec.observation_space)
        return EnvironmentState(
            level=min(level for level, _ in captured), rows=tuple({**row, "observations": observations} for row in rows)
        )

    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the environments back where that is possible, else open new episodes. `[B, ...]`"""
        check_state(state, self._spec.n_envs)
        if self._environments is None or state.rows[0] is None:
            return self.reset()
        if state.level is not StateLevel.EXACT:
            for env, row in zip(self._environments, state.rows, strict=True):
                environment_state.restore(env, row["environment"], strict=False)
            return self.reset()
        self.reset()
        with self._failing():
            for env, row in zip(self._environments, state.rows, strict=True):
                environment_state.restore(env, row["environment"])
        self._totals[:] = [row["total"] for row in state.rows]
        self._lengths[:] = [row["length"] for row in state.rows]
        self._seeds = [row["seed"] for row in state.rows]
        plain = state.rows[0]["observations"]
        observations = environment_state.observation_from_plain(plain, self._spec.observation_space)
        return self._show(observations, [row["mask"] for row in state.rows])

    def close(self) -> None:
        """Let go of the vector environment, which stays open."""
        self._is_open = False

    @abstractmethod
    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environments, row by row."""

    @abstractmethod
    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environments, row by row."""

    @abstractmethod
    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environments."""

    @abstractmethod
    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of one row, `[height, width, 3]`."""

    @abstractmethod
    def _reset(self, seed: int | None) -> tuple[Tree, list[int | None], Sequence[Any]]:
        """Reset all rows: observations, the rows' seeds, and what their infos say on masks."""

    @abstractmethod
    def _step(self, actions: Tree) -> ForeignStep:
        """Step all rows."""

    def _show(self, observations: Tree, given_masks: Sequence[Any]) -> Tree:
        if not is_batch(self._spec.observation_space, observations):
            raise SpaceError("the observations are not a batch of its observation space.")
        found = find_invalid_number(observations)
        if found is not None:
            raise InvalidNumberError(found[1], row=found[0], step=int(self._lengths[found[0]]))
        self._observations = copy_tree(observations)
        if self._spec.has_action_masks:
            self._masks = self._flat_masks(self.call(masks.METHOD) if self._has_mask_method else given_masks)
        return copy_tree(observations)

    def _flat_masks(self, given: Sequence[Any]) -> BoolArray:
        width = masks.mask_width(self._spec.action_space)
        if width is None:
            raise SpaceError(f"it gives action masks, but {self._spec.action_space} cannot be masked.")
        return stack_masks([None if mask is None else masks.flat_mask(mask, width) for mask in given])

    def _summarise(self, row: int, info: Mapping[str, Any]) -> EpisodeSummary:
        """Close the books of an episode that ended."""
        success = info.get("is_success")
        summary = EpisodeSummary(
            row=row,
            total_reward=float(self._totals[row]),
            length=int(self._lengths[row]),
            success=None if success is None else bool(success),
            seed=self._seeds[row],
        )
        self._totals[row], self._lengths[row], self._seeds[row] = 0.0, 0, None
        return summary

    def _check_rewards(self, rewards: npt.NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(rewards))
        if len(bad):
            row = int(bad[0])
            raise InvalidNumberError(f"the reward is {rewards[row]}", row=row, step=int(self._lengths[row]))

    def _check_open(self) -> None:
        if not self._is_open:
            raise RLFrameworkError("These environments are closed; open them anew.")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn what goes wrong in the foreign library into our failure; it does not tell which row it was."""
        try:
            yield
        except EnvironmentFailure:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise EnvironmentFailure(
                f"{type(self).__name__} raised {type(error).__name__}: {error} (it does not say in which of its "
                f"{self._spec.n_envs} rows).",
                row=0,
            ) from error


def seeds_of(seed: int | None, count: int) -> list[int | None]:
    """One seed per row, or none at all."""
    return [None] * count if seed is None else [*derive_seeds(seed, count)]
