"""The library's density estimate of what an expert does, fitted to arrays and asked in batches.

Source: https://imitation.readthedocs.io/en/latest/algorithms/density.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from imitation.algorithms.density import DensityAlgorithm, DensityType
from imitation.data.types import maybe_unwrap_dictobs
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import override

from rl_framework.agent.imitation.imitation.checked_episodes import checked_episodes
from rl_framework.agent.imitation.imitation.demonstrations import Preparation
from rl_framework.core.trees import Tree, select
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError, SpaceError

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
TransitionsByStep = dict["int | None", Array]

DENSITY_TYPES = {
    "state": DensityType.STATE_DENSITY,
    "state_action": DensityType.STATE_ACTION_DENSITY,
    "state_state": DensityType.STATE_STATE_DENSITY,
}
KERNELS = ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine")


class DensityModel(DensityAlgorithm):
    """The library's model without its training loop: what is fitted, and what transitions are worth under it.

    It flattens and scores whole batches, where the library goes transition by transition, and gives the same numbers.

    Args:
        venv: Tells the spaces; never stepped.
        density_type: Density of states, of state-action pairs, or of pairs of successive states.
        kernel: One of scikit-learn's kernels.
        kernel_bandwidth: Width of the kernel, in standard deviations if inputs are standardised.
        is_stationary: One model for all steps of an episode; otherwise one for each.
        standardise_inputs: Shift and scale inputs to zero mean and unit variance over the demonstrations.

    Raises:
        InvalidInputError: A value is outside what the library takes.
        SpaceError: A space cannot be laid out as a vector.
    """

    def __init__(
        self,
        venv: VecEnv,
        *,
        density_type: DensityType | str = DensityType.STATE_ACTION_DENSITY,
        kernel: str = "gaussian",
        kernel_bandwidth: float = 0.5,
        is_stationary: bool = True,
        standardise_inputs: bool = True,
    ) -> None:
        # Not the base's constructor: it opens episodes and keeps every trajectory for good.
        self.venv = venv
        self.density_type = as_density_type(density_type)
        self.kernel, self.kernel_bandwidth = _checked_kernel(kernel, kernel_bandwidth)
        self.is_stationary = is_stationary
        self.standardise = standardise_inputs
        self.transitions: TransitionsByStep = {}
        self._scaler = None
        self._density_models = {}
        for role, space in (("observation", venv.observation_space), ("action", venv.action_space)):
            _check_flat(role, space)

    @property
    def is_fitted(self) -> bool:
        """Whether it has seen demonstrations."""
        return bool(self._density_models)

    def fit(self, episodes: Iterable[Episode], preparation: Preparation) -> None:
        """Fit it to demonstrations, which are prepared for the spaces of `venv`."""
        parts = [self._flat_transitions(each, preparation) for each in checked_episodes(episodes)]
        if self.is_stationary:
            self.refit({None: np.concatenate(parts)})
            return
        longest = max(len(part) for part in parts)
        self.refit({step: np.stack([part[step] for part in parts if step < len(part)]) for step in range(longest)})

    def refit(self, transitions: Mapping[int | None, Array]) -> None:
        """Fit it to flattened transitions, all together under None or by step. `[N, features]`"""
        self.transitions = dict(transitions)
        self.train()

    @override
    def __call__(
        self,
        state: Tree,
        action: Tree,
        next_state: Tree,
        done: npt.NDArray[np.bool_],
        steps: IntArray | None = None,
    ) -> npt.NDArray[np.float32]:
        """Logarithm of the density of each transition. `[B]`

        Raises:
            InvalidInputError: A model for each step was asked for a later step than the demonstrations have, or a
                density is 0.
        """
        del done
        scaler: Any = self._scaler
        inputs = scaler.transform(self._flat(state, action, next_state))
        rewards = np.asarray(self._scores(inputs, steps), dtype=np.float32)
        if not np.all(np.isfinite(rewards)):
            raise InvalidInputError(
                f"A transition is so far from all demonstrations that the kernel {self.kernel!r} with a bandwidth of "
                f"{self.kernel_bandwidth} gives it no density at all, which is no reward. Give a larger "
                "kernel_bandwidth, or a kernel that reaches everywhere: gaussian or exponential."
            )
        return rewards

    def _scores(self, inputs: Array, steps: IntArray | None) -> Array:
        if self.is_stationary:
            scores: Array = self._density_models[None].score_samples(inputs)
            return scores
        given = np.zeros(len(inputs), dtype=np.int64) if steps is None else steps
        parts = [self._model_of(int(step)).score_samples(inputs[[row]]) for row, step in enumerate(given)]
        return np.concatenate(parts)

    def _model_of(self, step: int) -> Any:
        found = self._density_models.get(step)
        if found is None:
            raise InvalidInputError(
                f"With is_stationary=False there is one density for each of the {len(self._density_models)} steps of "
                f"the longest demonstration, and an episode went on to step {step + 1}. Give demonstrations as long as "
                "the environment's episodes, limit those (gymnasium.wrappers.TimeLimit), or take is_stationary=True."
            )
        return found

    def _flat_transitions(self, episode: Episode, preparation: Preparation) -> Array:
        observations = maybe_unwrap_dictobs(preparation.observations(episode.observations))
        before, after = select(observations, slice(None, -1)), select(observations, slice(1, None))
        return self._flat(before, preparation.actions(episode.actions), after)

    def _flat(self, observations: Tree, actions: Tree, next_observations: Tree) -> Array:
        """What the density is of, as vectors. `[B, features]`"""
        seen = flatten_batch(self.venv.observation_space, observations)
        match self.density_type:
            case DensityType.STATE_DENSITY:
                return seen
            case DensityType.STATE_ACTION_DENSITY:
                return np.concatenate([seen, flatten_batch(self.venv.action_space, actions)], axis=1)
            case _:
                return np.concatenate([seen, flatten_batch(self.venv.observation_space, next_observations)], axis=1)


def prepare_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a user gave, checked, with the kind of density by its name.

    Raises:
        InvalidInputError: A value is outside what the library takes.
    """
    prepared = dict(parameters)
    if "density_type" in prepared:
        kind = as_density_type(prepared["density_type"])
        prepared["density_type"] = next(name for name, known in DENSITY_TYPES.items() if known is kind)
    _checked_kernel(prepared.get("kernel", "gaussian"), prepared.get("kernel_bandwidth", 1.0))
    return prepared


