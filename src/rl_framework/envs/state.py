"""Where an environment is, as a plain tree that can be written to a file and put back in another process.

Three ways, the first that fits: the environment's own `get_state()` and `set_state(state)`; the arrays of a MuJoCo
simulation; the attributes of the environment and its wrappers. Whatever attribute has no plain form (a Box2D world)
lowers the level: such an environment can only be put back to the start of an episode, by restoring what it was
before the reset and doing the reset again.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.envs import mujoco_state
from rl_framework.envs.copying import layers
from rl_framework.envs.plain import Decoder, Encoder, is_plain_object
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import RLFrameworkError

Environment = gym.Env[Any, Any]

_SKIPPED = frozenset(
    {"env", "spec", "_cached_spec", "_saved_kwargs", "render_mode", "_render_mode", "metadata", "_metadata"}
    | {"screen", "clock", "surf", "window", "window_surface", "viewer", "renderer", "mujoco_renderer", "font"}
)
_TABLES = frozenset({"P", "initial_state_distrib", "desc"})
"""Constant tables of Gymnasium's toy_text environments, too large to write them down again and again."""

_LONGEST = 64


class StateTracker:
    """Follows one environment, so that it can be put back as exactly as possible.

    Args:
        env: The environment.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._is_exact: bool | None = None
        self._opening: Any = None

    def before_reset(self) -> None:
        """Keep what a repetition of this reset would need, unless the environment is known to do without."""
        self._opening = None
        if not self._is_exact:
            _ = self._env.unwrapped.np_random  # Makes the generator now, where the reset would have done so.
            self._opening = capture_for_reset(self._env)

    def after_reset(self) -> None:
        """Find out, once, whether the environment can be captured at any time."""
        if self._is_exact is None:
            self._is_exact = capture(self._env)[0] is StateLevel.EXACT

    def capture(self, steps: int) -> tuple[StateLevel, Any]:
        """Where the environment is.

        Args:
            steps: Steps taken in the current episode.
        """
        level, tree = capture(self._env)
        self._is_exact = level is StateLevel.EXACT
        if level is StateLevel.EXACT or steps > 0 or self._opening is None:
            return level, tree
        return StateLevel.EPISODE_BOUNDARY, self._opening

    def restore(self, level: StateLevel, tree: Any) -> None:
        """Put the environment back; below `EXACT`, a reset has to follow.

        Raises:
            RLFrameworkError: The state is not one of this environment.
        """
        if level is StateLevel.EXACT:
            self._env.reset()  # So that everything is there that is made in a reset.
            self._is_exact = True
        restore(self._env, tree, strict=level is StateLevel.EXACT)


def capture(env: Environment) -> tuple[StateLevel, Any]:
    """Where an environment is, and whether that is all of it (`EXACT`) or not (`APPROXIMATE`)."""
    chain = _chain(env)
    encoder = Encoder(chain)
    attributes = []
    hidden = []
    for index, layer in enumerate(chain):
        before = len(encoder.unknown)
        attributes.append(encoder.attributes(layer, _skipped(layer), str(index)))
        if len(encoder.unknown) > before or not is_plain_object(layer):
            hidden.append(index)
    tree = _tree(chain, attributes)
    hook = _hook(chain, tree)
    simulated = next((layer for layer in reversed(chain) if mujoco_state.is_mujoco(layer)), None)
    if simulated is not None:
        tree["simulation"] = mujoco_state.capture(simulated)
    is_exact = all(hook is not None and index >= hook for index in hidden)
    return (StateLevel.EXACT if is_exact else StateLevel.APPROXIMATE), tree


def capture_for_reset(env: Environment) -> Any:
    """What the next reset may depend on, in the form of `capture`; cheap enough to be taken before every reset.

    Long lists are left out: those of a Box2D world hold the last episode's terrain, which a reset makes anew.
    """
    chain = _chain(env)
    encoder = Encoder(chain)
    attributes = [
        encoder.attributes(layer, _skipped(layer), str(index), longest=_LONGEST) for index, layer in enumerate(chain)
    ]
    return _tree(chain, attributes)


def restore(env: Environment, tree: Any, *, strict: bool = True) -> None:
    """Put an environment back to where `capture` saw it or one like it.

    Args:
        env: The environment.
        tree: What `capture` gave.
        strict: Refuse what cannot be put back, instead of leaving it as it is.

    Raises:
        RLFrameworkError: The state is not one of this environment.
    """
    chain = _chain(env)
    names = [_class_of(layer) for layer in chain]
    if names != list(tree["layers"]):
        raise RLFrameworkError(f"The state is one of {tree['layers']}, the environment here is {names}.")
    packages = {cls.__module__.partition(".")[0] for layer in chain for cls in type(layer).__mro__ if cls is not object}
    packages -= {"builtins"}
    decoder = Decoder(chain, packages)
    if tree["simulation"] is not None:
        mujoco_state.restore(chain[-1], tree["simulation"])
    hook = tree["hook"]
    for index, (layer, attributes) in enumerate(zip(chain, tree["attributes"], strict=True)):
        by_hook = hook is not None and index >= hook["layer"]
        decoder.attributes(layer, attributes, strict=strict and not by_hook)
    if hook is not None:
        _set_by_hook(chain[hook["layer"]], Decoder(chain, packages).decode(hook["state"], None))


def plain_observation(observation: Tree, space: gym.Space[Any]) -> list[Any]:
    """The leaves of an observation, copied, in the order of its space: an environment may give its parts in another."""
    return leaves(map_tree(lambda _, leaf: np.array(leaf), map_space(lambda leaf: leaf.dtype, space), observation))


def observation_from_plain(plain: list[Any], space: gym.Space[Any]) -> Tree:
    """The observation that `plain_observation` took apart."""
    arrays = iter(plain)
    return map_tree(lambda _: next(arrays), map_space(lambda leaf: leaf.dtype, space))


def _chain(env: Environment) -> list[Environment]:
    """Everything that has attributes of its own: the wrappers, the environment, the simulated one that it keeps."""
    return [*layers(env), *mujoco_state.nested(env)[:1]]


def _tree(chain: list[Environment], attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"layers": [_class_of(layer) for layer in chain], "attributes": attributes, "hook": None, "simulation": None}


def _hook(chain: list[Environment], tree: dict[str, Any]) -> int | None:
    """Ask the outermost layer that offers `get_state()` and `set_state(state)`, and give its index."""
    for index, layer in enumerate(chain):
        if callable(getattr(layer, "get_state", None)) and callable(getattr(layer, "set_state", None)):
            encoder = Encoder([*chain])
            node = encoder.encode(layer.get_state(), "get_state()")  # type: ignore[attr-defined]  # Just asked for.
            if not encoder.unknown:
                tree["hook"] = {"layer": index, "state": node}
                return index
    return None


def _set_by_hook(layer: Any, state: Any) -> None:
    layer.set_state(state)


def _skipped(layer: Environment) -> frozenset[str]:
    names = _SKIPPED | (_TABLES if type(layer).__module__.startswith("gymnasium.envs.toy_text") else frozenset())
    return names | mujoco_state.HANDLES if mujoco_state.is_mujoco(layer) else names


def _class_of(layer: Environment) -> str:
    return f"{type(layer).__module__}:{type(layer).__qualname__}"
