"""A launch script: PPO on CartPole-v1 as a command line that trains, tunes and goes on after an interruption.

    python exploration/launch_cartpole.py train --learning-rate 0.002 --output runs/launched
    python exploration/launch_cartpole.py train --resume runs/launched
    python exploration/launch_cartpole.py tune --n-trials 20 --workers 2 --seeds-per-trial 3 --output runs/tuned
    python exploration/launch_cartpole.py train --config runs/tuned/best.yaml
    python exploration/launch_cartpole.py sample-config

Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rl_framework.launch import Run, run, tunable

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "50000"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """PPO on a small task.

    Attributes:
        environment: Id of the environment.
        total_timesteps: Environment steps, over all copies of the environment.
        n_envs: Copies of the environment side by side.
        learning_rate: Step size at first; it falls to 0 in a straight line.
        epochs: How often each rollout is learned from.
        hidden_sizes: Units of each hidden layer.
        seed: Seed of networks, actions and environments.
    """

    environment: str = "CartPole-v1"
    total_timesteps: int = TOTAL_TIMESTEPS
    n_envs: int = 8
    learning_rate: float = tunable(2e-3, low=1e-4, high=1e-2, log=True)
    epochs: int = tunable(10, low=2, high=20)
    hidden_sizes: tuple[int, ...] = tunable((64, 64), choices=((32,), (64, 64), (128, 128)))
    seed: int = 0


def train(config: Config, run: Run) -> float:
    """Train, or go on with what was interrupted, and give the mean return of 20 further episodes."""
    from rl_framework import PPO, LinearSchedule, NativeAgent

    if run.resumed is not None:
        agent = NativeAgent.load(run.resumed)
        agent.resume(config.environment, connector=run.connector, checkpoint=run.checkpoints)
    else:
        parameters = {
            "learning_rate": LinearSchedule(config.learning_rate, 0.0),
            "epochs": config.epochs,
            "network": {"hidden_sizes": config.hidden_sizes},
            "seed": config.seed,
        }
        agent = NativeAgent(algorithm_class=PPO, algorithm_parameters=parameters)
        agent.train(
            config.environment,
            config.total_timesteps,
            n_envs=config.n_envs,
            vectorization="serial",
            connector=run.connector,
            checkpoint=run.checkpoints,
        )
    agent.save(run.folder / "agent")
    evaluation = agent.evaluate(config.environment, n_eval_episodes=20, seed=config.seed)
    print(evaluation)
    mean, _ = evaluation
    return mean


if __name__ == "__main__":
    run(train, Config)
