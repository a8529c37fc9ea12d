"""Two agents in one episode: a cart on rails, and a passenger who walks towards it and jumps on.

In every step the cart rolls to the left, rolls to the right or stays (one choice of three), and the passenger walks
(two numbers) and decides whether to jump (a bit). A jump beside the cart earns 1 and ends the episode, a jump elsewhere
costs 0.1, and every step costs the more the farther the two are from each other. The rails are one line through the
field, and the passenger is slow: both have to come.

To the trainer this is one episode of one model. Inside it are two policies that share nothing: each acts upon what it
sees itself, from where it is. The log-likelihoods of what both did add up in every step, and only the value function
knows what both see. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rl_framework import EpisodeScores, EpisodeTrainer, VTraceAWRConfig
from rl_framework.nn.distributions import Bernoulli, Categorical, DiagonalGaussian, Joint

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "20000"))
SEED, N_GAMES, N_JUDGED, LONGEST = 1, 64, 1000, 20
HIDDEN, ROLL, STRIDE, REACH = 64, 0.2, 0.1, 0.2
VIEWS, ACTIONS = ("cart", "passenger"), ("roll", "walk", "jump")
Recording: TypeAlias = Mapping[str, Tensor]
"""An episode: what each agent saw, `[T + 1, 4]`, what they did and what came of it, `[T, ...]`, by name."""


class TwoAgents(nn.Module):
    """The cart's policy, which is discrete, and the passenger's, which is partly discrete and partly continuous."""

    def __init__(self) -> None:
        super().__init__()
        self.cart, self.passenger = network(), network()
        self.roll, self.walk, self.jump = nn.Linear(HIDDEN, 3), nn.Linear(HIDDEN, 2), nn.Linear(HIDDEN, 1)
        self.log_std = nn.Parameter(torch.zeros(2))
        self.encoding_size = 2 * HIDDEN

    def act(self, cart: Tensor, passenger: Tensor) -> tuple[Joint, Tensor]:
        """What both would do, each for itself, and all that is known of the state. `[N, 4]` each"""
        of_cart, of_passenger = self.cart(cart), self.passenger(passenger)
        both = Joint(
            {
                "roll": Categorical(self.roll(of_cart)),
                "walk": DiagonalGaussian(self.walk(of_passenger), self.log_std),
                "jump": Bernoulli(self.jump(of_passenger)),
            }
        )
        return both, torch.cat([of_cart, of_passenger], 1)

    def score_episodes(self, episodes: Sequence[Recording]) -> EpisodeScores:
        """How likely the actions of both were, one episode behind the other; see `EpisodeModel`."""
        lengths = tuple(len(episode["roll"]) for episode in episodes)
        anywhere, encodings = self.act(*(packed(episodes, name) for name in VIEWS))
        acted = torch.cat([torch.arange(length + 1) < length for length in lengths])
        distribution = anywhere.rows(acted.nonzero().squeeze(1))
        log_prob = distribution.log_prob({name: packed(episodes, name) for name in ACTIONS})
        return EpisodeScores(encodings=encodings, log_prob=log_prob, lengths=lengths, distribution=distribution)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())


def packed(episodes: Sequence[Recording], name: str) -> Tensor:
    """One behind the other. `[T, ...]` of each to `[N, ...]`"""
    return torch.cat([episode[name] for episode in episodes])


class Field:
    """B games side by side, on a field from -1 to 1 with the rails in the middle."""

    def __init__(self, n_games: int) -> None:
        self.cart = torch.cat([2 * torch.rand(n_games, 1) - 1, torch.zeros(n_games, 1)], 1)
        self.passenger = 2 * torch.rand(n_games, 2) - 1

    def views(self) -> dict[str, Tensor]:
        """What each sees: where it is itself, and where the other is from there. `[B, 4]`"""
        way = self.passenger - self.cart
        return {"cart": torch.cat([self.cart, way], 1), "passenger": torch.cat([self.passenger, -way], 1)}

    def step(self, actions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rewards, and whether the passenger is on the cart. `[B]` each"""
        self.cart[:, 0] = (self.cart[:, 0] + ROLL * (actions["roll"] - 1)).clamp(-1, 1)
        self.passenger = (self.passenger + STRIDE * actions["walk"].clamp(-1, 1)).clamp(-1, 1)
        distance = (self.passenger - self.cart).norm(dim=1)
        jumps = actions["jump"].squeeze(1) > 0
        met = jumps & (distance < REACH)
        return met.float() - 0.1 * (jumps & ~met).float() - 0.05 * distance, met


@torch.no_grad()
def play(agents: TwoAgents, n_games: int) -> list[Recording]:
    """Games up to their end, or cut after `LONGEST` steps."""
    field = Field(n_games)
    views, steps = [field.views()], []
    for _ in range(LONGEST):
        distribution, _ = agents.act(**views[-1])
        actions = distribution.sample()
        rewards, met = field.step(actions)
        steps.append({**actions, "log_prob": distribution.log_prob(actions), "rewards": rewards, "met": met})
        views.append(field.views())
    seen, done = stacked(views), stacked(steps)
    lengths = torch.where(done["met"].any(0), 1 + done["met"].int().argmax(0), LONGEST).tolist()
    return [
        {name: part[: length + 1, game] for name, part in seen.items()}
        | {name: part[:length, game] for name, part in done.items()}
        for game, length in enumerate(lengths)
    ]


def stacked(records: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Steps one behind the other. `[L, B, ...]`"""
    return {name: torch.stack([record[name] for record in records]) for name in records[0]}


@dataclass(frozen=True)
class Result:
    """How games went, on average."""

    mean_return: float
    met: float

    def __str__(self) -> str:
        return f"a return of {self.mean_return:5.2f}, together at last in {self.met:6.1%} of the games"


def judge(agents: TwoAgents) -> Result:
    games = play(agents, N_JUDGED)
    return Result(
        mean_return=sum(game["rewards"].sum().item() for game in games) / N_JUDGED,
        met=sum(game["met"].any().item() for game in games) / N_JUDGED,
    )


def train(seed: int, timesteps: int = TOTAL_TIMESTEPS) -> tuple[Result, Result]:
    """How games went before and after."""
    torch.manual_seed(seed)
    agents = TwoAgents()
    trainer = EpisodeTrainer(agents, VTraceAWRConfig(seed=seed))
    before = judge(agents)
    while trainer.timesteps < timesteps:
        trainer.progress = trainer.timesteps / timesteps
        for game in play(agents, N_GAMES):
            ended = bool(game["met"][-1])
            trainer.add_episode(game, rewards=game["rewards"], terminated=ended, log_prob=game["log_prob"])
        trainer.update()
    return before, judge(agents)


def main() -> None:
    before, after = train(SEED)
    print(f"before: {before}")
    print(f" after: {after}")


if __name__ == "__main__":
    main()
