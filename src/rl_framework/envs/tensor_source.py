"""Tensor environments as a source: those that a user holds, and the library's own by name (`tensor:CartPole`).

Imports torch only when environments are opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from rl_framework.envs.source import EnvironmentSource, OpenSource
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError, UnknownOptionError

if TYPE_CHECKING:
    from rl_framework.envs.tensor_env import TensorEnv

PREFIX = "tensor:"
TENSOR_TASKS = {
    "Acrobot": "tensor_tasks.acrobot",
    "BitFlipping": "goal_tasks.bit_flipping",
    "CartPole": "tensor_tasks.cart_pole",
    "ContinuousDummyEnv": "tensor_tasks.drive_to_origin",
    "DiscreteDummyEnv": "tensor_tasks.drive_to_origin",
    "MountainCar": "tensor_tasks.mountain_car",
    "MountainCarContinuous": "tensor_tasks.mountain_car",
    "Pendulum": "tensor_tasks.pendulum",
    "PointMaze2D": "goal_tasks.point_maze",
    "PointUMaze2D": "goal_tasks.point_maze",
}
"""Names after the prefix, each with the module of `rl_framework.envs` that has a class of that name."""


class TensorSource(EnvironmentSource):
    """A tensor environment that the user made, and others like it with another number of rows.

    Args:
        env: The environment. Opened with its own number of rows, it is stepped itself, and stays the user's to close.
    """

    def __init__(self, env: TensorEnv) -> None:
        self._env = env

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._env.n_envs

    @property
    def copyable(self) -> bool:
        """There can be others like it."""
        return True

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:  # noqa: ARG002  Nothing can hang.
        from rl_framework.envs.tensor_vector_env import TensorVectorEnv

        _refuse_processes(vectorization)
        if n_envs == self.count:
            return TensorVectorEnv(self._env)
        return TensorVectorEnv(self._env.with_n_envs(n_envs), owned=True)


class NamedTensorSource(EnvironmentSource):
    """A tensor environment of this library, by name; it goes to the device of whoever steps it.

    Args:
        name: One of `TENSOR_TASKS`.

    Raises:
        UnknownOptionError: There is none of that name.
    """

    def __init__(self, name: str) -> None:
        if name not in TENSOR_TASKS:
            raise UnknownOptionError.of(f"tensor environment after {PREFIX!r}", name, TENSOR_TASKS)
        self._name = name

    @property
    def count(self) -> int:
        """One row unless told otherwise."""
        return 1

    @property
    def copyable(self) -> bool:
        """There can be any number of rows."""
        return True

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:  # noqa: ARG002  Nothing can hang.
        from rl_framework.envs.tensor_vector_env import TensorVectorEnv

        _refuse_processes(vectorization)
        module = importlib.import_module(f"rl_framework.envs.{TENSOR_TASKS[self._name]}")
        return TensorVectorEnv(cast("TensorEnv", getattr(module, self._name)(n_envs)), owned=True)


def tensor_env_source(env: TensorEnv) -> EnvironmentSource:
    """A source over a tensor environment; one that only translates for a `VectorEnv` gives that back."""
    from rl_framework.envs.vector_tensor_env import VectorTensorEnv

    return OpenSource(env.vector_env) if isinstance(env, VectorTensorEnv) else TensorSource(env)


def _refuse_processes(vectorization: str) -> None:
    if vectorization == "subprocess":
        raise InvalidInputError(
            "vectorization='subprocess' was asked for, but the rows of a tensor environment are stepped together, in "
            "this process. Leave it at 'auto'."
        )
