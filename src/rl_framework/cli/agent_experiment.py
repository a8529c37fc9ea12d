"""Agents of the command line as something that a study tunes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_framework.cli.algorithms import make_agent
from rl_framework.launch.current_run import Run
from rl_framework.launch.script import Script
from rl_framework.launch.search_space import SearchSpace, search_space_from_json
from rl_framework.launch.tuning.script_experiment import ScriptExperiment

WORKER = "tune-worker"
PREFIX = "parameters."


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSettings:
    """What one trial trains, and how it is judged.

    Attributes:
        environment: Id of the environment.
        algorithm: Name of the algorithm.
        total_timesteps: Environment steps to train for.
        n_envs: Environments side by side.
        vectorization: `auto`, `serial` or `subprocess`.
        parameters: The algorithm's parameters, in the JSON form of saved agents.
        normalization: Fields of `Normalization`; None for none.
        evaluate_episodes: Episodes of the evaluation at the end, whose mean return is the score.
        deterministic: Whether it takes the most probable actions.
        seed: Seed of the algorithm and of the evaluation.
    """

    environment: str
    algorithm: str
    total_timesteps: int
    n_envs: int = 1
    vectorization: str = "serial"
    parameters: dict[str, Any] = field(default_factory=dict)
    normalization: dict[str, Any] | None = None
    evaluate_episodes: int = 20
    deterministic: bool = False
    seed: int = 0


class AgentExperiment(ScriptExperiment):
    """Trains an agent with chosen parameters over fixed ones.

    Args:
        fixed: Values of `AgentSettings`.
        space: What may be chosen, by name in `AgentSettings`, with dots.
    """

    def __init__(self, fixed: Mapping[str, Any], space: Mapping[str, SearchSpace]) -> None:
        script = Script(train=train_agent, config_class=AgentSettings)
        super().__init__(script, fixed, space=space, worker_command=[sys.executable, "-m", "rl_framework", WORKER])

    def best_tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The choice as a preset."""
        tree = self.whole_tree(chosen)
        names = ("algorithm", "environment", "n_envs", "total_timesteps", "parameters", "normalization")
        return {**{name: tree[name] for name in names}, "source": "rl-framework tune"}

    def how_to_train(self, best_file: Path) -> str:
        """The command `train`."""
        return shlex.join(["rl-framework", "train", "--preset", str(best_file)])


def agent_experiment(description: Mapping[str, Any]) -> AgentExperiment:
    """The experiment with a `description()`, in a worker."""
    space = {name: search_space_from_json(name, node) for name, node in description["space"].items()}
    return AgentExperiment(description["fixed"], space)


def train_agent(config: AgentSettings, run: Run) -> float:
    """Train an agent, save it in the run's folder, and give its mean return in an evaluation."""
    agent = make_agent(config.algorithm, {**config.parameters, "seed": config.seed}, config.normalization)
    agent.train(
        config.environment,
        config.total_timesteps,
        connector=run.connector,
        n_envs=config.n_envs,
        vectorization=config.vectorization,
        progress_bar=False,
    )
    agent.save(run.folder / "agent")
    evaluation = agent.evaluate(
        config.environment, config.evaluate_episodes, deterministic=config.deterministic, seed=config.seed
    )
    mean, _ = evaluation
    return float(mean)
