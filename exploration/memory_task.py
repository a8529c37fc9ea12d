"""A T-maze: a sign at the entrance tells which way to turn at the far end, and is out of sight by then.

Two agents learn by V-trace and advantage-weighted regression. They differ in one entry of `network`: the one with a
gated recurrent unit remembers the sign, and the other can do no better than guess. Set
`RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework import Evaluation, NativeAgent, SimulatedTask, VTraceAWR

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "40000"))
SEED, N_MAZES, N_EPISODES = 1, 16, 1000
AHEAD, LEFT, RIGHT = 0, 1, 2


class TMaze(SimulatedTask):
    """A corridor with a turn at its end; the right way earns 1, the wrong one -1, and to walk into a wall costs 0.05.

    What is seen is the sign, -1 for left and 1 for right, at the entrance and 0 elsewhere, and whether this is the
    turn. The state is the sign and the distance from the entrance. `[B, 2]`

    Args:
        n_mazes: Number of rows, B.
        length: Steps from the entrance to the turn.
    """

    def __init__(self, n_mazes: int, length: int = 10) -> None:
        space = spaces.Box(-1.0, 1.0, (2,))
        super().__init__(n_mazes, space, spaces.Discrete(3), max_episode_steps=4 * length)
        self.length = length

    def initial_state(self, n_rows: int) -> Tensor:
        signs = 2 * torch.randint(2, (n_rows,), generator=self.generator, device=self.device) - 1
        return torch.stack([signs, torch.zeros_like(signs)], 1).to(self.dtype)

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sign, distance = state.unbind(1)
        is_there, goes_ahead = distance == self.length, actions == AHEAD
        is_over = is_there & ~goes_ahead
        is_right = sign == torch.where(actions == LEFT, -1, 1)
        walks = goes_ahead & ~is_there
        rewards = torch.where(is_over, torch.where(is_right, 1.0, -1.0), torch.where(walks, 0.0, -0.05))
        return torch.stack([sign, distance + walks], 1), rewards, is_over

    def observe(self, state: Tensor) -> Tensor:
        sign, distance = state.unbind(1)
        return torch.stack([sign * (distance == 0), (distance == self.length).to(sign)], 1)


def train(memory: str | None, seed: int, timesteps: int = TOTAL_TIMESTEPS) -> Evaluation:
    """Learn with a memory or without one; the returns in the end."""
    agent = NativeAgent(
        algorithm_class=VTraceAWR,
        algorithm_parameters={
            "network": {"memory": memory, "memory_size": 32, "body_sizes": (32,), "hidden_sizes": (32,)},
            "device": "cpu",
            "seed": seed,
        },
    )
    agent.train(TMaze(N_MAZES), timesteps, progress_bar=False)
    return agent.evaluate(TMaze(N_MAZES), N_EPISODES, deterministic=True, seed=1000 + seed)


def main() -> None:
    for memory in (None, "gru"):
        mean, std = train(memory, SEED)
        print(f"memory={memory}: a return of {mean:.2f} ± {std:.2f}")


if __name__ == "__main__":
    main()
