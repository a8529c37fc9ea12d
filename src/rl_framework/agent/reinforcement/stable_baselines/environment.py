"""Our vector environments as Stable-Baselines3 sees them.

Stable-Baselines3 knows flat Dict observations, and Discrete and MultiDiscrete spaces that count from 0. Nested
observations are flattened to one Dict (`camera/left`), and what counts from elsewhere is shifted, here and nowhere
else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import override

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.spaces import leaf_spaces, map_space
from rl_framework.core.trees import Path, Tree, leaves, leaves_with_paths, map_tree
from rl_framework.envs.vector_env import VectorEnv, VectorStep
from rl_framework.errors import SpaceError

EpisodeListener = Callable[[Sequence[EpisodeSummary]], None]


class SpaceTranslation:
    """Between an environment's spaces and those that Stable-Baselines3 works with.

    Attributes:
        flat_space: The environment's observations without nests, as the environment counts.
        observation_space: What Stable-Baselines3 sees: the same, counted from 0.
        action_space: What Stable-Baselines3 acts in.

    Raises:
        SpaceError: Stable-Baselines3 has nothing like them.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self._flattens = _is_nested(observation_space)
        self.flat_space = _flat_space(observation_space) if self._flattens else observation_space
        self._starts = map_space(start_of, self.flat_space)
        self._shifts = any(np.any(start) for start in leaves(self._starts))
        self.observation_space = _counted_from_zero(self.flat_space) if self._shifts else self.flat_space
        if isinstance(action_space, spaces.Dict | spaces.Tuple):
            raise SpaceError(
                f"Stable-Baselines3 has no {type(action_space).__name__} actions; these environments have "
                f"{action_space}. Wrap them to flatten it into a Box or a MultiDiscrete."
            )
        self._is_binary = isinstance(action_space, spaces.MultiBinary)
        self._first_action = start_of(action_space) if np.any(start_of(action_space)) else None
        self.action_space = _leaf_from_zero(action_space)

    def flatten(self, observations: Tree) -> Tree:
        """Observations without nests, single ones or batches."""
        if not self._flattens:
            return observations
        return {_flat_name(path): leaf for path, leaf in leaves_with_paths(observations)}

    def observations(self, observations: Tree) -> Tree:
        """Translate observations, single ones or batches."""
        flat = self.flatten(observations)
        return map_tree(np.subtract, flat, self._starts) if self._shifts else flat

    def actions(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Translate the model's actions to the environment's. `[B, ...]`."""
        if self._is_binary:
            return actions.astype(np.int8)  # the library's come as floats
        return actions if self._first_action is None else actions + self._first_action


def start_of(space: gym.Space[Any]) -> npt.NDArray[np.int64]:
    """The smallest value of a Discrete or MultiDiscrete space; 0 for the others."""
    return np.asarray(space.start if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else 0)


def _counted_from_zero(space: gym.Space[Any]) -> gym.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _leaf_from_zero(part) for key, part in space.spaces.items()})
    return _leaf_from_zero(space)


def _leaf_from_zero(space: gym.Space[Any]) -> gym.Space[Any]:
    if not np.any(start_of(space)):
        return space
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec, dtype=space.dtype.type)
    return spaces.Discrete(int(space.n))  # type: ignore[attr-defined]  # only these two have a start


def _is_nested(space: gym.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(isinstance(part, spaces.Dict | spaces.Tuple) for part in space.spaces.values())
    return isinstance(space, spaces.Tuple)


def _flat_name(path: Path) -> str:
    """Torch allows no dots in the names of modules, which these become."""
    return "/".join(str(part) for part in path)


def _flat_space(space: gym.Space[Any]) -> spaces.Dict:
    flat = {_flat_name(path): leaf for path, leaf in leaf_spaces(space)}
    if len(flat) < len(list(leaf_spaces(space))):
        raise SpaceError(f"Flattening {space} would give two entries the same name; rename its keys.")
    return spaces.Dict(flat)


class TranslatedVecEnv(VecEnv):
    """A `VectorEnv` behind the `VecEnv` interface.

    Episode returns are those of the environments, counted below any normalisation; `Monitor` wrappers are
    therefore not needed and this class answers for them.
    """

    def __init__(self, env: VectorEnv, translation: SpaceTranslation) -> None:
        self.env = env
        self.translation = translation
        self.on_episodes: EpisodeListener = _ignore
        self._seed: int | None = None
        self._opened = time.monotonic()
        super().__init__(env.spec.n_envs, translation.observation_space, translation.action_space)

    def reset(self) -> Tree:
        """Open an episode in every row. `[B, ...]`."""
        seed, self._seed = self._seed, None
        return self.translation.observations(self.env.reset(seed=seed))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset."""
        self._seed = seed
        return [seed] * self.num_envs

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Start one step. `[B, ...]`."""
        self.env.send(self.translation.actions(actions))

    def step_wait(self) -> tuple[Tree, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Observations, rewards, ends of episodes and remarks of the step that was started."""
        step = self.env.recv()
        infos: list[dict[str, Any]] = list(step.infos)  # type: ignore[arg-type]  # read only, except in ended rows
        if step.episodes:
            self.on_episodes(step.episodes)
            self._describe_ends(step, infos)
        observations = self.translation.observations(step.observations)
        return observations, step.rewards.astype(np.float32), step.terminated | step.truncated, infos

    def _describe_ends(self, step: VectorStep, infos: list[dict[str, Any]]) -> None:
        elapsed = round(time.monotonic() - self._opened, 6)
        for episode in step.episodes:
            row = episode.row
            infos[row] = {
                **infos[row],
                "terminal_observation": self.translation.observations(step.final[row]),
                "TimeLimit.truncated": bool(step.truncated[row] and not step.terminated[row]),
                "episode": {"r": episode.total_reward, "l": episode.length, "t": elapsed},
            }

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Call a method of the environments."""
        rows = self._rows(indices)
        if method_name == "action_masks" and self.env.action_masks is not None:
            masks = self.env.action_masks
            return [masks[row] for row in rows]
        return self.env.call(method_name, *arguments, rows=rows, **options)

    def has_attr(self, attr_name: str) -> bool:
        """Whether the environments have an attribute."""
        if attr_name == "action_masks":
            return self.env.spec.has_action_masks
        return super().has_attr(attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Read an attribute of the environments."""
        return self.env.get_attribute(attr_name, rows=self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environments."""
        self.env.set_attribute(attr_name, value, rows=self._rows(indices))

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Whether the environments are wrapped in a class; always true for `Monitor`, whose work is done here."""
        return [issubclass(wrapper_class, Monitor)] * len(self._rows(indices))

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """The current picture of every row."""
        return [self.env.render(row) for row in range(self.num_envs)]

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def _rows(self, indices: int | Iterable[int] | None) -> list[int]:
        return [int(row) for row in self._get_indices(indices)]


class SpacesOnlyVecEnv(VecEnv):
    """Spaces and a number of rows: enough to build a model that acts, or waits for its environments."""

    def __init__(self, n_envs: int, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        super().__init__(n_envs, observation_space, action_space)

    @override
    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Nothing to seed."""
        return [None] * self.num_envs

    @override
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """No attribute but an empty render mode."""
        if attr_name == "render_mode":
            return [None] * self.num_envs
        raise AttributeError(attr_name)

    def reset(self) -> Tree:
        """Not possible."""
        raise self._refusal()

    @override
    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Not possible."""
        raise self._refusal()

    def step_wait(self) -> Any:
        """Not possible."""
        raise self._refusal()

    @override
    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible."""
        raise self._refusal()

    @override
    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Not possible."""
        raise self._refusal()

    @override
    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Never."""
        return [False] * self.num_envs

    def close(self) -> None:
        """Nothing to close."""

    @staticmethod
    def _refusal() -> RuntimeError:
        return RuntimeError("This model has no environments at the moment; `train` or `resume` gives it some.")


def _ignore(episodes: Sequence[EpisodeSummary]) -> None:
    """Nobody listens."""
