"""Small models and episodes for tests of the episode trainer; episodes are dicts of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.episode_model import EpisodeScores

SIZE, CHOICES = 3, 2
Told = dict[str, Tensor]
LENGTHS = [5, 12, 1, 30, 7]


class TinyModel(nn.Module):
    """A policy over two choices.

    Args:
        seed: Of its weights.
        exact: Whether it gives distributions.

    Attributes:
        n_steps: Steps of each call.
        n_seen: How often each episode was passed, by `id`.
    """

    def __init__(self, seed: int = 0, *, exact: bool = True) -> None:
        super().__init__()
        self.encoding_size = 5
        self.exact = exact
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(SIZE, 5), nn.Tanh())
            self.head = nn.Linear(5, CHOICES)
        self.n_steps: list[int] = []

    def score_episodes(self, episodes: Sequence[Told]) -> EpisodeScores:
        lengths = tuple(len(episode["actions"]) for episode in episodes)
        self.n_steps.append(sum(lengths))
        encodings = self.body(torch.cat([episode["observations"] for episode in episodes]))
        rows = torch.cat(
            [torch.ones(length + 1, dtype=torch.bool).index_fill(0, torch.tensor(length), 0) for length in lengths]
        )
        distribution = Categorical(self.head(encodings[rows]))
        log_prob = distribution.log_prob(torch.cat([episode["actions"] for episode in episodes]))
        return self.told(episodes, encodings, log_prob, distribution if self.exact else None, lengths)

    def told(
        self,
        episodes: Sequence[Told],
        encodings: Tensor,
        log_prob: Tensor,
        distribution: Categorical | None,
        lengths: tuple[int, ...],
    ) -> EpisodeScores:
        """For subclasses to say something else."""
        return EpisodeScores(encodings=encodings, log_prob=log_prob, lengths=lengths, distribution=distribution)

    def cut_episode(self, episode: Told, start: int, stop: int) -> Told:
        cut = {name: numbers[start:stop] for name, numbers in episode.items() if name != "observations"}
        return {**cut, "observations": episode["observations"][start : stop + 1]}


def tell(length: int, seed: int) -> Told:
    """An episode of random observations and actions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "observations": torch.randn(length + 1, SIZE, generator=generator),
        "actions": torch.randint(CHOICES, (length,), generator=generator),
    }


def reward_of(episode: Told) -> Tensor:
    """1 where the choice agrees with the sign of the first number that was observed."""
    return (episode["actions"] == (episode["observations"][:-1, 0] > 0).long()).float()


def make_trainer(model: nn.Module | None = None, **settings: Any) -> EpisodeTrainer:
    """A trainer with a small value function and few epochs."""
    few = {"epochs": 2, "value_warmup_epochs": 2, "value_epochs_before": 1, "value_epochs_after": 1, "seed": 0}
    config = VTraceAWRConfig(**{**few, "value_hidden_sizes": (8,), **settings})
    return EpisodeTrainer(TinyModel() if model is None else model, config)


def add(trainer: EpisodeTrainer, lengths: Sequence[int], seed: int = 0, **given: Any) -> None:
    """Add episodes that a uniform policy could have played."""
    for at, length in enumerate(lengths):
        episode = tell(length, 1000 * seed + at)
        log_prob = torch.full((length,), 0.5).log()
        ending = {"terminated": at % 2 == 0, "rewards": reward_of(episode), "log_prob": log_prob}
        trainer.add_episode(episode, **{**ending, **given})


def as_doubles(episode: Told) -> Told:
    return {**episode, "observations": episode["observations"].double()}


def weights_of(trainer: EpisodeTrainer) -> list[Tensor]:
    networks = (trainer.model, trainer.value_function)
    return [tensor.detach().clone() for network in networks for tensor in network.state_dict().values()]


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def agreement(model: nn.Module) -> float:
    """Share of observations in which the better choice is the more probable one."""
    episode = tell(500, 99)
    assert isinstance(model, TinyModel)
    with torch.no_grad():
        distribution = model.score_episodes([episode]).distribution
    assert distribution is not None
    return float((distribution.mode() == (episode["observations"][:-1, 0] > 0)).float().mean())


def trained(n_updates: int, model: nn.Module | None = None, **settings: Any) -> EpisodeTrainer:
    trainer = make_trainer(model, minibatch_timesteps=40, epochs=4, **settings)
    for update in range(n_updates):
        add(trainer, [20] * 10, seed=update)
        trainer.update()
    return trainer
