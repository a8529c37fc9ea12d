"""Wall time of a flat script, without `if __name__ == "__main__"`: ours against plain Stable-Baselines3.

Both import, make 8 environments, train PPO on CartPole-v1 for 40,960 steps and end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.side_by_side import Comparison, compare, write_results

OURS = """
import gymnasium as gym
from stable_baselines3 import PPO
from rl_framework import StableBaselinesAgent
environments = [gym.make("CartPole-v1") for _ in range(8)]
parameters = {"policy": "MlpPolicy", "n_steps": 256, "batch_size": 256, "n_epochs": 4, "device": "cpu"}
agent = StableBaselinesAgent(algorithm_class=PPO, algorithm_parameters=parameters)
agent.train(training_environments=environments, total_timesteps=40_960)
"""

THEIRS = """
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
environments = DummyVecEnv([lambda: gym.make("CartPole-v1") for _ in range(8)])
model = PPO("MlpPolicy", environments, n_steps=256, batch_size=256, n_epochs=4, device="cpu")
model.learn(40_960)
"""


def run_script(source: str) -> float:
    """Scripts per minute, from the start of the interpreter to its end."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(source)
        start = time.perf_counter()
        subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
        return 60.0 / (time.perf_counter() - start)


def measure() -> list[Comparison]:
    """The comparison of this file: at most 1.5 times the wall time is at least 1/1.5 of the rate."""
    return [
        compare(
            "A flat training script: ours against plain Stable-Baselines3 with DummyVecEnv",
            lambda: run_script(OURS),
            lambda: run_script(THEIRS),
            unit="scripts/min",
            required_ratio=1 / 1.5,
            pairs=5,
        )
    ]


if __name__ == "__main__":
    write_results("script_wall_time", measure())
