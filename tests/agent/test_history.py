"""An agent knows how it was trained: over several calls, in its files, and in the middle of a run."""

from __future__ import annotations

from pathlib import Path

import stable_baselines3 as sb3

from rl_framework import CheckpointSchedule, StableBaselinesAgent, load_agent
from rl_framework.agent.learning_agent import LearningAgent


def new_agent() -> StableBaselinesAgent:
    return StableBaselinesAgent(sb3.PPO, {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0, "device": "cpu"})


def test_calls_and_curve_travel_with_the_agent(tmp_path: Path) -> None:
    agent = new_agent()
    agent.train("CartPole-v1", 1024, n_envs=2, progress_bar=False)
    agent.train("CartPole-v1", 512, n_envs=4, progress_bar=False, callbacks=[lambda report: report.timesteps < 1200])
    agent.save(tmp_path / "agent")
    again = load_agent(tmp_path / "agent")

    assert isinstance(again, LearningAgent)
    assert again.history == agent.history
    first, second = again.history.calls
    assert (first.first_timesteps, first.last_timesteps, first.n_envs) == (0, 1024, 2)
    assert (second.first_timesteps, second.n_envs, second.environment_id) == (1024, 4, "CartPole-v1")
    assert first.stop_reason is None
    assert second.stop_reason is not None
    assert second.last_timesteps < second.target_timesteps == 1536
    assert first.duration_seconds > 0
    assert again.history.curve[-1].timesteps == second.last_timesteps
    assert again.history.curve[0].timesteps < 1024


def test_a_checkpoint_tells_what_was_until_then(tmp_path: Path) -> None:
    agent = new_agent()
    agent.train("CartPole-v1", 512, n_envs=1, progress_bar=False, checkpoint=CheckpointSchedule(tmp_path / "run", 128))
    checkpoint = sorted((tmp_path / "run").glob("step_*"))[0]
    resumed = load_agent(checkpoint)

    assert isinstance(resumed, StableBaselinesAgent)
    assert [call.last_timesteps for call in resumed.history.calls] == [resumed.timesteps]
    resumed.resume(progress_bar=False)
    assert [call.last_timesteps for call in resumed.history.calls][-1] == 512
    assert [point.timesteps for point in resumed.history.curve] == [point.timesteps for point in agent.history.curve]
