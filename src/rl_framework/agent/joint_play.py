"""Agents at the table of one game: who owns which of its agents, and what each owner does there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from typing_extensions import override

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.shared_view import SharedView
from rl_framework.agent.turn_taking import Player, PlayerFailed, TurnTable, take_turns
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.policy import Policy, PolicyOutput, RewardConditioned
from rl_framework.core.reports import EpisodeSummary, TrainingSummary
from rl_framework.core.seeding import SeparateRandomness
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError
from rl_framework.evaluation.evaluate import run_episodes
from rl_framework.rollouts.stepping import check_spaces, steps

_INTERRUPTED = "interrupted by Ctrl-C"


@dataclass(frozen=True, slots=True)
class Owner:
    """One agent of ours and the agents of the game that it plays.

    Attributes:
        pattern: How the user named them.
        agent: Ours.
        names: Those of the game, in its order.
    """

    pattern: str
    agent: Agent
    names: tuple[str, ...]


def assign(agents: Mapping[str, Agent], names: Sequence[str]) -> list[Owner]:
    """Find for every agent of a game the one who plays it.

    Args:
        agents: Ours by a name, or a pattern of names (`adversary_*`).
        names: Those of the game.

    Raises:
        InvalidInputError: An agent of the game has no owner or two, or a pattern fits none.
    """
    for name in names:
        owners = [pattern for pattern in agents if fnmatchcase(name, pattern)]
        if len(owners) != 1:
            found = f"{owners} do" if owners else f"none of {list(agents)} does"
            raise InvalidInputError(
                f"Every agent of the game must fit exactly one name or pattern; of {name!r}, {found}. The game has "
                f"the agents {list(names)}."
            )
    result = [
        Owner(pattern, agent, tuple(name for name in names if fnmatchcase(name, pattern)))
        for pattern, agent in agents.items()
    ]
    for owner in result:
        if not owner.names:
            raise InvalidInputError(f"No agent of the game fits {owner.pattern!r}; it has {list(names)}.")
    return result


@contextmanager
def table_of(
    game: Any, agents: Mapping[str, Agent], n_games: int | None, *, seed: int | None = None
) -> Iterator[tuple[list[tuple[Owner, SharedView]], TurnTable]]:
    """Each owner with its rows of a shared game, for the length of a block.

    Args:
        game: A game of PettingZoo; see `BareGames`.
        agents: See `assign`.
        n_games: Copies of the game.
        seed: Of the first reset, whatever the owners ask for.

    Raises:
        InvalidInputError: It is no game, or its agents have no owner or two.
        SpaceError: An owner's agents have different spaces.
        MissingExtraError: PettingZoo is not installed.
    """
    from rl_framework.envs.pettingzoo.bare_games import BareGames
    from rl_framework.envs.pettingzoo.shared_game import SharedGames

    with closing(BareGames(game, n_games)) as bare:
        owners = assign(agents, bare.agents)
        shared = SharedGames(bare.games, {owner.pattern: owner.names for owner in owners})
        table = TurnTable(len(owners))
        views = [SharedView(shared, owner.pattern, table, player, seed=seed) for player, owner in enumerate(owners)]
        yield list(zip(owners, views, strict=True)), table


class Learner:
    """Trains, then plays on for the others.

    Args:
        owner: Whose.
        view: Its rows.
        train: Trains its agent in the rows.
        seed: Of its actions once it has learned.
    """

    def __init__(
        self, owner: Owner, view: SharedView, train: Callable[[VectorEnv], TrainingSummary], *, seed: int
    ) -> None:
        self._owner = owner
        self._view = view
        self._train = train
        self._seed = seed

    def work(self) -> TrainingSummary:
        """Train."""
        return self._train(self._view)

    def keep_company(self) -> None:
        """Act as learned, without learning."""
        _act(self._owner, self._view, self._seed)


class Partner:
    """Plays without learning, as long as somebody learns.

    Args:
        owner: Who.
        view: Its rows.
        seed: Of its actions.
    """

    def __init__(self, owner: Owner, view: SharedView, *, seed: int) -> None:
        check_spaces(owner.agent.policy, view, f"the game for {owner.pattern!r}")
        self._owner = owner
        self._view = view
        self._seed = seed

    def work(self) -> None:
        """Be there when the game begins."""
        self._view.reset()

    def keep_company(self) -> None:
        """Act."""
        _act(self._owner, self._view, self._seed)


class Performer:
    """Plays some episodes.

    Args:
        owner: Who.
        view: Its rows.
        schedules: Seeds of the episodes of each row.
        deterministic: The most probable actions instead of sampled ones.
    """

    def __init__(
        self, owner: Owner, view: SharedView, schedules: Sequence[Sequence[int]], *, deterministic: bool
    ) -> None:
        check_spaces(owner.agent.policy, view, f"the game for {owner.pattern!r}")
        self._owner = owner
        self._view = view
        self._schedules = schedules
        self._deterministic = deterministic

    def work(self) -> list[EpisodeSummary]:
        """Play all of them."""
        return run_episodes(self._owner.agent.policy, self._view, self._schedules, deterministic=self._deterministic)

    def keep_company(self) -> None:
        """Nothing: the others end in the same step."""


class Interruption(Callback):
    """Ends several runs at their next boundaries once it is asked to."""

    def __init__(self) -> None:
        self._runs: list[RunHandle] = []
        self._is_asked = False

    def ask(self) -> None:
        """Ask all runs for their end, also those that have not begun yet."""
        self._is_asked = True
        for run in self._runs:
            run.stop(_INTERRUPTED)

    @override
    def on_training_start(self, run: RunHandle) -> None:
        """Remember one of them."""
        self._runs.append(run)
        if self._is_asked:
            run.stop(_INTERRUPTED)


def play_together(
    owners: Sequence[Owner], table: TurnTable, players: Sequence[Player], interruption: Interruption
) -> list[Any]:
    """Let owners do their work in turns; see `take_turns`.

    Raises:
        EnvironmentFailure: The game failed.
        InvalidInputError: One of the agents does not fit; the message says whose.
        RLFrameworkError: One of the agents failed; the message says whose.
    """
    try:
        return take_turns(table, players, on_interrupt=interruption.ask)
    except PlayerFailed as failed:
        error = failed.error
        if isinstance(error, EnvironmentFailure) or not isinstance(error, Exception):
            raise error from error.__cause__
        family = InvalidInputError if isinstance(error, InvalidInputError) else RLFrameworkError
        kind = "" if isinstance(error, RLFrameworkError) else f"{type(error).__name__}: "
        raise family(f"The agent for {owners[failed.player].pattern!r} failed: {kind}{error}") from error


class _SeededPolicy:
    """A policy that draws random numbers of its own, which neither depend on what others draw nor disturb it."""

    def __init__(self, policy: Policy, seed: int) -> None:
        self.observation_space, self.action_space = policy.observation_space, policy.action_space
        self._policy = policy
        self._randomness = SeparateRandomness(seed, policy.action_space)

    def act(self, observations: Tree, state: Tree = None, **options: Any) -> PolicyOutput:
        with self._randomness.turn():
            return self._policy.act(observations, state, **options)


class _SeededConditionedPolicy(_SeededPolicy):
    """The same of one that wants to know what its actions earned."""

    def __init__(self, policy: Policy, seed: int, conditioned: RewardConditioned) -> None:
        super().__init__(policy, seed)
        self.with_rewards = conditioned.with_rewards


def _act(owner: Owner, view: SharedView, seed: int) -> None:
    for _ in steps(_seeded(owner.agent.policy, seed), view, view.observations, deterministic=False):
        pass


def _seeded(policy: Policy, seed: int) -> Policy:
    if isinstance(policy, RewardConditioned):
        return _SeededConditionedPolicy(policy, seed, policy)
    return _SeededPolicy(policy, seed)
