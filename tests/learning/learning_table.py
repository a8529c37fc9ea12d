"""What small tasks were learned to: measured the same way for all of them, and written into one table."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.agent.base_agent import Agent
from rl_framework.core.reports import TrainingSummary
from rl_framework.evaluation.statistics import bootstrap_interval

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "learning.json"
EPISODES = 50
SEEDS = (1, 2, 3)
LIBRARIES = ("torch", "stable_baselines3", "imitation", "d3rlpy")


def measured(
    agent: Agent, environment: Any, summary: TrainingSummary, seed: int, *, episodes: int = EPISODES
) -> dict[str, Any]:
    """One seed's row: the mean return over episodes whose seeds were never seen, and what it cost."""
    evaluation = agent.evaluate(environment, episodes, deterministic=True, seed=1000 + seed)
    interval, success_rate = evaluation.interval, evaluation.success_rate
    return {
        "seed": seed,
        "mean_return": evaluation.mean,
        "interval": [interval.low, interval.high],
        **({} if success_rate is None else {"success_rate": success_rate}),
        "timesteps": summary.taken_timesteps,
        "seconds": round(summary.duration_seconds, 1),
    }


def write_row(name: str, solved: float | None, rows: list[dict[str, Any]], *, success: float | None = None) -> None:
    """Put the task's seeds into the table; other tasks' rows stay.

    Args:
        name: Of the task.
        solved: Mean return from which it counts as solved, None where returns do not say so.
        rows: One for each seed, from `measured`.
        success: The share of successes that is asked for, None where there are no successes.
    """
    table = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"tasks": {}}
    means = np.array([row["mean_return"] for row in rows])
    between = bootstrap_interval(means)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    table["machine"] = {"python": platform.python_version(), **versions}
    table["tasks"][name] = {
        "solved_at": solved,
        **({} if success is None else {"success_rate_asked_for": success}),
        "mean_over_seeds": float(means.mean()),
        "interval_over_seeds": [between.low, between.high],
        "seeds": rows,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(table, indent=2) + "\n")
