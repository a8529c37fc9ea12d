"""Gymnasium's vector environments, translated to our step contract.

Gymnasium has three ways to go on after an episode's end. `SAME_STEP` is ours. With `DISABLED`, finished rows are
reset here, by a mask. With `NEXT_STEP`, the step after the end is no step at all: it ignores the action, and its
reward of 0 belongs to no transition. It is avoided by resetting the finished rows at once, by a mask; a vector
environment that does not know such masks is refused, because every way around would invent transitions.
Source: https://farama.org/Vector-Autoreset-Mode
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from rl_framework.core.trees import Tree, copy_tree, select
from rl_framework.envs import masks
from rl_framework.envs.foreign import ForeignStep, ForeignVectorEnv, seeds_of
from rl_framework.envs.serial import selected_rows
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError

ForeignEnv = gym.vector.VectorEnv[Any, Any, Any]

_FINAL_OBSERVATION = "final_obs"
_FINAL_INFO = "final_info"


class GymnasiumVectorEnv(ForeignVectorEnv):
    """A `VectorEnv` over one of Gymnasium.

    Args:
        vector_env: The vector environment; it stays open on `close`.

    Raises:
        InvalidInputError: It does not say how it goes on after an episode's end, or not in a way that translates.
        SpaceError: Its spaces are not supported.
    """

    def __init__(self, vector_env: ForeignEnv) -> None:
        self._vector_env = vector_env
        self._inner: Any = vector_env.unwrapped
        self._knows_rows = isinstance(self._inner, (SyncVectorEnv, AsyncVectorEnv))
        self._mode = self._autoreset_mode()
        self._names_found: set[str] = set()
        is_bare = vector_env is self._inner
        environments = self._inner.envs if is_bare and isinstance(self._inner, SyncVectorEnv) else None
        super().__init__(self._describe(), environments)

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environments, row by row."""
        self._check_has(name)
        chosen = selected_rows(rows, self._spec.n_envs)
        if isinstance(self._inner, SyncVectorEnv):
            with self._failing():
                return [self._inner.envs[row].get_wrapper_attr(name)(*arguments, **options) for row in chosen]
        if rows is not None:
            raise InvalidInputError("An AsyncVectorEnv can only call a method of all its environments at once.")
        with self._failing():
            return list(self._inner.call(name, *arguments, **options))

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environments, row by row."""
        self._check_has(name)
        values = self._inner.get_attr(name)
        return [values[row] for row in selected_rows(rows, self._spec.n_envs)]

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environments."""
        self._check_rows_known(name)
        chosen = selected_rows(rows, self._spec.n_envs)
        is_all = len(chosen) == self._spec.n_envs
        values = [None] * self._spec.n_envs if is_all else list(self._inner.get_attr(name))
        for row in chosen:
            values[row] = value
        self._inner.set_attr(name, values)

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of one row, `[height, width, 3]`."""
        if self._vector_env.render_mode != "rgb_array":
            return None
        with self._failing():
            pictures = self._vector_env.render()
        return None if pictures is None else np.asarray(pictures[row])

    def _reset(self, seed: int | None) -> tuple[Tree, list[int | None], Sequence[Any]]:
        count = self._spec.n_envs
        if self._knows_rows:
            seeds = seeds_of(seed, count)
            observations, infos = self._vector_env.reset(seed=None if seed is None else seeds)  # type: ignore[arg-type]
        else:
            seeds = [None] * count
            observations, infos = self._vector_env.reset(seed=seed)
        return observations, seeds, _column(infos, masks.INFO_KEY, count)

    def _step(self, actions: Tree) -> ForeignStep:
        observations, rewards, terminated, truncated, infos = self._vector_env.step(actions)
        ended = np.flatnonzero(np.logical_or(terminated, truncated))
        said: Sequence[Any] = _column(infos, masks.INFO_KEY, self._spec.n_envs)
        rows = split_infos(infos, self._spec.n_envs)
        if self._mode is AutoresetMode.SAME_STEP:
            final = {int(row): rows[row].pop(_FINAL_OBSERVATION) for row in ended}
            rows = [info.get(_FINAL_INFO, info) if row in final else info for row, info in enumerate(rows)]
        else:
            final = {int(row): copy_tree(select(observations, int(row))) for row in ended}
            observations, said = self._open_again(ended, observations, said)
        return ForeignStep(observations, rewards, terminated, truncated, final, rows, said)

    def _open_again(
        self, ended: npt.NDArray[Any], observations: Tree, said: Sequence[Any]
    ) -> tuple[Tree, Sequence[Any]]:
        """Reset the finished rows alone: observations of all rows, and what their infos say on masks."""
        if not len(ended):
            return observations, said
        mask = np.zeros(self._spec.n_envs, np.bool_)
        mask[ended] = True
        observations, infos = self._vector_env.reset(options={"reset_mask": mask})
        anew = _column(infos, masks.INFO_KEY, self._spec.n_envs)
        return observations, [anew[row] if mask[row] else said[row] for row in range(self._spec.n_envs)]

    def _describe(self) -> EnvSpec:
        env = self._vector_env
        return EnvSpec(
            n_envs=env.num_envs,
            observation_space=env.single_observation_space,
            action_space=env.single_action_space,
            id=env.spec.id if env.spec is not None else None,
            render_fps=float(env.metadata.get("render_fps") or 30.0),
            has_action_masks=self._has_masks(),
        )

    def _has_masks(self) -> bool:
        if isinstance(self._inner, SyncVectorEnv):
            return all(env.has_wrapper_attr(masks.METHOD) for env in self._inner.envs)
        if isinstance(self._inner, AsyncVectorEnv):
            return all(self._inner.call("has_wrapper_attr", masks.METHOD))
        return False

    def _autoreset_mode(self) -> AutoresetMode:
        given = self._vector_env.metadata.get("autoreset_mode")
        mode = next((one for one in AutoresetMode if given in (one, one.value)), None)
        name = type(self._inner).__name__
        if mode is None:
            raise InvalidInputError(
                f"{name} does not say how it goes on after an episode's end: set metadata['autoreset_mode'] to a "
                "gymnasium.vector.AutoresetMode."
            )
        if mode is AutoresetMode.NEXT_STEP and not self._knows_rows:
            raise InvalidInputError(
                f"{name} resets finished rows in the step after the end, together with real steps of the others, which "
                "cannot be told apart from transitions. Make it with gymnasium.make_vec(..., vectorization_mode='sync')"
                " or AutoresetMode.SAME_STEP, or pass the environment's id with n_envs."
            )
        return mode

    def _check_has(self, name: str) -> None:
        """Refuse a name that not every environment has; asking a worker process for one would end it."""
        self._check_rows_known(name)
        if name not in self._names_found:
            if not all(self._inner.call("has_wrapper_attr", name)):
                raise InvalidInputError(f"The environments of {type(self._inner).__name__} have no attribute {name!r}.")
            self._names_found.add(name)

    def _check_rows_known(self, name: str) -> None:
        self._check_open()
        if not self._knows_rows:
            raise InvalidInputError(f"{type(self._inner).__name__} has no single environments to ask for {name!r}.")


def split_infos(infos: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """One dict per row from Gymnasium's dict of columns, in which `_key` marks the rows that have a `key`."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for key in infos:
        if key.startswith("_") and key[1:] in infos:
            continue
        for row, value in enumerate(_column(infos, key, count)):
            if value is not None:
                rows[row][key] = value
    return rows


def _column(infos: Mapping[str, Any], key: str, count: int) -> list[Any]:
    """The rows' values of one key, None where a row has none."""
    if key not in infos:
        return [None] * count
    values, present = infos[key], infos.get(f"_{key}", np.ones(count, np.bool_))
    if isinstance(values, Mapping):
        parts = split_infos(values, count)
        return [part if there else None for part, there in zip(parts, present, strict=True)]
    if np.ndim(values) == 0 or len(values) != count:
        return [None] * count
    return [value if there else None for value, there in zip(values, present, strict=True)]
