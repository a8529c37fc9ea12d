"""Building a Stable-Baselines3 model for environments, and moving a model from some environments to others."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.environment import SpacesOnlyVecEnv
from rl_framework.agent.reinforcement.stable_baselines.normalization import (
    Normalization,
    load_normalization_state,
    normalization_state,
)
from rl_framework.agent.reinforcement.stable_baselines.parameters import complete_parameters
from rl_framework.agent.reinforcement.stable_baselines.training_state import load_training_state, training_state
from rl_framework.errors import InvalidInputError, SpaceError

logger = logging.getLogger(__name__)

DEFAULT_GAMMA = 0.99


class ModelPlan:
    """What a model is made from.

    Args:
        algorithm_class: The library's class.
        parameters: Its constructor's parameters, without environments.
        normalization: What is put around the environments, None for nothing.
    """

    def __init__(
        self,
        algorithm_class: type[BaseAlgorithm],
        parameters: Mapping[str, Any],
        normalization: Normalization | None,
    ) -> None:
        self.algorithm_class = algorithm_class
        self.parameters = parameters
        self.normalization = normalization

    def build(self, env: VecEnv) -> BaseAlgorithm:
        """Make a model for an environment.

        Raises:
            SpaceError: The algorithm does not fit the spaces.
            InvalidInputError: The library refuses a parameter.
        """
        name = self.algorithm_class.__name__
        parameters = complete_parameters(self.algorithm_class, self.parameters, env.observation_space)
        try:
            return self.algorithm_class(env=self.surround(env), **parameters)
        except AssertionError as error:
            raise SpaceError(f"{name} does not fit the environments: {error}") from error
        except (ValueError, TypeError, NotImplementedError, KeyError, AttributeError) as error:
            raise InvalidInputError(f"{name} cannot be built with these parameters: {error}") from error

    def move(self, model: BaseAlgorithm, env: VecEnv) -> BaseAlgorithm:
        """Put a model to work in other environments; with another number of them it is built anew and filled.

        Networks, optimisers, counters, replay and normalisation statistics stay in either case.
        """
        if env.num_envs != model.n_envs:
            return self._rebuild(model, env)
        surrounded = self.surround(env)
        before, after = model.get_vec_normalize_env(), unwrap_vec_normalize(surrounded)
        if before is not None and after is not None:
            load_normalization_state(after, normalization_state(before))
        model.set_env(surrounded, force_reset=False)
        _follow(model)
        return model

    def set_aside(self, model: BaseAlgorithm, env: VecEnv) -> BaseAlgorithm:
        """Take a model out of environments that are about to close."""
        return self.move(model, SpacesOnlyVecEnv(env.num_envs, env.observation_space, env.action_space))

    def surround(self, env: VecEnv) -> VecEnv:
        """Put the normalisation, if any, around an environment."""
        return env if self.normalization is None else self.normalization.wrap(env, self.gamma)

    @property
    def gamma(self) -> float:
        """The algorithm's discount."""
        known = inspect.signature(self.algorithm_class).parameters
        default = known["gamma"].default if "gamma" in known else DEFAULT_GAMMA
        return float(self.parameters.get("gamma", default))

    def _rebuild(self, model: BaseAlgorithm, env: VecEnv) -> BaseAlgorithm:
        fresh = self.build(env)
        fresh.policy.load_state_dict(model.policy.state_dict())
        load_training_state(fresh, training_state(model))
        return fresh


def check_masks(algorithm_class: type[BaseAlgorithm], *, has_action_masks: bool) -> None:
    """Refuse MaskablePPO on environments without masks, and say so if masks are not going to be used.

    Raises:
        InvalidInputError: The algorithm needs masks and the environments have none.
    """
    if is_contrib(algorithm_class, "MaskablePPO") and not has_action_masks:
        raise InvalidInputError(
            "MaskablePPO needs environments with an action_masks() method (or info['action_mask']); these have none. "
            "Add one, or use PPO."
        )
    if has_action_masks and not is_contrib(algorithm_class, "MaskablePPO"):
        logger.warning(
            "The environments tell which actions are allowed; %s does not use that, MaskablePPO of sb3-contrib does.",
            algorithm_class.__name__,
        )


def _follow(model: BaseAlgorithm) -> None:
    """The hindsight buffer computes rewards with the environment, and refuses to change it by itself."""
    buffer = getattr(model, "replay_buffer", None)
    if isinstance(buffer, HerReplayBuffer):
        buffer.env = model.get_env()
