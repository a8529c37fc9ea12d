"""Who plays the rows of a game that nobody learns from: frozen policies, drawn for each game anew, or chance."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.policy import BoolArray, Policy, PolicyOutput
from rl_framework.core.seeding import isolated_randomness, isolated_sampling
from rl_framework.core.spaces import allocate, check_equal
from rl_framework.core.trees import Tree, batch_size, map_tree, select, stack
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import ArchiveError


class OpponentPool(Protocol):
    """Policies by name, one of which is drawn for each game."""

    def draw(self, generator: np.random.Generator) -> str | None:
        """Name of the opponent for one game; None for one that plays by chance."""
        ...

    def policy(self, name: str) -> Policy:
        """The opponent of that name.

        Raises:
            ArchiveError: It is not there any more.
        """
        ...


class SingleOpponent:
    """A pool of one.

    Args:
        policy: Who plays every game; None for chance.
    """

    def __init__(self, policy: Policy | None) -> None:
        self._policy = policy

    def draw(self, generator: np.random.Generator) -> str | None:  # noqa: ARG002  There is nothing to draw.
        """Always the same one."""
        return None if self._policy is None else "opponent"

    def policy(self, name: str) -> Policy:
        """The only one."""
        if self._policy is None:
            raise KeyError(name)
        return self._policy


class ChancePolicy:
    """Draws every allowed action with the same probability, from Python's global generator.

    Args:
        spec: Of the environments that it acts in.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.observation_space: gym.Space[Any] = spec.observation_space
        self.action_space: gym.Space[Any] = copy.deepcopy(spec.action_space)

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  It remembers nothing.
        action_masks: BoolArray | None = None,
        deterministic: bool = False,  # noqa: ARG002  No action is more probable than another.
    ) -> PolicyOutput:
        """Draw one action per observation; masks hold for Discrete and MultiDiscrete actions. `[B, ...]`"""
        self.action_space.seed(random.getrandbits(31))
        rows = range(batch_size(observations))
        masks = [None] * len(rows) if action_masks is None else list(action_masks)
        return PolicyOutput(stack([_sample(self.action_space, masks[row]) for row in rows]), state)


@dataclass(slots=True)
class Dice:
    """Where the random numbers of opponents come from: never from what the learner draws from.

    Attributes:
        seed: Of everything.
        stream: Of one run in the games; each gets another.
        throws: Steps taken in the stream.
    """

    seed: int
    stream: int = 0
    throws: int = 0

    def begin(self, stream: int | None) -> None:
        """Open a stream, the next one for None."""
        self.stream, self.throws = (self.stream + 1 if stream is None else stream), 0

    def generator(self, *place: int) -> np.random.Generator:
        """A generator that depends on seed, stream and a place alone."""
        return np.random.default_rng((self.seed, self.stream, *place))

    def throw(self) -> int:
        """A seed for one step."""
        self.throws += 1
        return int(np.random.SeedSequence((self.seed, self.stream, self.throws)).generate_state(1)[0])


class OpponentRows:
    """The policies that play some rows of several games, with their memories.

    Every policy in play acts on the whole batch and counts in its own rows only: its memory of the others is
    overwritten where an episode begins there.

    Args:
        pool: Where they are drawn from.
        spec: Of the whole batch of rows. B rows
        seed: Of draws and actions.
        deterministic: Whether they take their most probable actions.
    """

    def __init__(self, pool: OpponentPool, spec: EnvSpec, seed: int, *, deterministic: bool) -> None:
        self._pool = pool
        self._spec = spec
        self.dice = Dice(seed)
        self._deterministic = deterministic
        self._memories: dict[str | None, Tree] = {}
        self._policies: dict[str | None, Policy] = {None: ChancePolicy(spec)}
        self.names: list[str | None] = [None] * (spec.n_envs // spec.rows_per_game)

    @property
    def can_return(self) -> bool:
        """Whether those in play could go on elsewhere: none of them has a memory, and the pool still has them."""
        remembers = any(memory is not None for memory in self._memories.values())
        return not remembers and all(self._is_in_pool(name) for name in dict.fromkeys(self.names))

    def draw(self, game: int, episode: int) -> None:
        """Draw who plays a game's next episode; the same for the same seed, stream, game and episode.

        Raises:
            SpaceError: The opponent has other spaces than the game.
        """
        self.seat(game, self._pool.draw(self.dice.generator(game, episode)))

    def seat(self, game: int, name: str | None) -> None:
        """Let an opponent play a game.

        Raises:
            SpaceError: It has other spaces than the game.
        """
        if name not in self._policies:
            self._policies[name] = self._checked(name)
        self.names[game] = name
        self._policies = {each: self._policies[each] for each in dict.fromkeys([None, *self.names])}

    def forget(self) -> None:
        """Forget all that was seen, after a reset."""
        self._memories = {}

    def act(self, observations: Tree, masks: BoolArray | None, starts: BoolArray) -> Tree:
        """An action for every row by whoever plays its game. `[B, ...]`

        Args:
            observations: `[B, ...]`
            masks: Allowed actions, None without masks. `[B, n]`
            starts: Rows whose episode begins. `[B]`
        """
        actions = allocate(self._spec.action_space, self._spec.n_envs)
        players = list(dict.fromkeys(self.names))
        self._memories = {name: self._memories.get(name) for name in players}
        seed = self.dice.throw()
        with isolated_randomness(seed):
            for name in players:
                with isolated_sampling(self._policies[name].action_space, seed):
                    output = self._policies[name].act(
                        observations,
                        self._memories[name],
                        episode_starts=starts,
                        action_masks=masks,
                        deterministic=self._deterministic,
                    )
                self._memories[name] = output.state
                _put(actions, self._rows_of(name), output.actions)
        return actions

    def _is_in_pool(self, name: str | None) -> bool:
        try:
            return name is None or self._pool.policy(name) is not None
        except ArchiveError:
            return False

    def _checked(self, name: str | None) -> Policy:
        policy = self._pool.policy(str(name))
        for role in ("observation", "action"):
            ours, theirs = (getattr(each, f"{role}_space") for each in (self._spec, policy))
            check_equal(ours, theirs, role=role, who=f"the opponent {name!r}")
        return policy

    def _rows_of(self, name: str | None) -> list[int]:
        width = self._spec.rows_per_game
        games = [game for game, other in enumerate(self.names) if other == name]
        return [row for game in games for row in range(game * width, (game + 1) * width)]


def put_rows(target: Tree, rows: Sequence[int], values: Tree) -> None:
    """Write `values[i]` into `target[rows[i]]`, leaf by leaf."""

    def write(leaf: Any, part: Any) -> None:
        leaf[list(rows)] = part

    map_tree(write, target, values)


def _put(target: Tree, rows: Sequence[int], values: Tree) -> None:
    put_rows(target, rows, select(values, list(rows)))


def _sample(space: gym.Space[Any], mask: BoolArray | None) -> Any:
    if mask is None:
        return space.sample()
    if isinstance(space, spaces.Discrete):
        return space.sample(mask.astype(np.int8))
    if isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum(space.nvec)[:-1]
        return space.sample(tuple(part.astype(np.int8) for part in np.split(mask, ends)))
    return space.sample()
