"""stable_baselines3's vector environments, translated to our step contract.

Imported only when somebody passes one, so that the library itself does not need stable_baselines3 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from rl_framework.core.trees import Tree
from rl_framework.envs import masks
from rl_framework.envs.batch import ActionReader
from rl_framework.envs.foreign import ForeignStep, ForeignVectorEnv
from rl_framework.envs.serial import selected_rows
from rl_framework.envs.source import OpenSource
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError

_FINAL_OBSERVATION = "terminal_observation"
_TRUNCATED = "TimeLimit.truncated"


class StableBaselinesVectorEnv(ForeignVectorEnv):
    """A `VectorEnv` over one of stable_baselines3.

    Args:
        vec_env: The vector environment; it stays open on `close`.

    Raises:
        SpaceError: Its spaces are not supported.
    """

    def __init__(self, vec_env: VecEnv) -> None:
        self._vec_env = vec_env
        environments = vec_env.envs if type(vec_env) is DummyVecEnv else None
        spec = EnvSpec(
            n_envs=vec_env.num_envs,
            observation_space=vec_env.observation_space,
            action_space=vec_env.action_space,
            render_fps=float((getattr(vec_env, "metadata", None) or {}).get("render_fps") or 30.0),
            has_action_masks=bool(vec_env.has_attr(masks.METHOD)),
        )
        super().__init__(spec, environments)
        self._rows = ActionReader(vec_env.action_space, vec_env.num_envs).rows

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environments, row by row."""
        self._check_has(name)
        chosen = selected_rows(rows, self._spec.n_envs)
        with self._failing():
            return self._vec_env.env_method(name, *arguments, indices=chosen, **options)

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environments, row by row."""
        self._check_has(name)
        return self._vec_env.get_attr(name, selected_rows(rows, self._spec.n_envs))

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environments."""
        self._check_open()
        self._vec_env.set_attr(name, value, selected_rows(rows, self._spec.n_envs))

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of one row, `[height, width, 3]`."""
        if self._vec_env.render_mode != "rgb_array":
            return None
        with self._failing():
            picture = self._vec_env.get_images()[row]
        return None if picture is None else np.asarray(picture)

    def _reset(self, seed: int | None) -> tuple[Tree, list[int | None], Sequence[Any]]:
        seeds: list[int | None] = [None] * self._spec.n_envs
        if seed is not None:
            seeds = list(self._vec_env.seed(seed))
        observations = self._vec_env.reset()
        return observations, seeds, [info.get(masks.INFO_KEY) for info in self._vec_env.reset_infos]

    def _step(self, actions: Tree) -> ForeignStep:
        given = actions if isinstance(actions, np.ndarray) else self._rows(actions)
        observations, rewards, ended, infos = self._vec_env.step(given)  # type: ignore[arg-type]  # It indexes by row.
        truncated = np.array([bool(info.get(_TRUNCATED)) for info in infos]) & ended
        final = {int(row): infos[row][_FINAL_OBSERVATION] for row in np.flatnonzero(ended)}
        latest = [self._vec_env.reset_infos[row] if row in final else info for row, info in enumerate(infos)]
        return ForeignStep(
            observations=observations,
            rewards=rewards,
            terminated=ended & ~truncated,
            truncated=truncated,
            final=final,
            infos=[{key: info[key] for key in info if key not in (_FINAL_OBSERVATION, _TRUNCATED)} for info in infos],
            masks=[info.get(masks.INFO_KEY) for info in latest],
        )

    def _check_has(self, name: str) -> None:
        self._check_open()
        if not self._vec_env.has_attr(name):
            raise InvalidInputError(f"The environments of {type(self._vec_env).__name__} have no attribute {name!r}.")


def vec_env_source(vec_env: VecEnv) -> OpenSource:
    """A source over a vector environment of stable_baselines3.

    Raises:
        InvalidInputError: It normalises; its statistics would neither be saved nor used when the agent is evaluated.
    """
    if unwrap_vec_normalize(vec_env) is not None:
        raise InvalidInputError(
            "The environments are wrapped in a VecNormalize, whose statistics would not travel with the agent. Pass "
            "what it wraps, and normalization=Normalization(...) to StableBaselinesAgent."
        )
    return OpenSource(StableBaselinesVectorEnv(vec_env))
