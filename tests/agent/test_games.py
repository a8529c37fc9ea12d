"""Runs in games of several agents, and in environments that measure something of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3 as sb3
from typing_extensions import override

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import Report
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.source import environment_source
from rl_framework.envs.vector_env import VectorStep
from rl_framework.errors import InvalidInputError
from rl_framework.testing.agent_contract import assert_same_files
from rl_framework.testing.environments import CountingEnv
from tests.envs.unity.peer.players import make_player

SMALL: dict[str, Any] = {"horizon": 20, "minibatch_size": 40, "epochs": 1, "seed": 0, "device": "cpu"}
SPREAD = "pettingzoo:mpe/simple_spread?max_cycles=8"
QUIET: dict[str, Any] = {"progress_bar": False, "vectorization": "serial"}


class MeasuringVectorEnv(SerialVectorEnv):
    """Counts its own steps, and tells how many there were since it was last asked."""

    count = 0

    @override
    def recv(self) -> VectorStep:
        self.count += 1
        return super().recv()

    def drain_statistics(self) -> Mapping[str, float]:
        """Steps since the last call."""
        told, self.count = self.count, 0
        return {"environment/steps": float(told)}


def make_agent(kind: str) -> NativeAgent | StableBaselinesAgent:
    """A small learner."""
    if kind == "native":
        return NativeAgent(PPO, {**SMALL, "network": {"hidden_sizes": (8,)}})
    return StableBaselinesAgent(sb3.PPO, {"n_steps": 20, "batch_size": 40, "n_epochs": 1, "seed": 0})


@pytest.mark.parametrize("kind", ["native", "sb3"])
def test_what_environments_measure_is_reported(kind: str) -> None:
    reports: list[Report] = []
    environments = MeasuringVectorEnv([CountingEnv((5,)) for _ in range(2)], owned=True)
    make_agent(kind).train(environments, 400, callbacks=[reports.append], progress_bar=False)
    assert len(reports) > 1
    assert sum(report.metrics["environment/steps"] for report in reports) == 200


@pytest.mark.parametrize("kind", ["native", "sb3"])
def test_a_run_in_a_named_game_is_resumed_exactly(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("mpe2")
    agent = make_agent(kind)
    schedule = CheckpointSchedule(tmp_path / "run", 120, keep_last=10)
    summary = agent.train(SPREAD, 480, n_envs=2, checkpoint=schedule, **QUIET)
    assert (summary.resume_level, agent.environment_id) == ("exact", SPREAD)
    resumed = load_agent(sorted((tmp_path / "run").glob("step_*"))[1])
    assert isinstance(resumed, (NativeAgent, StableBaselinesAgent))
    assert resumed.timesteps < 480
    resumed.resume(**QUIET)
    assert_same_files(agent, resumed, tmp_path / "compared")


def test_a_run_in_a_source_is_resumed_in_one_like_it(tmp_path: Path) -> None:
    agent = NativeAgent(PPO, SMALL)
    agent.train(environment_source(CountingEnv), 80, n_envs=2, checkpoint=tmp_path / "run", **QUIET)
    resumed = load_agent(tmp_path / "run")
    assert isinstance(resumed, NativeAgent)
    assert resumed.resume(environment_source(CountingEnv), **QUIET).total_timesteps == 80
    with pytest.raises(InvalidInputError, match="2 environments, 1 were given"):
        resumed.resume([CountingEnv()], **QUIET)


def test_a_run_in_several_players_is_resumed_in_as_many(tmp_path: Path) -> None:
    name = f"unity:{make_player(tmp_path / 'game', agents=2, horizons=(9,), statistics=True)}"
    agent, reports = NativeAgent(PPO, SMALL), list[Report]()
    schedule = CheckpointSchedule(tmp_path / "run", 80)
    agent.train(name, 320, n_envs=2, checkpoint=schedule, callbacks=[reports.append], progress_bar=False)
    assert agent.environment_id == name
    assert all(report.metrics["environment/Reach/Ends"] > 0 for report in reports)
    resumed = load_agent(sorted((tmp_path / "run").glob("step_*"))[1])
    assert isinstance(resumed, NativeAgent)
    assert resumed.timesteps == 160
    assert resumed.resume(progress_bar=False).total_timesteps == 320
    evaluation = resumed.evaluate(name, 4, seed=0)
    assert (len(evaluation.returns), evaluation.n_envs) == (4, 2), "more than one player was started unasked"
