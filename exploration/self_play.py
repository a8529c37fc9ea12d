"""Self-play: PPO learns tic-tac-toe from nobody but its own past selves.

The game is a tensor environment of a few lines, hundreds of boards side by side. The opponent is part of it: a frozen
copy of the policy, drawn from a pool that grows while the policy learns. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a
smaller or larger budget.
"""

from __future__ import annotations

import os
from copy import deepcopy
from random import Random

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.nn.model import Model
from rl_framework.rollouts.episode_sampling import sample_episodes

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "400000"))
N_BOARDS, HORIZON, POOL_SIZE = 256, 16, 20
CELLS = 9
LINES = torch.tensor(
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]],
)
MINE, THEIRS = 1.0, -1.0


class TicTacToe(SimulatedTask):
    """Tic-tac-toe against an opponent, who opens every other game. A board is 1 where I am, -1 where they are. `[B, 9]`

    A step is my move and their answer. The reward is 1 for a line of mine and -1 for one of theirs.
    """

    def __init__(self, n_boards: int, opponent: Model | None = None) -> None:
        self.opponent = opponent
        super().__init__(n_boards, spaces.Box(-1.0, 1.0, (CELLS,)), spaces.Discrete(CELLS), has_action_masks=True)

    @property
    def action_masks(self) -> Tensor:
        return self.state == 0.0

    def initial_state(self, n_rows: int) -> Tensor:
        boards = torch.zeros(n_rows, CELLS)
        they_open = torch.rand(n_rows, generator=self.generator) < 0.5
        return torch.where(they_open.unsqueeze(1), self._answered(boards), boards)

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boards = placed(state, actions, MINE)
        won = has_line(boards, MINE)
        over = won | is_full(boards)
        boards = torch.where(over.unsqueeze(1), boards, self._answered(boards))
        lost = has_line(boards, THEIRS)
        return boards, won.float() - lost.float(), over | lost | is_full(boards)

    def observe(self, state: Tensor) -> Tensor:
        return state

    @torch.no_grad()
    def _answered(self, boards: Tensor) -> Tensor:
        """The boards after the opponent's move: that of a policy, which sees the board with sides exchanged."""
        free = boards == 0.0
        free |= is_full(boards).unsqueeze(1)  # Such a board is left as it is by the caller.
        if self.opponent is None:
            choice = torch.multinomial(free.float(), 1, generator=self.generator).squeeze(1)
        else:
            choice = self.opponent.act(-boards, masks=free).distribution.sample(self.generator)
        return placed(boards, choice, THEIRS)


def placed(boards: Tensor, cells: Tensor, side: float) -> Tensor:
    return boards.scatter(1, cells.unsqueeze(1), side)


def has_line(boards: Tensor, side: float) -> Tensor:
    return (boards[:, LINES] == side).all(2).any(1)


def is_full(boards: Tensor) -> Tensor:
    return (boards != 0.0).all(1)


def frozen(policy: Model) -> Model:
    """A copy that does not learn."""
    return deepcopy(policy).requires_grad_(False)


def results(policy: Model, opponent: Model | None, n_games: int = 1000) -> str:
    """Shares of games won, drawn and lost."""
    games = sample_episodes(policy, TicTacToe(n_games, opponent), max_length=CELLS, deterministic=True)
    score = games.rewards.sum(0)
    won, drawn, lost = ((score == sign).float().mean().item() for sign in (1.0, 0.0, -1.0))
    return f"{won:4.0%} won, {drawn:4.0%} drawn, {lost:4.0%} lost"


def main() -> None:
    torch.manual_seed(0)
    chance = Random(0)
    game = TicTacToe(N_BOARDS)
    config = PPOConfig(horizon=HORIZON, learning_rate=1e-3, gamma=1.0, entropy_coefficient=0.03, device="cpu", seed=0)
    ppo = PPO(game, config)
    past: list[Model | None] = [None]
    n_updates = max(1, TOTAL_TIMESTEPS // (N_BOARDS * HORIZON))
    for number in range(1, n_updates + 1):
        game.opponent = chance.choice(past)
        ppo.collect()
        ppo.update()
        if number % max(1, n_updates // 10) == 0:
            print(f"{number * N_BOARDS * HORIZON:>7} steps, against chance: {results(ppo.model, None)}")
            past.append(frozen(ppo.model))
    for age in range(len(past) - 1):
        print(f"against the self of {age * 10:>2} % of the training: {results(ppo.model, past[age])}")


if __name__ == "__main__":
    main()
