"""Tasks that the off-policy learners must solve, with goals and without, and what they cannot do without hindsight.

`make test-learning` runs these; the table is `benchmarks/results/learning.json`. Settings are those of the presets, but
for what a task says. What was chosen here was chosen by trials with seeds from 100 on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from exploration import goal_selection
from rl_framework import MEGAConfig
from rl_framework.cli.algorithms import make_agent
from rl_framework.cli.preset import preset_named
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.evaluation.evaluate import evaluate_policy
from tests.learning.learning_table import SEEDS, measured, write_row

N_EPISODES = 100
MAZE_TIMESTEPS = 24_000


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, the preset by which it is learned, and what counts as solved.

    Attributes:
        name: In the table.
        preset: By name.
        timesteps: Environment steps of learning.
        solved: The least mean return of every seed; None where only successes count.
        succeeds: The least success rate of every seed; None in tasks without goals.
        environment: The preset's if None; a function of the number of rows.
        n_envs: The preset's if None.
        changes: Parameters that are something else than the preset's, also inside of its records.
        episodes: Of the evaluation.
    """

    name: str
    preset: str
    timesteps: int
    solved: float | None = None
    succeeds: float | None = None
    environment: Callable[[int], Any] | None = None
    n_envs: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = N_EPISODES

    def __str__(self) -> str:
        return self.name


TASKS = [
    Task(
        name="native DQN with hindsight, 12 bits to flip",
        preset="bitflipping-native-dqn",
        timesteps=12_000,
        succeeds=0.95,
    ),
    Task(
        name="native DQN with hindsight, 20 bits to flip",
        preset="bitflipping-native-dqn",
        timesteps=12_000,
        succeeds=0.8,
        environment=partial(BitFlipping, n_bits=20),
    ),
    Task(
        name="native DDPG with hindsight on FetchReach-v4, from 5000 random steps",
        preset="fetchreach-native-ddpg",
        timesteps=5_000,
        solved=-5,  # before learning -48
        succeeds=0.95,
        episodes=30,
    ),
    Task(name="native SAC on Pendulum-v1", preset="pendulum-native-sac", timesteps=10_000, solved=-250),
    Task(name="native TD3 on Pendulum-v1", preset="pendulum-native-td3", timesteps=15_000, solved=-250),
    Task(name="native DDPG on Pendulum-v1", preset="pendulum-native-ddpg", timesteps=15_000, solved=-250),
]
WITHOUT_HINDSIGHT = Task(
    name="native DQN without hindsight, 12 bits to flip (it cannot)",
    preset="bitflipping-native-dqn",
    timesteps=24_000,
    succeeds=0.05,
    changes={"replay": {"relabel": None}},
)


@pytest.mark.learning
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_task_is_solved(task: Task) -> None:
    """Every seed reaches the return and the share of successes, over episodes whose seeds were never seen."""
    rows = learned(task)
    assert task.solved is None or min(row["mean_return"] for row in rows) >= task.solved
    assert task.succeeds is None or min(row["success_rate"] for row in rows) >= task.succeeds


@pytest.mark.learning
@pytest.mark.timeout(3000)
def test_bits_are_not_flipped_without_hindsight() -> None:
    """The same learner, with twice the steps, achieves goals by chance alone."""
    rows = learned(WITHOUT_HINDSIGHT)
    assert max(row["success_rate"] for row in rows) <= WITHOUT_HINDSIGHT.succeeds


@pytest.mark.learning
@pytest.mark.timeout(3000)
def test_goals_of_ones_own_lead_to_the_end_of_a_maze() -> None:
    """MEGA arrives there, from seed to seed; with the goals of the environment nobody ever does, nor sees as much."""
    told = {}
    for name, goals, succeeds in (("MEGA", MEGAConfig(), 0.9), ("goals of the environment (it cannot)", None, 0.3)):
        told[name] = [explored(goals, seed) for seed in SEEDS]
        write_row(f"native DDPG with hindsight in a maze like a long U, {name}", None, told[name], success=succeeds)
    mega, plain = told.values()
    assert min(row["success_rate"] for row in mega) >= 0.9
    assert max(row["success_rate"] for row in plain) <= 0.3
    assert min(row["entropies"][-1] for row in mega) > max(row["entropies"][-1] for row in plain) + 0.1
    for row in mega:
        assert all(later >= earlier - 0.05 for earlier, later in pairwise(row["entropies"]))


def explored(goals: MEGAConfig | None, seed: int) -> dict[str, Any]:
    """A seed's row: successes in the end, and the entropy of the cells that were seen, after each quarter."""
    learner, entropies, began = goal_selection.joined(goals, seed), [], time.perf_counter()
    for quarter in range(1, 5):
        while learner.timesteps < quarter * MAZE_TIMESTEPS // 4:
            learner.collect()
            learner.update()
        entropies.append(goal_selection.entropy(learner))
    seconds, maze = round(time.perf_counter() - began, 1), goal_selection.maze(N_EPISODES)
    played = evaluate_policy(learner.policy, maze, N_EPISODES, deterministic=True, seed=1000 + seed)
    return {
        "seed": seed,
        "mean_return": played.mean,
        "interval": [played.interval.low, played.interval.high],
        "success_rate": played.success_rate,
        "entropies": entropies,
        "timesteps": learner.timesteps,
        "seconds": seconds,
    }


def learned(task: Task) -> list[dict[str, Any]]:
    """The rows of all seeds, which are in the table from then on."""
    rows = [train_and_evaluate(task, seed) for seed in SEEDS]
    write_row(task.name, task.solved, rows, success=task.succeeds)
    return rows


def train_and_evaluate(task: Task, seed: int) -> dict[str, Any]:
    preset = preset_named(task.preset)
    parameters = {**_changed(preset.parameters, task.changes), "seed": seed, "device": "cpu"}
    agent = make_agent(preset.algorithm, parameters, preset.normalization)
    n_envs = task.n_envs or preset.n_envs
    learns_in = preset.environment if task.environment is None else task.environment(n_envs)
    summary = agent.train(learns_in, task.timesteps, n_envs=n_envs, progress_bar=False)
    evaluated_in = preset.environment if task.environment is None else task.environment(task.episodes)
    return measured(agent, evaluated_in, summary, seed, episodes=task.episodes)


def _changed(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with changes, which may be inside of records that are kept otherwise."""
    changed = dict(parameters)
    for name, change in changes.items():
        known = changed.get(name)
        both = isinstance(known, Mapping) and isinstance(change, Mapping)
        changed[name] = _changed(dict(known), change) if both else change  # type: ignore[arg-type]  # they are
    return changed
