"""Games of several agents as rows that share their parameters: one row per agent of each copy of the game.

A row lasts as long as its game, so that all rows of a game begin and end together. While its agent is not there (it
died, is not born yet, or is away), a row sees zeros, its actions are ignored and it earns 0; when the agent returns,
the row goes on. At the game's end each row says how its own agent ended: an agent that died long before a time limit
cut the game ends `terminated`, the survivors `truncated`. Those of whom the game said nothing share the end of the last
players.

What this means for values: the death of an agent is no end of its row. Its value after death is that of the zeros it
sees from then on, where every reward is 0, so a critic learns about 0 for it, and more than 0 only where agents return;
a time limit bootstraps only for those who were alive. Transitions with `infos[row]["active"]` False have no influence
on the game; a learner may leave them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.envs.batch import ActionReader, StepBatch
from rl_framework.envs.pettingzoo.game_env import STEP_KEY, AgentRemarks, AgentSpaces, GameEnv
from rl_framework.envs.pettingzoo.turns import Game
from rl_framework.envs.serial import SerialVectorEnv, check_schedule, check_state, selected_rows
from rl_framework.envs.source import check_together
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError


class PettingZooVectorEnv:
    """A `VectorEnv` whose rows are the agents of games: those of the first game, then those of the second, and so on.

    All rows of a game share its seed: game g is opened with the g-th seed derived from that of `reset`. Of the
    schedules of a game's rows, the longest (of equally long ones, the first) gives the seeds of its episodes; a row
    whose own schedule is shorter plays on with the actions sent, but is not reported any more. A summary names the
    seed that was used.

    A method is called once per game, and its result given for each of the rows asked for.

    Args:
        games: The games, which stay the caller's to close, all with the same agents and spaces; or the vector
            environment that steps their `GameEnv`s, which is closed with this one.
        id: What the games were made from, None if that has no name.

    Raises:
        InvalidInputError: A game that does not declare its agents, the same game twice, other agents than the first.
        SpaceError: Agents with different spaces, or spaces that are not supported.
    """

    def __init__(self, games: Sequence[Game] | VectorEnv, *, id: str | None = None) -> None:  # noqa: A002  # as in EnvSpec
        self._games = _stepped_here(games) if isinstance(games, Sequence) else games
        known = _common_agents(self._games)
        self._agents, self._per_game = known.agents, len(known.agents)
        inner = self._games.spec
        rows = inner.n_envs * self._per_game
        self._spec = replace(
            inner,
            n_envs=rows,
            observation_space=known.observation_space,
            action_space=known.action_space,
            id=id,
            row_agents=known.agents * inner.n_envs,
            rows_per_game=self._per_game,
            n_games=inner.n_envs,
            has_action_masks=known.has_masks,
        )
        self._actions = ActionReader(known.action_space, rows)
        self._totals = np.zeros(rows)
        self._lengths = np.zeros(rows, np.int64)
        self._left: list[int | None] = [None] * rows

    @property
    def spec(self) -> EnvSpec:
        """What is known about the games; masks that travel in infos are known after the first reset."""
        return self._spec

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions for the current observations; agents that are not there may do anything. `[B, n]`"""
        masks = self._games.action_masks
        return None if masks is None else masks.reshape(self._spec.n_envs, -1)

    @property
    def present(self) -> BoolArray:
        """Whether each row's agent is in its game now. `[B]`"""
        return np.array(self._games.get_attribute("present"), np.bool_).reshape(-1)

    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every game. `[B, ...]`"""
        return self._start(lambda: self._games.reset(seed), [None] * self._spec.n_envs)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Open an episode in every game, which plays its seeds one by one and then rests. `[B, ...]`"""
        check_schedule(seeds, self._spec.n_envs)
        longest = [max(seeds[self._rows_of(game)], key=len) for game in range(self._games.spec.n_envs)]
        return self._start(lambda: self._games.reset_to_schedule(longest), [len(row) for row in seeds])

    def send(self, actions: Tree) -> None:
        """Start one step in every game. `[B, ...]`"""
        read = self._actions.read(actions)
        with self._translated():
            self._games.send(map_tree(self._by_game, read))

    def recv(self) -> VectorStep:
        """Wait for the step that `send` started."""
        with self._translated():
            taken = self._games.recv()
        batch, infos = self._spread(taken.infos)
        self._totals += batch.rewards
        reported = np.array([left is None or left > 0 for left in self._left])
        terminated, truncated = batch.terminated & reported, batch.truncated & reported
        return VectorStep(
            observations=map_tree(self._by_row, taken.observations),
            rewards=np.where(reported, batch.rewards, 0.0),
            terminated=terminated,
            truncated=truncated,
            final={
                int(row): select(taken.final[row // self._per_game], row % self._per_game)
                for row in np.flatnonzero(terminated | truncated)
            },
            infos=infos,
            episodes=tuple(self._close_books(taken.episodes, infos)),
        )

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the games, or of a layer of them."""
        return self._for_rows(rows, lambda games: self._games.call(name, *arguments, rows=games, **options))

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the games, or of a layer of them."""
        return self._for_rows(rows, lambda games: self._games.get_attribute(name, games))

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the games, on the layer that has it."""
        chosen = selected_rows(rows, self._spec.n_envs)
        with self._translated():
            self._games.set_attribute(name, value, sorted({row // self._per_game for row in chosen}))

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of the game that a row belongs to, `[height, width, 3]`."""
        with self._translated():
            return self._games.render(selected_rows([row], self._spec.n_envs)[0] // self._per_game)

    def get_state(self) -> EnvironmentState:
        """Where the games are; the first row of each has the game, the others only their books."""
        with self._translated():
            state = self._games.get_state()
        rows = [
            {
                "game": state.rows[row // self._per_game] if row % self._per_game == 0 else None,
                "total": float(self._totals[row]),
                "length": int(self._lengths[row]),
                "left": self._left[row],
            }
            for row in range(self._spec.n_envs)
        ]
        return EnvironmentState(level=state.level, rows=tuple(rows))

    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the games back; those that could not be captured start a new episode. `[B, ...]`"""
        check_state(state, self._spec.n_envs)
        games = tuple(row["game"] for row in state.rows[:: self._per_game])
        observations = self._start(
            lambda: self._games.set_state(EnvironmentState(level=state.level, rows=games)),
            [row["left"] for row in state.rows],
        )
        for index, row in enumerate(state.rows):
            if games[index // self._per_game]["level"] == StateLevel.EXACT:
                self._totals[index], self._lengths[index] = row["total"], row["length"]
        return observations

    def close(self) -> None:
        """Close what steps the games; games that the caller made stay open. Calling it twice is fine."""
        self._games.close()

    def _start(self, begin: Callable[[], Tree], left: list[int | None]) -> Tree:
        """Let every row show an observation, without a step."""
        with self._translated():
            observations = begin()
        self._totals[:], self._lengths[:], self._left = 0.0, 0, left
        self._spec = replace(self._spec, has_action_masks=self._games.spec.has_action_masks)
        return map_tree(self._by_row, observations)

    def _spread(self, infos: Sequence[Mapping[str, Any]]) -> tuple[StepBatch, list[dict[str, Any]]]:
        """What the games remarked, row by row; nothing for games that rest."""
        count = self._spec.n_envs
        batch = StepBatch(None, np.zeros(count), np.zeros(count, np.bool_), np.zeros(count, np.bool_))
        spread: list[dict[str, Any]] = [{} for _ in range(count)]
        for game, info in enumerate(infos):
            remarks: AgentRemarks | None = info.get(STEP_KEY)
            if remarks is not None:
                rows = self._rows_of(game)
                batch.rewards[rows], spread[rows] = remarks.rewards, remarks.infos
                batch.terminated[rows], batch.truncated[rows] = remarks.terminated, remarks.truncated
                self._lengths[rows] += 1
        return batch, spread

    def _close_books(self, ended: Sequence[EpisodeSummary], infos: Sequence[dict[str, Any]]) -> list[EpisodeSummary]:
        """The summaries of the episodes of all rows that are still reported, for those of their games."""
        closed = []
        for game in ended:
            for row in range(*self._rows_of(game.row).indices(self._spec.n_envs)):
                left = self._left[row]
                if left is None or left > 0:
                    self._left[row] = None if left is None else left - 1
                    closed.append(self._summary(row, game, infos[row]))
                self._totals[row], self._lengths[row] = 0.0, 0
        return closed

    def _summary(self, row: int, game: EpisodeSummary, info: Mapping[str, Any]) -> EpisodeSummary:
        success = info.get("is_success")
        return EpisodeSummary(
            row=row,
            total_reward=float(self._totals[row]),
            length=int(self._lengths[row]),
            success=None if success is None else bool(success),
            seed=game.seed,
            agent=self._agents[row % self._per_game],
        )

    def _rows_of(self, game: int) -> slice:
        return slice(game * self._per_game, (game + 1) * self._per_game)

    def _by_row(self, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return leaf.reshape(self._spec.n_envs, *leaf.shape[2:])

    def _by_game(self, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return leaf.reshape(-1, self._per_game, *leaf.shape[1:])

    def _for_rows(self, rows: Sequence[int] | None, ask: Callable[[list[int]], list[Any]]) -> list[Any]:
        chosen = selected_rows(rows, self._spec.n_envs)
        games = sorted({row // self._per_game for row in chosen})
        with self._translated():
            answers = dict(zip(games, ask(games), strict=True))
        return [answers[row // self._per_game] for row in chosen]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Let a failure of a game name the row of the agent that it is about, else the game's first row."""
        try:
            yield
        except EnvironmentFailure as error:
            message = str(error).partition(": ")[2].partition("\n\nTraceback in the worker")[0]
            about = [place for place, agent in enumerate(self._agents) if message.startswith(f"agent {agent!r}: ")]
            row = error.row * self._per_game + (about[0] if about else 0)
            raise type(error)(
                message, row=row, step=error.step, remote_traceback=error.remote_traceback
            ) from error.__cause__


def _stepped_here(games: Sequence[Game]) -> SerialVectorEnv:
    """The games one after the other in this process."""
    check_distinct(games)
    environments = [GameEnv(game) for game in games]
    check_together(environments)
    return SerialVectorEnv(environments, owned=False)


def check_distinct(games: Sequence[object]) -> None:
    """Refuse no games at all, and the same game twice.

    Raises:
        InvalidInputError: As it says.
    """
    if not games:
        raise InvalidInputError("The list of games is empty. Pass at least one.")
    seen: dict[int, int] = {}
    for index, game in enumerate(games):
        if id(game) in seen:
            raise InvalidInputError(f"Games {seen[id(game)]} and {index} are the same object. Make one for each copy.")
        seen[id(game)] = index


def _common_agents(games: VectorEnv) -> AgentSpaces:
    """The agents of the games, which are numbered, so that what goes wrong in one says in which."""
    for number in range(games.spec.n_envs):
        games.call("take_number", number, rows=[number])
    all_known: list[AgentSpaces] = games.get_attribute("agent_spaces")
    for number, known in enumerate(all_known):
        if known.agents != all_known[0].agents:
            raise InvalidInputError(
                f"Game {number} has the agents {list(known.agents)}, game 0 has {list(all_known[0].agents)}. All "
                "copies need the same, in the same order."
            )
    return all_known[0]
