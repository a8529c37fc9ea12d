"""Exported policies of off-policy learners act as the agents do, on raw observations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest

from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.core.trees import Tree, leaves_with_paths, path_name
from rl_framework.envs.goal_tasks.gymnasium_tasks import PointUMaze2DEnv
from rl_framework.testing.environments import ImageEnv


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


CASES: dict[str, tuple[Callable[[], gym.Env[Any, Any]], dict[str, Any]]] = {
    "sac": (pendulum, {"normalize_observations": True}),
    "td3": (PointUMaze2DEnv, {"normalize_observations": True, "fourier_octaves": 3}),
    "dqn": (ImageEnv, {}),
    "batch_constrained": (pendulum, {}),
}


def trained(rule: str) -> tuple[NativeAgent, gym.Env[Any, Any]]:
    make, settings = CASES[rule]
    network = {"hidden_sizes": (8,), "image_features": 8}
    agent = NativeAgent(
        OffPolicy,
        {
            "rule": {"kind": rule, "network": network, **settings},
            "replay": {"batch_size": 8, "capacity": 100},
            "learning_starts": 10,
            "random_steps": 10,
            "seed": 0,
            "device": "cpu",
        },
    )
    agent.train([make()], 20, progress_bar=False)
    return agent, make()


def named(observations: Tree) -> dict[str, Any]:
    return {path_name(path) if path else "observation": leaf for path, leaf in leaves_with_paths(observations)}


@pytest.mark.parametrize("rule", sorted(CASES))
def test_the_file_acts_as_the_agent_does(rule: str, tmp_path: Path) -> None:
    agent, env = trained(rule)
    session = onnxruntime.InferenceSession(str(agent.export_onnx(tmp_path / "policy.onnx")))
    observation, _ = env.reset(seed=5)
    for _ in range(5):
        batch = {name: np.stack([leaf]) for name, leaf in named(observation).items()}
        (actions,) = session.run(["actions"], {each.name: batch[each.name] for each in session.get_inputs()})
        here = agent.choose_action(observation, deterministic=True)
        np.testing.assert_allclose(actions[0], here, atol=1e-4)
        observation, *_ = env.step(here)
