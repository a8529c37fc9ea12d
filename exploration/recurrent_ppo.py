"""PPO with and without memory on CartPole without velocities: what a policy cannot see, it has to remember.

Only `network` differs between the two agents. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
from typing import Any

from rl_framework import NativeAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.functional.schedules import LinearSchedule

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "200000"))

NETWORKS: dict[str, dict[str, Any]] = {
    "feed-forward": {},
    "recurrent": {"memory": "gru", "memory_size": 64},
}


def main() -> None:
    for name, network in NETWORKS.items():
        agent = NativeAgent(
            algorithm_class=PPO,
            algorithm_parameters={
                "network": network,
                "horizon": 64,
                "epochs": 10,
                "learning_rate": LinearSchedule(1e-3, 0.0),
                "gamma": 0.98,
                "seed": 0,
            },
        )
        summary = agent.train(CartPole(16, mask_velocities=True), TOTAL_TIMESTEPS, progress_bar=False)
        evaluation = agent.evaluate(CartPole(16, mask_velocities=True), n_eval_episodes=48, deterministic=True, seed=7)
        mean, std = evaluation
        print(f"{name:>12}: return {mean:.1f} ± {std:.1f} after {summary.duration_seconds:.0f} s")


if __name__ == "__main__":
    main()
