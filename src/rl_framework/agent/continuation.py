"""What an interrupted run leaves behind, so that another process finishes it as if nothing had happened."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.seeding import capture_random_state
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvironmentState, StateLevel, VectorEnv

logger = logging.getLogger(__name__)

NAME = "continuation"
NO_ENVIRONMENTS = EnvironmentState(level=StateLevel.EXACT, rows=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """What lies outside the agent and must be put back for an exact resume.

    Attributes:
        environments: Where the environments were; `NO_ENVIRONMENTS` for a run without.
        random: State of the process's random generators.
        run: State of the training run: its target, its statistics, its callbacks.
        n_envs: Number of environments, 0 for a run without.
        environment_id: Their registered id, None if there is none.
        n_games: Number of games that the environments are rows of, None where each is one of its own.
        agent_level: How exactly the agent itself goes on, whatever the environments do.
    """

    environments: EnvironmentState
    random: dict[str, Any]
    run: dict[str, Any]
    n_envs: int
    environment_id: str | None
    n_games: int | None = None
    agent_level: StateLevel = StateLevel.EXACT

    @classmethod
    def capture(cls, env: VectorEnv | None, run: TrainingRun, agent_level: StateLevel) -> Continuation:
        """Look at the environments, the generators and the run, now."""
        return cls(
            environments=NO_ENVIRONMENTS if env is None else env.get_state(),
            random=capture_random_state(),
            run=run.state_dict(),
            n_envs=0 if env is None else env.spec.n_envs,
            environment_id=None if env is None else env.spec.id,
            n_games=None if env is None else env.spec.n_games,
            agent_level=agent_level,
        )

    @property
    def level(self) -> StateLevel:
        """How exactly the run goes on: as exactly as the less exact of agent and environments."""
        return min(self.environments.level, self.agent_level)

    def put_back(self, env: VectorEnv | None) -> Resumption:
        """Put environments like those of then back to where they were."""
        observations = None if env is None else env.set_state(self.environments)
        if self.level < StateLevel.EPISODE_BOUNDARY:
            logger.warning("This run cannot be put back into the middle of an episode: the resume is %s.", self.level)
        return Resumption(observations=observations, level=self.environments.level, random=self.random)

    def write(self, folder: Path) -> None:
        """Write it into a folder.

        Raises:
            ArchiveError: It holds something that cannot be written down.
        """
        tree = {
            "level": int(self.environments.level),
            "rows": list(self.environments.rows),
            "random": self.random,
            "run": self.run,
            "n_envs": self.n_envs,
            "environment_id": self.environment_id,
            "n_games": self.n_games,
            "agent_level": int(self.agent_level),
        }
        write_state(folder, NAME, tree)

    @classmethod
    def read(cls, folder: Path) -> Continuation | None:
        """Take back what `write` wrote; None if nothing was.

        Raises:
            CorruptArchiveError: A file is truncated, altered or missing.
        """
        if not (folder / f"{NAME}.json").exists():
            return None
        tree = read_state(folder, NAME)
        rest = {name: tree[name] for name in ("random", "run", "n_envs", "environment_id")}
        rest["n_games"] = tree.get("n_games")
        environments = EnvironmentState(level=StateLevel(tree["level"]), rows=tuple(tree["rows"]))
        return cls(environments=environments, agent_level=StateLevel(tree.get("agent_level", StateLevel.EXACT)), **rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """How a resumed run begins.

    Attributes:
        observations: Current observations of the environments after they were put back, None without environments.
            `[B, ...]`
        level: How exactly the environments were put back.
        random: State of the random generators, to be restored as the last thing before the first step.
    """

    observations: Tree
    level: StateLevel
    random: dict[str, Any]
