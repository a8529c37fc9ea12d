"""Self-play: PPO learns tic-tac-toe from nobody but its own past selves, and from chance, the first of them.

The game is a tensor environment of a few lines, hundreds of boards side by side. The opponent is part of it: a frozen
copy of the policy, drawn anew for every rollout from a pool that grows while the policy learns. Set
`RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
from copy import deepcopy
from random import Random

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework import LinearSchedule
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.nn.model import Model
from rl_framework.rollouts.episode_sampling import sample_episodes

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "400000"))
N_BOARDS, HORIZON, N_COPIES = 256, 8, 10
CELLS, MINE, THEIRS = 9, 1.0, -1.0
LINES = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


class TicTacToe(SimulatedTask):
    """Tic-tac-toe from one side: a step is a move of mine and the opponent's answer. A line is worth 1, theirs -1.

    Boards are 1 where I am and -1 where they are, `[B, 9]`. Openings are drawn by lot, as two players who know each
    other would soon play but a few of them: a move of theirs in half of the games, one of each side in the others.
    """

    def __init__(self, n_boards: int, opponent: Model | None = None) -> None:
        super().__init__(n_boards, spaces.Box(-1.0, 1.0, (CELLS,)), spaces.Discrete(CELLS), has_action_masks=True)
        self.opponent = opponent

    @property
    def action_masks(self) -> Tensor:
        boards: Tensor = self.state
        return boards == 0.0

    def initial_state(self, n_rows: int) -> Tensor:
        cells = torch.rand(n_rows, CELLS, generator=self.generator).argsort(1)
        they_moved = placed(torch.zeros(n_rows, CELLS), cells[:, 0], THEIRS)
        i_am_second = torch.rand(n_rows, 1, generator=self.generator) < 0.5
        return torch.where(i_am_second, they_moved, placed(they_moved, cells[:, 1], MINE))

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boards = placed(state, actions, MINE)
        won = has_line(boards, MINE)
        over = won | is_full(boards)
        boards = torch.where(over.unsqueeze(1), boards, placed(boards, self.answers(boards), THEIRS))
        lost = has_line(boards, THEIRS)
        return boards, won.float() - lost.float(), over | lost | is_full(boards)

    def observe(self, state: Tensor) -> Tensor:
        return state

    @torch.no_grad()
    def answers(self, boards: Tensor) -> Tensor:
        """The opponent's moves, chosen by a policy that sees the boards from its own side, or by chance. `[B]`"""
        free = (boards == 0.0) | is_full(boards).unsqueeze(1)  # On a full board nobody looks at the answer.
        if self.opponent is None:
            return torch.multinomial(free.float(), 1, generator=self.generator).squeeze(1)
        moves: Tensor = self.opponent.act(-boards, masks=free).distribution.sample(self.generator)
        return moves


def placed(boards: Tensor, cells: Tensor, side: float) -> Tensor:
    return boards.scatter(1, cells.unsqueeze(1), side)


def has_line(boards: Tensor, side: float) -> Tensor:
    return (boards[:, LINES] == side).all(2).any(1)


def is_full(boards: Tensor) -> Tensor:
    return (boards != 0.0).all(1)


def results(policy: Model, opponent: Model | None, n_games: int = 1000) -> str:
    """Shares of games that the policy won, drew and lost."""
    games = sample_episodes(policy, TicTacToe(n_games, opponent), max_length=CELLS, seed=7, deterministic=True)
    totals = games.rewards.sum(0)
    won, drawn, lost = ((totals == total).float().mean().item() for total in (1.0, 0.0, -1.0))
    return f"{won:6.1%} won, {drawn:6.1%} drawn, {lost:6.1%} lost"


def main() -> None:
    torch.manual_seed(0)
    chance = Random(0)
    game = TicTacToe(N_BOARDS)
    config = PPOConfig(
        horizon=HORIZON,
        epochs=8,
        learning_rate=LinearSchedule(3e-3, 0.0),
        entropy_coefficient=LinearSchedule(0.1, 0.0),
        gamma=1.0,
        network={"hidden_sizes": (128, 128)},
        device="cpu",
        seed=0,
    )
    ppo = PPO(game, config)
    ppo.begin(game.reset(seed=0), timesteps=0, target_timesteps=TOTAL_TIMESTEPS)
    n_updates = max(1, TOTAL_TIMESTEPS // (N_BOARDS * HORIZON))
    pool: list[Model | None] = [None]
    for update in range(1, n_updates + 1):
        game.opponent = chance.choice(pool)
        ppo.collect()
        ppo.update()
        if update % max(1, n_updates // N_COPIES) == 0:
            pool.append(deepcopy(ppo.model))
            print(f"{update * N_BOARDS * HORIZON:>7} steps, against chance: {results(ppo.model, None)}")
    print("The last policy against its past:")
    for age, opponent in enumerate(pool[1:], 1):
        print(f"  copy {age:>2} of {len(pool) - 1}: {results(ppo.model, opponent)}")


if __name__ == "__main__":
    main()
