"""A game of several agents as one of them sees it: the others belong to the environment and are played for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray, Policy
from rl_framework.core.trees import Tree, copy_tree, select
from rl_framework.envs.batch import ActionReader
from rl_framework.envs.opponents import OpponentPool, OpponentRows, SingleOpponent, put_rows
from rl_framework.envs.serial import check_schedule, check_state, selected_rows
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, ReportsStatistics, StateLevel, VectorEnv, VectorStep
from rl_framework.errors import ArchiveError, InvalidInputError, RLFrameworkError, UnknownOptionError

ALTERNATING = "alternating"
logger = logging.getLogger(__name__)


class OpponentGame:
    """Copies of a game in which only the learner's agents are rows; frozen policies act for the others.

    For every episode of every copy an opponent is drawn from a pool; it acts for all agents but the learner's. The
    learner and its opponents see the same spaces. It is a `VectorEnv`, to be given to `train`, `evaluate` and the
    like as it is, and stays open until its `close`.

    Args:
        game: Whatever `train` takes for a game of several agents, such as a PettingZoo `ParallelEnv`.
        learner: Names of the agents that learn; `"alternating"`: one agent, and in each episode of a copy the next.
        opponents: Who plays against it: a pool such as the callback `SelfPlay`, one policy, or None for chance.
        n_games: Copies of the game side by side; as many as were given if None.
        seed: Of draws and of the opponents' actions, together with that of each reset.
        deterministic: Whether the opponents take their most probable actions.

    Raises:
        InvalidInputError: It is not a game of several agents, or nobody is left to play against.
        UnknownOptionError: It has no agent of that name.
    """

    def __init__(
        self,
        game: Any,
        learner: str | Sequence[str] = ALTERNATING,
        *,
        opponents: OpponentPool | Policy | None = None,
        n_games: int | None = None,
        seed: int = 0,
        deterministic: bool = False,
    ) -> None:
        pool = _as_pool(opponents)
        self._whole: VectorEnv = open_environments(game, n_envs=n_games)
        self._is_open = True
        try:
            self._seats = _Seats(self._whole.spec, learner)
        except BaseException:
            self.close()
            raise
        self._opponents = OpponentRows(pool, self._whole.spec, seed, deterministic=deterministic)
        self._actions = ActionReader(self._whole.spec.action_space, self._seats.count)
        self._observations: Tree = None
        self._starts = np.ones(self._whole.spec.n_envs, np.bool_)

    @property
    def _game(self) -> VectorEnv:
        if not self._is_open:
            raise RLFrameworkError("These environments are closed; open them anew.")
        return self._whole

    @property
    def spec(self) -> EnvSpec:
        """What is known about the learner's rows."""
        return replace(
            self._whole.spec,
            n_envs=self._seats.count,
            row_agents=self._seats.row_agents,
            rows_per_game=self._seats.per_game,
        )

    @property
    def opponent_names(self) -> tuple[str | None, ...]:
        """Who plays against the learner now, copy by copy; None for chance."""
        return tuple(self._opponents.names)

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions of the learner. `[B, n]`"""
        masks = self._whole.action_masks
        return None if masks is None else masks[self._seats.rows]

    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every copy, from the first side on. `[B, ...]`"""
        return self._open(self._game.reset(seed), seed)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Open an episode in every copy, which plays the seeds of its first learner row and then rests. `[B, ...]`"""
        check_schedule(seeds, self._seats.count)
        width = self._game.spec.rows_per_game
        schedules = [schedule for schedule in seeds[:: self._seats.per_game] for _ in range(width)]
        first = next((schedule[0] for schedule in schedules if schedule), None)
        return self._open(self._game.reset_to_schedule(schedules), first)

    def send(self, actions: Tree) -> None:
        """Start one step: the learner's actions, and those of its opponents. `[B, ...]`"""
        game = self._game
        if self._observations is None:
            raise RLFrameworkError("These environments have no episode yet: call reset() first.")
        own = self._actions.read(actions)
        joint = self._opponents.act(self._observations, game.action_masks, self._starts)
        put_rows(joint, self._seats.rows, own)
        game.send(joint)

    def recv(self) -> VectorStep:
        """Wait for the step that `send` started, and give what the learner sees of it."""
        step = self._game.recv()
        played = list(self._seats.rows)
        place = {row: index for index, row in enumerate(played)}
        self._observations, self._starts = step.observations, step.terminated | step.truncated
        for game in self._seats.games_of(np.flatnonzero(self._starts)):
            self._seats.next_episode(game)
            self._opponents.draw(game, self._seats.episodes[game])
        return VectorStep(
            observations=self._view(),
            rewards=step.rewards[played],
            terminated=step.terminated[played],
            truncated=step.truncated[played],
            final={place[row]: final for row, final in step.final.items() if row in place},
            infos=[step.infos[row] for row in played],
            episodes=tuple(replace(each, row=place[each.row]) for each in step.episodes if each.row in place),
        )

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the games, by the learner's rows."""
        return self._game.call(name, *arguments, rows=self._behind(rows), **options)

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the games, by the learner's rows."""
        return self._game.get_attribute(name, self._behind(rows))

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the games."""
        self._game.set_attribute(name, value, self._behind(rows))

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of a row's game, `[height, width, 3]`."""
        return self._game.render(self._behind([row])[0])

    def drain_statistics(self) -> Mapping[str, float]:
        """What the games reported since the last call."""
        return self._whole.drain_statistics() if isinstance(self._whole, ReportsStatistics) else {}

    def get_state(self) -> EnvironmentState:
        """Where the games are and who plays them.

        As exact as the games; approximate where an opponent remembers, or has left its pool in the meantime.
        """
        state = self._game.get_state()
        everything = {
            "game": list(state.rows),
            "level": int(state.level),
            "episodes": list(self._seats.episodes),
            "opponents": list(self._opponents.names),
            "starts": self._starts.copy(),
            "dice": [self._opponents.dice.stream, self._opponents.dice.throws],
        }
        level = state.level if self._opponents.can_return else StateLevel.APPROXIMATE
        return EnvironmentState(level=level, rows=(everything, *[None] * (self._seats.count - 1)))

    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the games back, or open new episodes where they could not be captured. `[B, ...]`"""
        check_state(state, self._seats.count)
        kept = state.rows[0]
        observations = self._game.set_state(EnvironmentState(level=StateLevel(kept["level"]), rows=tuple(kept["game"])))
        if StateLevel(kept["level"]) is StateLevel.APPROXIMATE:
            return self._open(observations, None)
        self._seats.episodes = [int(episode) for episode in kept["episodes"]]
        self._opponents.dice.stream, self._opponents.dice.throws = (int(number) for number in kept["dice"])
        self._opponents.forget()
        for game, name in enumerate(kept["opponents"]):
            self._seat_again(game, name)
        self._observations = observations
        self._starts = np.array(kept["starts"], np.bool_)
        return self._view()

    def close(self) -> None:
        """Close the copies that this object opened; calling it twice is fine."""
        self._is_open = False
        self._whole.close()

    def _open(self, observations: Tree, seed: int | None) -> Tree:
        self._opponents.dice.begin(seed)
        self._seats.episodes = [0] * self._seats.n_games
        self._opponents.forget()
        for game in range(self._seats.n_games):
            self._opponents.draw(game, 0)
        self._observations = observations
        self._starts = np.ones(self._game.spec.n_envs, np.bool_)
        return self._view()

    def _seat_again(self, game: int, name: str | None) -> None:
        try:
            self._opponents.seat(game, name)
        except ArchiveError:
            logger.warning("The opponent %s of game %d is not there any more; another one plays on.", name, game)
            self._opponents.draw(game, self._seats.episodes[game])

    def _view(self) -> Tree:
        return copy_tree(select(self._observations, self._seats.rows))

    def _behind(self, rows: Sequence[int] | None) -> list[int]:
        return [self._seats.rows[row] for row in selected_rows(rows, self._seats.count)]


class _Seats:
    """Which rows of the games are the learner's."""

    def __init__(self, spec: EnvSpec, learner: str | Sequence[str]) -> None:
        self._width = spec.rows_per_game
        if spec.row_agents is None or self._width < 2:
            raise InvalidInputError(
                "Expected a game of several agents, such as a PettingZoo ParallelEnv or 'pettingzoo:<name>'; the "
                "environments given have one agent each. Train in them directly."
            )
        names = list(spec.row_agents[: self._width])
        self.n_games = spec.n_envs // self._width
        self.episodes = [0] * self.n_games
        self._fixed = None if learner == ALTERNATING else _indices(names, learner)
        self.per_game = 1 if self._fixed is None else len(self._fixed)
        self.row_agents = None if self._fixed is None else tuple(names[seat] for seat in self._fixed) * self.n_games

    @property
    def count(self) -> int:
        """Number of the learner's rows."""
        return self.n_games * self.per_game

    @property
    def rows(self) -> list[int]:
        """The learner's rows among those of the games, now."""
        return [game * self._width + seat for game in range(self.n_games) for seat in self._seats(game)]

    def next_episode(self, game: int) -> None:
        """Move the learner on where it takes sides in turn; copy k begins with the k-th side."""
        self.episodes[game] += 1

    def games_of(self, rows: Iterable[int]) -> list[int]:
        """The games that rows belong to."""
        return sorted({int(row) // self._width for row in rows})

    def _seats(self, game: int) -> list[int]:
        return [(game + self.episodes[game]) % self._width] if self._fixed is None else self._fixed


def _indices(names: Sequence[str], learner: str | Sequence[str]) -> list[int]:
    wanted = [learner] if isinstance(learner, str) else list(learner)
    for name in wanted:
        if name not in names:
            raise UnknownOptionError.of("agent of the game", name, [*names, ALTERNATING])
    if not 0 < len(set(wanted)) < len(names):
        raise InvalidInputError(f"Expected some of the agents {list(names)} as learner, but not all; got {wanted}.")
    return [seat for seat, name in enumerate(names) if name in wanted]


def _as_pool(opponents: OpponentPool | Policy | None) -> OpponentPool:
    if opponents is None or isinstance(opponents, Policy):
        return SingleOpponent(opponents)
    if not hasattr(opponents, "draw"):
        raise InvalidInputError(
            f"Expected a pool of opponents such as SelfPlay, a policy, or None for chance; got {opponents!r}. Of an "
            "agent, its policy is agent.policy."
        )
    return opponents
