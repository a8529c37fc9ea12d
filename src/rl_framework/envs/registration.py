"""Ids of environments that are registered only when somebody asks for them."""

from __future__ import annotations

import importlib

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rl_framework.errors import InvalidInputError, MissingExtraError

ROBOTICS = "gymnasium_robotics"
ROBOTICS_FAMILIES = ("Fetch", "Hand", "PointMaze_", "AntMaze_", "AdroitHand", "FrankaKitchen")
"""How the ids of Gymnasium-Robotics begin."""

NAMESPACE = "rl_framework/"
OWN_ENVIRONMENTS = {
    f"{NAMESPACE}BitFlipping-v0": "rl_framework.envs.goal_tasks.gymnasium_tasks:BitFlippingEnv",
    f"{NAMESPACE}PointMaze2D-v0": "rl_framework.envs.goal_tasks.gymnasium_tasks:PointMaze2DEnv",
    f"{NAMESPACE}PointUMaze2D-v0": "rl_framework.envs.goal_tasks.gymnasium_tasks:PointUMaze2DEnv",
}
"""Ids of this library, with what they make."""


def find_spec(env_id: str) -> EnvSpec:
    """The entry of an id, registered now if it belongs to Gymnasium-Robotics or to this library.

    Raises:
        MissingExtraError: Gymnasium-Robotics is not installed.
        InvalidInputError: There is no environment of that id.
    """
    if env_id not in gym.registry:
        register_on_demand(env_id)
    try:
        return gym.spec(env_id)
    except (gym.error.Error, ImportError) as error:
        raise InvalidInputError(f"There is no environment {env_id!r}: {error}") from error


def register_on_demand(env_id: str) -> None:
    """Register what the id belongs to, if that is known here.

    Raises:
        MissingExtraError: Gymnasium-Robotics is not installed.
    """
    if env_id in OWN_ENVIRONMENTS:
        gym.register(env_id, entry_point=OWN_ENVIRONMENTS[env_id])
    elif env_id.startswith(ROBOTICS_FAMILIES):
        try:
            importlib.import_module(ROBOTICS)
        except ImportError as error:
            raise MissingExtraError(f"The environment {env_id!r}", "mujoco") from error