def as_density_type(value: DensityType | str) -> DensityType:
    """The library's kind of density, by itself or by name: `"state"`, `"state_action"` or `"state_state"`.

    Raises:
        InvalidInputError: It is none.
    """
    if isinstance(value, DensityType):
        return value
    if value in DENSITY_TYPES:
        return DENSITY_TYPES[value]
    raise InvalidInputError(f"density_type must be one of {', '.join(DENSITY_TYPES)}, or a DensityType; got {value!r}.")


def flatten_batch(space: gym.Space[Any], values: Tree) -> Array:
    """Each value of a batch as a vector, as `gymnasium.spaces.flatten` gives it. `[B, features]`"""
    if isinstance(space, spaces.Dict):
        return np.concatenate([flatten_batch(part, values[name]) for name, part in space.spaces.items()], axis=1)
    if isinstance(space, spaces.Discrete):
        return _one_hot(np.asarray(values).reshape(-1, 1) - space.start, np.array([space.n]), space.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        choices = np.asarray(values).reshape(len(values), -1) - space.start.reshape(-1)
        return _one_hot(choices, space.nvec.reshape(-1), space.dtype)
    array = np.asarray(values)
    return array.reshape(len(array), -1).astype(space.dtype, copy=False)


def _one_hot(choices: Array, sizes: Array, dtype: Any) -> Array:
    flat = np.zeros((len(choices), int(sizes.sum())), dtype=dtype)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    flat[np.arange(len(choices))[:, None], choices.astype(np.int64) + offsets] = 1
    return flat


def _check_flat(role: str, space: gym.Space[Any]) -> None:
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise SpaceError(f"A density is of vectors of numbers; {role}s of {part} cannot be laid out as such.")


def _checked_kernel(kernel: Any, bandwidth: Any) -> tuple[str, float]:
    if kernel not in KERNELS:
        raise InvalidInputError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}.")
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, int | float) or not bandwidth > 0:
        raise InvalidInputError(f"kernel_bandwidth must be a positive number, got {bandwidth!r}.")
    return kernel, float(bandwidth)
