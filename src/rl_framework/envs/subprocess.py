"""A process per environment: worth its way to and fro where a step takes longer than about a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.seeding import derive_seeds
from rl_framework.core.spaces import check_equal, check_supported
from rl_framework.core.trees import Tree, copy_tree, map_tree
from rl_framework.envs.batch import ActionReader
from rl_framework.envs.crew import Crew
from rl_framework.envs.messages import STEP, StepRemarks, unpack
from rl_framework.envs.serial import check_schedule, check_state, selected_rows
from rl_framework.envs.shared_memory import SharedArrays, create_shared_file, map_shared_file, remove_file
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError

Factory = Callable[[], gym.Env[Any, Any]]


class SubprocessVectorEnv:
    """A `VectorEnv` that steps each row in a process of its own.

    The processes start as fresh interpreters, so that a script needs no `if __name__ == "__main__"`; factories, and
    classes defined in the script, travel by value. Observations, rewards, flags and actions go through shared
    memory. When this process ends, however it does, the others end, too.

    Args:
        factories: One per row; each makes an environment, with equal spaces.
        timeout: Seconds until an environment that does not answer is taken for hung. Making the environments may
            take a minute in any case.

    Raises:
        InvalidInputError: A factory cannot be sent to another process.
        SpaceError: The environments' spaces differ or are not supported.
        EnvironmentFailure: An environment cannot be made.
    """

    def __init__(self, factories: Sequence[Factory], timeout: float = 60.0) -> None:
        packed = [_pack_factory(factory, row) for row, factory in enumerate(factories)]
        self._first_factory = packed[0]
        self._crew = Crew(len(packed), timeout)
        self._left_over: Path | None = None
        try:
            specs: list[EnvSpec] = self._crew.ask_each("make", [(one,) for one in packed], timeout=max(timeout, 60.0))
            self._spec = replace(_common_spec(specs), n_envs=len(packed))
            self._shared = self._share()
        except BaseException:
            self._crew.dismiss()
            raise
        self._actions = ActionReader(self._spec.action_space, len(packed))
        self._masks: BoolArray | None = None
        self._is_reset = False
        self._is_sent = False

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the workers, row by row."""
        return self._crew.process_ids

    @property
    def spec(self) -> EnvSpec:
        """What is known about the environments; masks that travel in infos are known after the first reset."""
        return self._spec

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions for the current observations. `[B, n]`"""
        return self._masks

    def make_another(self) -> gym.Env[Any, Any]:
        """An environment like that of the first row, in this process; closing it is up to the caller."""
        env: gym.Env[Any, Any] = unpack(self._first_factory)()
        return env

    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every row. `[B, ...]`"""
        count = self._spec.n_envs
        seeds = [None] * count if seed is None else derive_seeds(seed, count)
        return self._start("reset", seeds)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Open an episode in every row, which plays its seeds one by one and then rests. `[B, ...]`"""
        check_schedule(seeds, self._spec.n_envs)
        return self._start("reset_to_schedule", [[int(seed) for seed in row] for row in seeds])

    def send(self, actions: Tree) -> None:
        """Start one step in every row. `[B, ...]`"""
        self._check_usable()
        if self._is_sent:
            raise RLFrameworkError("send(actions) was called twice without recv() in between.")
        map_tree(np.copyto, self._shared.actions, self._actions.read(actions))
        self._crew.tell_all(STEP)
        self._is_sent = True

    def recv(self) -> VectorStep:
        """Wait for the step that `send` started."""
        self._check_usable()
        if not self._is_sent:
            raise RLFrameworkError("recv() was called without send(actions) before it.")
        self._is_sent = False
        remarks: list[StepRemarks | None] = self._crew.hear_all()
        self._refresh_masks()
        ended = {row: one for row, one in enumerate(remarks) if one is not None and one.summary is not None}
        batch = self._shared.batch
        return VectorStep(
            observations=copy_tree(batch.observations),
            rewards=batch.rewards.copy(),
            terminated=batch.terminated.copy(),
            truncated=batch.truncated.copy(),
            final={row: one.final for row, one in ended.items()},
            infos=[{} if one is None else one.info for one in remarks],
            episodes=tuple(one.summary for one in ended.values() if one.summary is not None),
        )

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environments, all rows at once."""
        return self._ask("call", (name, arguments, options), rows)

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environments, row by row; what comes is a copy."""
        return self._ask("get_attribute", (name,), rows)

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environments."""
        self._ask("set_attribute", (name, value), rows)

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of one row, `[height, width, 3]`."""
        picture: npt.NDArray[np.uint8] | None = self._ask("render", (), [row])[0]
        return picture

    def get_state(self) -> EnvironmentState:
        """Where the environments are."""
        self._check_usable()
        captured = self._ask("get_state", (), None)
        return EnvironmentState(
            level=min((level for level, _ in captured), default=StateLevel.EXACT),
            rows=tuple(tree for _, tree in captured),
        )

    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the environments back. `[B, ...]`"""
        check_state(state, self._spec.n_envs)
        return self._start("set_state", state.rows)

    def close(self) -> None:
        """End the processes; calling it twice is fine."""
        self._crew.dismiss()
        if self._left_over is not None and remove_file(self._left_over):
            self._left_over = None

    def _start(self, verb: str, arguments: Sequence[Any]) -> Tree:
        """Let every row show an observation, without a step."""
        self._is_sent = False
        has_masks: list[bool] = self._crew.ask_each(verb, [(one,) for one in arguments])
        if any(has_masks) and not all(has_masks):
            self.close()
            raise EnvironmentFailure("it gives no action mask, although others do.", row=has_masks.index(False))
        self._spec = replace(self._spec, has_action_masks=all(has_masks))
        self._refresh_masks()
        self._is_reset = True
        return copy_tree(self._shared.batch.observations)

    def _ask(self, verb: str, arguments: tuple[Any, ...], rows: Sequence[int] | None) -> list[Any]:
        chosen = selected_rows(rows, self._spec.n_envs)
        return self._crew.ask_each(verb, [arguments] * len(chosen), rows=chosen)

    def _share(self) -> SharedArrays:
        """Map the shared arrays everywhere; afterwards no name of them is left on the disk."""
        observation_space, action_space, count = (
            self._spec.observation_space,
            self._spec.action_space,
            self._spec.n_envs,
        )
        path = create_shared_file(observation_space, action_space, count)
        try:
            shared = map_shared_file(path, observation_space, action_space, count)
            self._crew.ask_each("map", [(path, count)] * count)
        finally:
            self._left_over = None if remove_file(path) else path
        return shared

    def _refresh_masks(self) -> None:
        if self._spec.has_action_masks and self._shared.masks is not None:
            self._masks = self._shared.masks.copy()

    def _check_usable(self) -> None:
        self._crew.check_present()
        if not self._is_reset:
            raise RLFrameworkError("These environments have no episode yet: call reset() first.")


def can_travel(factory: Factory) -> bool:
    """Whether a factory, with what it carries, can be sent to another process."""
    try:
        cloudpickle.dumps(factory)
    except Exception:  # noqa: BLE001  Whatever a foreign class raises here, it means the same: no.
        return False
    return True


def _pack_factory(factory: Factory, row: int) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(factory)
    except Exception as error:
        raise InvalidInputError(
            f"Environment {row} cannot be sent to another process ({type(error).__name__}: {error}). Pass a factory "
            "that makes it there, e.g. lambda: MyEnv(...), or vectorization='serial'."
        ) from error
    return packed


def _common_spec(specs: Sequence[EnvSpec]) -> EnvSpec:
    first = specs[0]
    check_supported(first.observation_space, "observation")
    check_supported(first.action_space, "action")
    for row, spec in enumerate(specs):
        who = f"environment {row}"
        check_equal(first.observation_space, spec.observation_space, role="observation", who=who)
        check_equal(first.action_space, spec.action_space, role="action", who=who)
    return first
