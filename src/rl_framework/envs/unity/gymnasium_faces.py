"""Unity games as environments of Gymnasium: one agent as an `Env`, many as a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from typing_extensions import Self, override

from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import map_tree, select
from rl_framework.envs.masks import INFO_KEY, mask_width
from rl_framework.envs.unity.player_rows import StartPlayer
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from rl_framework.errors import InvalidInputError, RLFrameworkError

PICTURES = "rgb_array"
HARD = "hard"


class UnityEnv(gym.Env[Any, Any]):
    """A Unity game with exactly one agent as a `gymnasium.Env`.

    `reset` after an episode's end gives the first observation of the next episode, which the game began by itself;
    `reset` in the middle of one restarts the scene, and so does `options={"hard": True}`.

    Args:
        settings: The game; a path stands for the settings with that file alone.
        start: Starts a player; the real one unless given.

    Attributes:
        rows: The same game behind our step contract.
        action_masks: Gives the choices allowed now, as sb3-contrib asks for them, `[n_choices]`; only there where masks
            are shown (see `UnitySettings.action_masks`), and not for hybrid actions.

    Raises:
        InvalidInputError: The game has several agents.
        EnvironmentFailure: As `UnityVectorEnv`.
    """

    action_masks: Callable[[], BoolArray]

    def __init__(self, settings: UnitySettings | str | Path, *, start: StartPlayer | None = None) -> None:
        self.rows = UnityVectorEnv(UnitySettings.of(settings), start=start)
        spec = self.rows.spec
        if spec.n_envs != 1:
            self.rows.close()
            raise InvalidInputError(
                f"The game has {spec.n_envs} agents, a UnityEnv has one. Use UnityGymnasiumVectorEnv or hand UnityGame "
                "to train, or set max_agents=1 to leave the others out."
            )
        self.observation_space, self.action_space = spec.observation_space, spec.action_space
        self.metadata = {"render_modes": [PICTURES], "render_fps": int(spec.render_fps)}
        self.render_mode = self.rows.get_attribute("render_mode")[0]
        self._needs_reset = True
        self._has_masks = _shows_masks(self.rows)
        if self._has_masks:  # Whoever looks for the method takes it for a promise.
            self.action_masks = self._allowed

    @override
    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Open an episode."""
        super().reset(seed=seed)
        observations = self.rows.reset(seed, hard=bool((options or {}).get(HARD, False)))
        self._needs_reset = False
        return select(observations, 0), self._remarks({})

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, and wait for the agent's next decision."""
        if self._needs_reset:
            raise RLFrameworkError("This environment has no episode: call reset() first.")
        self.rows.send(map_tree(lambda part: np.asarray(part)[None], action))
        step = self.rows.recv()
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._needs_reset = terminated or truncated
        observation = step.final[0] if self._needs_reset else select(step.observations, 0)
        return observation, float(step.rewards[0]), terminated, truncated, self._remarks(step.infos[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A running game cannot be copied.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            "A running Unity game cannot be copied. Pass UnityGame(...) with n_envs players instead."
        )

    @override
    def render(self) -> npt.NDArray[np.uint8] | None:
        """What the agent's camera sees, `[height, width, 3]`."""
        return self.rows.render()

    @override
    def close(self) -> None:
        """End the player; calling it twice is fine."""
        self.rows.close()

    def _allowed(self) -> BoolArray:
        masks: BoolArray = self.rows.allowed[0]
        return masks

    def _remarks(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, INFO_KEY: self._allowed()} if self._has_masks else dict(info)


class UnityGymnasiumVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """A Unity game with any number of agents and players as a `gymnasium.vector.VectorEnv`, with `SAME_STEP` resets.

    Args:
        settings: The game; a path stands for the settings with that file alone.
        start: Starts a player; the real one unless given.

    Attributes:
        rows: The same game behind our step contract.

    Raises:
        EnvironmentFailure: As `UnityVectorEnv`.
    """

    def __init__(self, settings: UnitySettings | str | Path, *, start: StartPlayer | None = None) -> None:
        self.rows = UnityVectorEnv(UnitySettings.of(settings), start=start)
        spec = self.rows.spec
        self.num_envs = spec.n_envs
        self.single_observation_space, self.single_action_space = spec.observation_space, spec.action_space
        self.observation_space = batch_space(spec.observation_space, spec.n_envs)
        self.action_space = batch_space(spec.action_space, spec.n_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_fps": int(spec.render_fps)}
        self.render_mode = self.rows.get_attribute("render_mode")[0]
        self._has_masks = _shows_masks(self.rows)

    @override
    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Open an episode in every row. `[B, ...]`

        Raises:
            InvalidInputError: A seed for each row, which Unity cannot be given.
        """
        if isinstance(seed, list):
            raise InvalidInputError(f"Unity cannot seed its agents one by one; got {len(seed)} seeds. Pass one seed.")
        super().reset(seed=seed)
        observations = self.rows.reset(seed, hard=bool((options or {}).get(HARD, False)))
        return observations, self._with_masks({})

    @override
    def step(self, actions: Any) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Act in every row, and wait until each has its next decision. `[B, ...]`"""
        self.rows.send(actions)
        step = self.rows.recv()
        infos: dict[str, Any] = {}
        for row, info in enumerate(step.infos):
            about = {"final_obs": step.final[row], "final_info": dict(info)} if row in step.final else dict(info)
            infos = self._add_info(infos, about, row)
        return step.observations, step.rewards, step.terminated, step.truncated, self._with_masks(infos)

    @override
    def render(self) -> tuple[npt.NDArray[np.uint8] | None, ...] | None:  # type: ignore[override]  # A free variable.
        """What the agents' cameras see, one picture per row; None without cameras."""
        return tuple(self.rows.render(row) for row in range(self.num_envs)) if self.render_mode == PICTURES else None

    @override
    def close_extras(self, **kwargs: Any) -> None:
        """End the players."""
        self.rows.close()

    def _with_masks(self, infos: dict[str, Any]) -> dict[str, Any]:
        if not self._has_masks:
            return infos
        return {**infos, INFO_KEY: self.rows.allowed, f"_{INFO_KEY}": np.ones(self.num_envs, np.bool_)}


def _shows_masks(rows: UnityVectorEnv) -> bool:
    """Whether masks are shown, and in a form that Gymnasium's side knows: those of hybrid actions have none."""
    return rows.spec.has_action_masks and mask_width(rows.spec.action_space) is not None
