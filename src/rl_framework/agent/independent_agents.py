"""Several agents in one game, each with a policy of its own: independent learners of any kind, side by side."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.catalog import load_agent
from rl_framework.agent.joint_play import (
    Interruption,
    Learner,
    Owner,
    Partner,
    Performer,
    play_together,
    table_of,
)
from rl_framework.agent.learning_agent import CallbackLike, check_timesteps
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.agent.shared_view import SharedView
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.checkpoints.archive import replace_in_one_step
from rl_framework.core.reports import TrainingSummary
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    NewerFormatError,
    UnknownOptionError,
)
from rl_framework.evaluation.evaluate import as_evaluation
from rl_framework.evaluation.evaluation import Evaluation
from rl_framework.rollouts.stepping import check_plan

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker

INDEX_FILE = "independent_agents.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """What a joint run is given, owner by owner."""

    callbacks: Mapping[str, Sequence[CallbackLike]]
    connectors: Mapping[str, Tracker]
    checkpoint: Path | None
    every_timesteps: int
    seed: int


class IndependentAgents:
    """Agents of any kind that play one game together, each for itself.

    Every agent of the game belongs to exactly one of ours, by its name or by a pattern such as `adversary_*`. Ours may
    be of different kinds and engines, and see different spaces; several agents of the game that belong to one of ours
    need equal ones and share its policy. An agent that cannot learn by acting plays as it has learned to.

    To each, the others are a part of the world that changes while it learns. The runs take turns in a fixed order, so
    that a joint run is reproducible.

    Args:
        agents: Ours, by the names of the game's agents or patterns of them.

    Raises:
        InvalidInputError: There are none, or one of them stands there twice.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        if not agents:
            raise InvalidInputError("Expected at least one agent, as {'name or pattern': agent}; got none.")
        for pattern, agent in agents.items():
            if not isinstance(agent, Agent):
                raise InvalidInputError(f"Expected an agent for {pattern!r}, got {agent!r}.")
        if len({id(agent) for agent in agents.values()}) < len(agents):
            raise InvalidInputError(
                "One agent stands there for two patterns. To share a policy among agents of the game, give one pattern "
                "that fits them all, such as '[ab]_*'."
            )
        self.agents = dict(agents)

    def train(
        self,
        game: Any,
        total_timesteps: int,
        *,
        n_envs: int | None = None,
        callbacks: Mapping[str, Sequence[CallbackLike]] | None = None,
        connectors: Mapping[str, Tracker] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10_000,
        seed: int | None = None,
    ) -> dict[str, TrainingSummary]:
        """Let all agents learn from each other's company.

        One that has its steps first goes on acting, without learning, until the others are done.

        Args:
            game: A game of PettingZoo (`ParallelEnv` or `AECEnv`), a list of them, a function that makes one, or a
                name such as `pettingzoo:mpe/simple_tag`.
            total_timesteps: Steps of agents, over all agents of all copies of the game; each of ours learns from those
                of its own.
            n_envs: Copies of the game.
            callbacks: What watches each run, by the patterns given to the class.
            connectors: Where the numbers of each run go, by the patterns given to the class.
            checkpoint: A folder for checkpoints of all of them, which `load` takes.
            checkpoint_every: Steps of each agent between two of its checkpoints.
            seed: Of the game, and of agents that act without learning. If None, the first agent's own seed is the
                game's.

        Returns:
            How each run ended, by pattern; those that only played are left out.

        Raises:
            InvalidInputError: An argument does not fit, or an agent of the game has no owner or two.
            SpaceError: An agent of ours has agents of the game with different spaces, or other spaces than before.
            EnvironmentFailure: The game raised, or gave a NaN or infinite number.
            RLFrameworkError: One of the agents failed; the others were ended, too.
            KeyboardInterrupt: Ctrl-C, after all runs came to a point where they can be continued from.
        """
        check_timesteps(total_timesteps)
        options = self._options(callbacks, connectors, checkpoint, checkpoint_every, seed)

        def run(agent: RLAgent, view: SharedView, **watched: Any) -> TrainingSummary:
            rows, all_rows = view.spec.rows_per_game, view.agents_per_game
            return agent.train(view, -(-total_timesteps * rows // all_rows), progress_bar=False, **watched)

        return self._conduct(game, n_envs, seed, options, run)

    def resume(
        self,
        game: Any,
        *,
        n_envs: int | None = None,
        callbacks: Mapping[str, Sequence[CallbackLike]] | None = None,
        connectors: Mapping[str, Tracker] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10_000,
    ) -> dict[str, TrainingSummary]:
        """Finish an interrupted call of `train`: every agent goes on where it was, and the game starts new episodes.

        Args:
            game: A game like that of the interrupted call.
            n_envs: As many copies as then.
            callbacks: As for `train`.
            connectors: As for `train`.
            checkpoint: As for `train`.
            checkpoint_every: As for `train`.

        Raises:
            InvalidInputError: There is nothing to resume, or the game is not like that of then.
        """
        options = self._options(callbacks, connectors, checkpoint, checkpoint_every, None)

        def run(agent: RLAgent, view: SharedView, **watched: Any) -> TrainingSummary:
            return agent.resume(view, progress_bar=False, **watched)

        return self._conduct(game, n_envs, None, options, run)

    def evaluate(
        self,
        game: Any,
        n_eval_episodes: int = 100,
        *,
        deterministic: bool = False,
        seed: int | None = None,
        n_envs: int = 1,
    ) -> dict[str, Evaluation]:
        """Play whole games with all agents, and give what each agent of the game earned, by its name.

        Args:
            game: As for `train`.
            n_eval_episodes: Number of games; every agent plays an episode in each.
            deterministic: The most probable actions instead of sampled ones.
            seed: From which the seeds of all games are derived; drawn and written down if None.
            n_envs: Copies of the game side by side.

        Raises:
            NotTrainedError: One of the agents was never trained.
            InvalidInputError: An agent of the game has no owner or two.
            SpaceError: An agent's spaces are not those of its agents in the game.
            EnvironmentFailure: The game raised, or gave a NaN or infinite number.
        """
        check_plan("n_eval_episodes", n_eval_episodes, n_envs, seed)
        seed = fresh_seed() if seed is None else seed
        n_games = min(n_envs, n_eval_episodes)
        seeds = derive_seeds(seed, n_eval_episodes)
        results: dict[str, Evaluation] = {}
        with table_of(game, self.agents, n_games) as (seated, table), isolated_randomness(seed):
            players = [
                Performer(owner, view, _schedules(seeds, view), deterministic=deterministic) for owner, view in seated
            ]
            start = time.perf_counter()
            played = play_together([owner for owner, _ in seated], table, players, Interruption())
            duration = time.perf_counter() - start
            for (_, view), episodes in zip(seated, played, strict=True):
                results |= as_evaluation(episodes, view.spec, deterministic, seed, duration).by_agent()
        return results

    def save(self, folder: str | Path) -> Path:
        """Save all agents into a folder, each as it saves itself; what was there before is replaced in one step.

        Raises:
            NotTrainedError: One of them was never trained.
            InvalidInputError: Something else is in the way.
            ArchiveError: It could not be written.
        """
        target = Path(folder).expanduser()
        if target.exists() and not (target / INDEX_FILE).is_file():
            raise InvalidInputError(f"{target} is there and holds no independent agents. Give another folder.")
        for agent in self.agents.values():
            _ = agent.policy  # Says so before anything is written if it was never trained.
        replace_in_one_step(target, self._write, own_files=_own_files)
        return target

    @classmethod
    def load(cls, folder: str | Path, *, trust: Sequence[str] = ()) -> IndependentAgents:
        """Load what `save` wrote, or the latest checkpoints of a joint run.

        Args:
            folder: The folder.
            trust: Modules besides the allow-listed ones from which classes named in the files may be imported.

        Raises:
            MissingArchiveError: There is nothing of the kind.
            CorruptArchiveError: It is damaged.
            NewerFormatError: A newer version of this library wrote it.
            UnsafeArchiveError: It names a class that is not trusted. Nothing was executed.
        """
        place = Path(folder).expanduser()
        return cls({pattern: load_agent(place / name, trust=trust) for pattern, name in _read_index(place).items()})

    def _conduct(
        self,
        game: Any,
        n_envs: int | None,
        seed: int | None,
        options: _Options,
        run: Callable[..., TrainingSummary],
    ) -> dict[str, TrainingSummary]:
        interruption = Interruption()
        if not any(isinstance(agent, RLAgent) for agent in self.agents.values()):
            raise InvalidInputError("None of the agents learns by acting. Give at least one RLAgent to train.")
        with table_of(game, self.agents, n_envs, seed=seed) as (seated, table):
            if options.checkpoint is not None:
                options.checkpoint.mkdir(parents=True, exist_ok=True)
                self._write_index(options.checkpoint)
            players = [self._player(owner, view, options, interruption, run) for owner, view in seated]
            outcomes = play_together([owner for owner, _ in seated], table, players, interruption)
        return {
            owner.pattern: outcome for (owner, _), outcome in zip(seated, outcomes, strict=True) if outcome is not None
        }

    def _player(
        self,
        owner: Owner,
        view: SharedView,
        options: _Options,
        interruption: Interruption,
        run: Callable[..., TrainingSummary],
    ) -> Learner | Partner:
        agent = owner.agent
        seed = derive_seeds(options.seed, len(self.agents))[list(self.agents).index(owner.pattern)]
        place = None if options.checkpoint is None else options.checkpoint / self._folder_names()[owner.pattern]
        if not isinstance(agent, RLAgent):
            partner = Partner(owner, view, seed=seed)
            if place is not None:
                agent.save(place)
            return partner
        schedule = None if place is None else CheckpointSchedule(place, options.every_timesteps)
        watched = {
            "callbacks": [*options.callbacks.get(owner.pattern, ()), interruption],
            "connector": options.connectors.get(owner.pattern),
            "checkpoint": schedule,
        }
        return Learner(owner, view, lambda rows: run(agent, rows, **watched), seed=seed)

    def _options(
        self,
        callbacks: Mapping[str, Sequence[CallbackLike]] | None,
        connectors: Mapping[str, Tracker] | None,
        checkpoint: str | Path | None,
        every_timesteps: int,
        seed: int | None,
    ) -> _Options:
        for what, given in (("callbacks", callbacks), ("connectors", connectors)):
            if given is not None and not isinstance(given, Mapping):
                raise InvalidInputError(f"Expected {what} as {{'name or pattern': ...}}, got {given!r}.")
            for pattern in given or {}:
                if pattern not in self.agents:
                    raise UnknownOptionError.of(f"agent in {what}", pattern, self.agents)
        return _Options(
            callbacks=callbacks or {},
            connectors=connectors or {},
            checkpoint=None if checkpoint is None else Path(checkpoint).expanduser(),
            every_timesteps=every_timesteps,
            seed=0 if seed is None else seed,
        )

    def _folder_names(self) -> dict[str, str]:
        return {pattern: f"{number}_{_plain(pattern)}" for number, pattern in enumerate(self.agents)}

    def _write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for pattern, name in self._folder_names().items():
            (folder / name).mkdir()
            self.agents[pattern].fill_folder(folder / name)
        self._write_index(folder)

    def _write_index(self, folder: Path) -> None:
        index = {"format": FORMAT, "agents": self._folder_names()}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _plain(pattern: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", pattern).strip("_") or "agents"


def _schedules(seeds: Sequence[int], view: SharedView) -> list[list[int]]:
    """Each game's seeds, for all of its rows: the k-th game has the same seed whatever their number is."""
    n_games = view.spec.n_envs // view.spec.rows_per_game
    return [list(seeds[game::n_games]) for game in range(n_games) for _ in range(view.spec.rows_per_game)]


def _own_files(folder: Path) -> list[str]:
    files = [file for name in _read_index(folder).values() for file in (folder / name).rglob("*") if file.is_file()]
    return [INDEX_FILE, *(str(file.relative_to(folder)) for file in files)]


def _read_index(folder: Path) -> dict[str, str]:
    file = folder / INDEX_FILE
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        version, agents = int(index["format"]), dict(index["agents"])
    except FileNotFoundError:
        raise MissingArchiveError(f"No independent agents in {folder}: it holds no {INDEX_FILE}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArchiveError(f"{file} is damaged: {error!r}.") from error
    if version > FORMAT:
        raise NewerFormatError(f"{file} has format {version}; this version reads up to {FORMAT}. Upgrade rl_framework.")
    for name in agents.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CorruptArchiveError(f"{file} names {name!r}, which is no folder beside it.")
    return agents
