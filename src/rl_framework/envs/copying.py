"""Further copies of an environment that somebody already made, and when that is safe."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from rl_framework.core.seeding import fresh_seed
from rl_framework.errors import InvalidInputError

Environment = gym.Env[Any, Any]

COPY_HOOKS = ("__getstate__", "__reduce__", "__reduce_ex__", "__deepcopy__")


def layers(env: Environment) -> Iterator[Environment]:
    """The wrappers from the outermost to the innermost, the environment itself, then the layers that it names.

    An environment that plays a game of another library names the game's own layers as its `inner_layers`.
    """
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env
    yield from getattr(env, "inner_layers", ())


def copies_completely(env: Environment) -> bool:
    """Whether no layer copies itself in a way of its own.

    An `EzPickle` environment (MuJoCo, Box2D) is copied by making it anew from its constructor's arguments, which
    silently drops whatever was set afterwards.
    """
    classes = {cls for layer in layers(env) for cls in type(layer).__mro__ if cls is not object}
    return not any(hook in vars(cls) for cls in classes for hook in COPY_HOOKS)


def is_copyable(env: Environment) -> bool:
    """Whether a deep copy of the environment is complete and works."""
    return copies_completely(env) and _try_copy(env) is not None


def copy_environment(env: Environment) -> Environment:
    """An independent copy with randomness of its own.

    Raises:
        InvalidInputError: It can neither be copied completely nor be made anew from its registered specification.
    """
    made = _try_copy(env) if copies_completely(env) else None
    if made is None:
        made = remake(env)
    made.reset(seed=fresh_seed())
    return made


def remake(env: Environment) -> Environment:
    """The environment made anew from its registered specification.

    Raises:
        InvalidInputError: It has none, or the specification leaves out one of its wrappers.
    """
    spec = env.spec
    hint = (
        f"{env} cannot be copied. Pass a factory instead, e.g. lambda: MyEnv(...), or as many environments as needed."
    )
    if spec is None:
        raise InvalidInputError(hint)
    try:
        made = gym.make(spec)
    except Exception as error:
        raise InvalidInputError(f"{hint} Making it from its specification failed: {error}") from error
    if [type(layer) for layer in layers(made)] != [type(layer) for layer in layers(env)]:
        made.close()
        raise InvalidInputError(f"{hint} Its specification leaves out some of its wrappers.")
    return made


@dataclass(frozen=True)
class Shipped:
    """A factory that carries an environment, by value, into a worker process.

    Attributes:
        env: The environment.
        is_copy: Whether another row holds the same environment, so that this one needs randomness of its own.
    """

    env: Environment
    is_copy: bool

    def __call__(self) -> Environment:
        """The environment that arrived."""
        if self.is_copy:
            self.env.reset(seed=fresh_seed())
        return self.env


@dataclass(frozen=True)
class Remade:
    """A factory that makes an environment in a worker process from a registered specification."""

    spec: Any

    def __call__(self) -> Environment:
        """The environment made anew."""
        return gym.make(self.spec)


def _try_copy(env: Environment) -> Environment | None:
    try:
        return copy.deepcopy(env, _without_windows(env))
    except Exception:  # noqa: BLE001  # whatever an attribute's own way of copying raises means the same
        return None


def _without_windows(env: Environment) -> dict[int, None]:
    """A memo for `deepcopy` by which a copy has nothing drawn yet, as a fresh environment has not.

    pygame's surfaces and clocks cannot be copied; without this, an environment that was rendered once would be
    treated as another one than before.
    """
    values = (value for layer in layers(env) for value in vars(layer).values())
    return {id(value): None for value in values if type(value).__module__.partition(".")[0] == "pygame"}
