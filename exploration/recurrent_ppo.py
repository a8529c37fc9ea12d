"""PPO with and without memory on CartPole without velocities: what a policy cannot see, it has to remember.

The two agents differ in one entry of `network`. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger
budget.
"""

from __future__ import annotations

import os

from rl_framework import LinearSchedule, NativeAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.envs.tensor_tasks.cart_pole import CartPole

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "200000"))
N_ENVS = 32


def main() -> None:
    for memory in (None, "gru"):
        agent = NativeAgent(
            algorithm_class=PPO,
            algorithm_parameters={
                "network": {"memory": memory, "memory_size": 64, "normalize_observations": True},
                "horizon": 64,
                "epochs": 10,
                "gamma": 0.98,
                "learning_rate": LinearSchedule(1e-3, 0.0),
                "device": "cpu",
                "seed": 0,
            },
        )
        summary = agent.train(CartPole(N_ENVS, mask_velocities=True), TOTAL_TIMESTEPS)
        evaluation_environment = CartPole(N_ENVS, mask_velocities=True)
        mean, std = agent.evaluate(evaluation_environment, n_eval_episodes=2 * N_ENVS, deterministic=True, seed=7)
        trained = f"{summary.taken_timesteps} steps in {summary.duration_seconds:.0f} s"
        print(f"memory={memory}: {trained}, then a return of {mean:.1f} ± {std:.1f}")


if __name__ == "__main__":
    main()
