"""Where environments come from: whatever a user holds is translated here, once, and nowhere else."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial, singledispatch
from itertools import cycle, islice
from typing import Any, cast

import gymnasium as gym

from rl_framework.core.spaces import check_equal, check_supported
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.choice import Backend, choose_backend
from rl_framework.envs.copying import Remade, Shipped, copies_completely, copy_environment, is_copyable, remake
from rl_framework.envs.registration import find_spec
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, UnknownOptionError

Environment = gym.Env[Any, Any]
Factory = Callable[[], Environment]

VECTORIZATIONS = ("auto", "serial", "subprocess")
ACCEPTED = (
    "a gymnasium environment, a list of them, an environment id, a factory or a list of factories, "
    "a gymnasium VectorEnv, a stable_baselines3 VecEnv, a TensorEnv or the name of one ('tensor:CartPole'), "
    "a PettingZoo game or the name of one ('pettingzoo:mpe/simple_spread'), or a Unity game ('unity:path/to/Game')"
)
LAZY_SOURCES = {
    "pettingzoo.utils.env:AECEnv": "rl_framework.envs.pettingzoo.source:aec_env_source",
    "pettingzoo.utils.env:ParallelEnv": "rl_framework.envs.pettingzoo.source:parallel_env_source",
    "rl_framework.envs.tensor_env:TensorEnv": "rl_framework.envs.tensor_source:tensor_env_source",
    "stable_baselines3.common.vec_env.base_vec_env:VecEnv": "rl_framework.envs.stable_baselines_vector:vec_env_source",
}
"""Classes by name, and the function that makes a source of them; imported only when one turns up."""

NAMED_SOURCES = {
    "pettingzoo:": "rl_framework.envs.pettingzoo.source:named_source",
    "tensor:": "rl_framework.envs.tensor_source:NamedTensorSource",
    "unity:": "rl_framework.envs.unity.source:unity_source",
}
"""How names begin that are no Gymnasium ids, and what makes a source of the rest; imported when one turns up."""

_GOAL_PREFIX = "goal:"
_GAMES = "rl_framework.envs.pettingzoo.source"
_SINGLE_GAMES = (f"{_GAMES}:aec_env_source", f"{_GAMES}:parallel_env_source")


class EnvironmentSource(ABC):
    """Environments that can be opened side by side."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of environments that `open` gives unless told otherwise."""

    @property
    @abstractmethod
    def copyable(self) -> bool:
        """Whether `open` can give any number of environments, all alike."""

    @property
    def is_costly(self) -> bool:
        """Whether each further environment is a program of its own, so that none is opened without being asked for."""
        return False

    def open(self, n_envs: int | None = None, vectorization: str = "auto", timeout: float = 60.0) -> VectorEnv:
        """Open environments side by side.

        Args:
            n_envs: How many; as many as there are for None.
            vectorization: `"serial"` (in this process), `"subprocess"` (a process each) or `"auto"`: whichever
                a short measurement finds faster.
            timeout: Seconds until an environment in a process of its own is taken for hung.

        Raises:
            InvalidInputError: An argument out of range, or environments that cannot be copied or sent to a process.
            SpaceError: Spaces that are not supported, or differ between the environments.
        """
        check_arguments(n_envs, vectorization, timeout)
        return self._open(self.count if n_envs is None else n_envs, vectorization, timeout)

    @abstractmethod
    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv: ...


class FactorySource(EnvironmentSource):
    """Functions that each make an environment; with more rows than functions they take turns."""

    def __init__(self, factories: Sequence[Factory]) -> None:
        self._factories = tuple(factories)

    @property
    def count(self) -> int:
        """Number of factories."""
        return len(self._factories)

    @property
    def copyable(self) -> bool:
        """Factories make as many as needed."""
        return True

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:
        factories = list(islice(cycle(self._factories), n_envs))
        if self._backend(n_envs, vectorization) == "subprocess":
            return open_subprocesses(factories, timeout)
        return SerialVectorEnv(_make_all(factories), owned=True)

    def _backend(self, n_envs: int, vectorization: str) -> Backend:
        if vectorization != "auto":
            return cast(Backend, vectorization)
        probe = partial(_make, self._factories[0], 0)
        return choose_backend(n_envs, probe, lambda: _can_travel(self._factories))


class InstanceSource(EnvironmentSource):
    """Environments that the user made; they stay the user's to close."""

    def __init__(self, environments: Sequence[Environment]) -> None:
        check_together(environments)
        self._environments = tuple(environments)

    @property
    def count(self) -> int:
        """Number of environments given."""
        return len(self._environments)

    @cached_property
    def copyable(self) -> bool:
        """Whether deep copies of all of them are complete; found by trying."""
        return all(is_copyable(env) for env in self._environments)

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:
        if self._backend(n_envs, vectorization) == "subprocess":
            return open_subprocesses(self._shipped(n_envs), timeout)
        environments = list(self._environments[:n_envs])
        originals = islice(cycle(self._environments), n_envs - len(environments))
        copies = [copy_environment(env) for env in originals]
        check_together([*environments, *copies])
        return SerialVectorEnv([*environments, *copies], [False] * len(environments) + [True] * len(copies))

    def _backend(self, n_envs: int, vectorization: str) -> Backend:
        if vectorization != "auto":
            return cast(Backend, vectorization)
        if n_envs == 1 or not self.copyable:
            return "serial"
        first = self._environments[0]
        return choose_backend(n_envs, lambda: copy_environment(first), lambda: _can_travel(self._shipped(n_envs)))

    def _shipped(self, n_envs: int) -> list[Factory]:
        chosen = islice(cycle(self._environments), n_envs)
        return [_ship(env, is_copy=row >= self.count) for row, env in enumerate(chosen)]


class OpenSource(EnvironmentSource):
    """Environments that already run side by side.

    Args:
        environments: The vector environment; closing what `open` gives leaves it open.
    """

    def __init__(self, environments: VectorEnv) -> None:
        self._environments = environments

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._environments.spec.n_envs

    @property
    def copyable(self) -> bool:
        """What runs already cannot be multiplied."""
        return False

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:  # noqa: ARG002  Theirs counts.
        if n_envs != self.count:
            raise InvalidInputError(
                f"n_envs={n_envs} was asked for, but the environments given already run side by side, {self.count} "
                "of them. Leave n_envs out, or pass an id or a factory."
            )
        if vectorization != "auto":
            raise InvalidInputError(
                f"vectorization={vectorization!r} was asked for, but the environments given already run side by side. "
                "Leave it at 'auto', or pass the single environments, an id or a factory."
            )
        return BorrowedVectorEnv(self._environments)


@singledispatch
def environment_source(environments: Any) -> EnvironmentSource:
    """Translate what a user calls environments.

    Args:
        environments: A gymnasium environment, a list of them, an id, a factory or a list of factories, a gymnasium
            `VectorEnv`, a stable_baselines3 `VecEnv`, or a `VectorEnv` or `TensorEnv` of this library; of its own
            tensor environments also the name, as in `tensor:CartPole`. Ids of Gymnasium-Robotics need no import of
            it; with `goal:` before it, an id gives an environment with goals by one contract (`envs.goal_adapters`).
            A PettingZoo game (`ParallelEnv` or `AECEnv`) or its name, as in `pettingzoo:mpe/simple_spread`; a Unity
            game by its path, as in `unity:path/to/Game`, or `unity:editor`. A source is taken as it is.

    Raises:
        MissingExtraError: An environment of Gymnasium-Robotics, PettingZoo or Unity, which is not installed.
        InvalidInputError: Anything else, an empty list, an unknown id, the same environment twice.
        UnknownOptionError: No tensor environment or PettingZoo game has that name.
        SpaceError: Spaces that are not supported, or differ between the environments.
    """
    target = _lazy_source(environments)
    if target is not None:
        return _imported(target)(environments)
    if all(hasattr(environments, verb) for verb in ("spec", "reset_to_schedule", "send", "recv", "set_state")):
        return OpenSource(environments)
    if callable(environments) and not isinstance(environments, gym.Env):
        return FactorySource([environments])
    raise InvalidInputError(f"Expected {ACCEPTED}; got {_described(environments)}.")


@environment_source.register
def _from_source(environments: EnvironmentSource) -> EnvironmentSource:
    return environments


@environment_source.register
def _from_env(environments: gym.Env) -> EnvironmentSource:
    return InstanceSource([environments])


@environment_source.register
def _from_id(environments: str) -> EnvironmentSource:
    for prefix, target in NAMED_SOURCES.items():
        if environments.startswith(prefix):
            return _imported(target)(environments.removeprefix(prefix))
    return FactorySource([_factory_of_id(environments)])


@environment_source.register(list)
@environment_source.register(tuple)
def _from_sequence(environments: Sequence[Any]) -> EnvironmentSource:
    if not environments:
        raise InvalidInputError(f"The list of environments is empty. Expected {ACCEPTED}.")
    if all(isinstance(env, gym.Env) for env in environments):
        return InstanceSource(environments)
    if all(_lazy_source(game) in _SINGLE_GAMES for game in environments):
        return _imported(f"{_GAMES}:PettingZooGame")(environments)
    for index, element in enumerate(environments):
        if _is_group(element):
            raise InvalidInputError(
                f"Element {index} of the list of environments is {_described(element)}, which gives rows of its own. "
                "Pass it without the list; n_envs says how many."
            )
        if not isinstance(element, str) and not _is_factory(element):
            raise InvalidInputError(
                f"Element {index} of the list of environments is {_described(element)}. Expected gymnasium "
                "environments throughout, or ids and factories throughout."
            )
    return FactorySource([_factory_of_id(one) if isinstance(one, str) else one for one in environments])


@environment_source.register
def _from_vector_env(environments: gym.vector.VectorEnv) -> EnvironmentSource:
    from rl_framework.envs.gymnasium_vector import GymnasiumVectorEnv

    return OpenSource(GymnasiumVectorEnv(environments))


def open_environments(
    environments: Any, *, n_envs: int | None = None, vectorization: str = "auto", timeout: float = 60.0
) -> VectorEnv:
    """Translate what a user calls environments and open them side by side.

    See `environment_source` for what may be given and `EnvironmentSource.open` for the options.
    """
    check_arguments(n_envs, vectorization, timeout)
    return environment_source(environments).open(n_envs, vectorization, timeout)


def check_arguments(n_envs: int | None, vectorization: str, timeout: float) -> None:
    """Refuse options of `open` that are out of range."""
    if n_envs is not None and (type(n_envs) is not int or n_envs <= 0):
        raise InvalidInputError(f"n_envs must be a whole number above 0, got {n_envs!r}.")
    if vectorization not in VECTORIZATIONS:
        raise UnknownOptionError.of("vectorization", str(vectorization), VECTORIZATIONS)
    if not timeout > 0:
        raise InvalidInputError(f"timeout must be a number of seconds above 0, got {timeout!r}.")


def check_together(environments: Sequence[Environment]) -> None:
    """Refuse environments that cannot be rows of one batch.

    Raises:
        InvalidInputError: The same one twice.
        SpaceError: Unsupported spaces, or differing ones; the message names environment and field.
    """
    seen: dict[int, int] = {}
    first = environments[0]
    check_supported(first.observation_space, "observation")
    check_supported(first.action_space, "action")
    for index, env in enumerate(environments):
        if id(env.unwrapped) in seen:
            raise InvalidInputError(
                f"Environments {seen[id(env.unwrapped)]} and {index} are the same object. Make one for each row."
            )
        seen[id(env.unwrapped)] = index
        check_equal(first.observation_space, env.observation_space, role="observation", who=f"environment {index}")
        check_equal(first.action_space, env.action_space, role="action", who=f"environment {index}")


def open_subprocesses(factories: Sequence[Factory], timeout: float) -> VectorEnv:
    """Open a process per factory."""
    from rl_framework.envs.subprocess import SubprocessVectorEnv

    return SubprocessVectorEnv(factories, timeout=timeout)


def _can_travel(factories: Sequence[Factory]) -> bool:
    from rl_framework.envs.subprocess import can_travel

    return all(can_travel(factory) for factory in factories)


def _ship(env: Environment, *, is_copy: bool) -> Factory:
    if copies_completely(env):
        return Shipped(env, is_copy)
    remake(env).close()
    return Remade(env.spec)


def _make_all(factories: Sequence[Factory]) -> list[Environment]:
    made: list[Environment] = []
    try:
        for index, factory in enumerate(factories):
            made.append(_make(factory, index))
        check_together(made)
    except BaseException:
        for env in made:
            env.close()
        raise
    return made


def _make(factory: Factory, index: int) -> Environment:
    try:
        env: Any = factory()
    except gym.error.Error as error:
        raise InvalidInputError(f"Environment {index} cannot be made: {error}") from error
    except Exception as error:
        raise EnvironmentFailure(f"making it raised {type(error).__name__}: {error}", row=index) from error
    if not isinstance(env, gym.Env):
        hint = " Pass what it returns without the factory." if _is_group(env) else ""
        raise InvalidInputError(
            f"The factory of environment {index} returned {_described(env)}, not a gymnasium.Env.{hint}"
        )
    return env


def _factory_of_id(env_id: str) -> Factory:
    if env_id.startswith(_GOAL_PREFIX):
        from rl_framework.envs.goal_adapters import make_goal_environment

        find_spec(env_id.removeprefix(_GOAL_PREFIX))
        return partial(make_goal_environment, env_id.removeprefix(_GOAL_PREFIX))
    return Remade(find_spec(env_id))  # The entry itself, because a worker process may not know the id.


def _lazy_source(thing: Any) -> str | None:
    """What makes a source of a thing that a foreign class defines; None if it is none of `LAZY_SOURCES`."""
    names = (f"{cls.__module__}:{cls.__qualname__}" for cls in type(thing).__mro__)
    return next((LAZY_SOURCES[name] for name in names if name in LAZY_SOURCES), None)


def _imported(target: str) -> Callable[[Any], EnvironmentSource]:
    module, _, name = target.partition(":")
    return cast(Callable[[Any], EnvironmentSource], getattr(importlib.import_module(module), name))


def _is_group(thing: Any) -> bool:
    """Whether it stands for several rows by itself, so that it cannot be one of a list."""
    is_name = isinstance(thing, str) and thing.startswith(tuple(NAMED_SOURCES))
    return is_name or isinstance(thing, EnvironmentSource) or _lazy_source(thing) is not None


def _is_factory(thing: Any) -> bool:
    return callable(thing) and not isinstance(thing, (gym.Env, gym.vector.VectorEnv))


def _described(thing: Any) -> str:
    if any(cls.__module__.partition(".")[0] == "gym" for cls in type(thing).__mro__):
        return (
            f"{thing!r} of the old package gym; this library needs gymnasium. Port it, or convert it with "
            "gymnasium.make('GymV26Environment-v0', env=env) from the package shimmy"
        )
    return f"{thing!r} ({type(thing).__name__})"
