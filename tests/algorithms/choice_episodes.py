"""A small model of choices, and episodes of unequal length for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.nn.discrete_distributions import Categorical
from rl_framework.nn.episode_model import EpisodeScores

N_INPUTS, N_CHOICES = 3, 4


class ChoiceModel(nn.Module):
    """Choices from observations, without memory.

    Args:
        seed: Of its weights.
        dtype: Of its numbers.
        is_exact: Whether it tells distributions.
    """

    encoding_size = 5

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32, *, is_exact: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Linear(N_INPUTS, self.encoding_size, dtype=dtype)
        self.head = nn.Linear(self.encoding_size, N_CHOICES, dtype=dtype)
        self.unused = nn.Parameter(torch.ones(2, dtype=dtype))
        self.is_exact = is_exact

    def score_episodes(self, episodes: Sequence[Any]) -> EpisodeScores:
        """Encodings of all observations, and how likely the choices were."""
        encodings = torch.tanh(self.encoder(torch.cat([each["observations"] for each in episodes])))
        lengths = tuple(len(each["actions"]) for each in episodes)
        logits = self.head(
            torch.cat([each[:-1] for each in torch.split(encodings, [length + 1 for length in lengths])])
        )
        distribution = Categorical(logits)
        return EpisodeScores(
            encodings=encodings,
            log_prob=distribution.log_prob(torch.cat([each["actions"] for each in episodes])),
            lengths=lengths,
            distribution=distribution if self.is_exact else None,
        )

    def cut_episode(self, episode: Any, start: int, stop: int) -> Any:
        """A piece of an episode."""
        return {"observations": episode["observations"][start : stop + 1], "actions": episode["actions"][start:stop]}


def made_episodes(lengths: Sequence[int], seed: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Any]]:
    """Arguments of `add_episode`, one after the other: every other episode was cut, every third is a recording."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return [
        {
            "episode": {
                "observations": numbers(length + 1, N_INPUTS),
                "actions": torch.randint(N_CHOICES, (length,), generator=generator),
            },
            "rewards": numbers(length) + 0.5,
            "terminated": number % 2 == 0,
            "log_prob": None if number % 3 == 0 else -numbers(length).abs() - 0.5,
        }
        for number, length in enumerate(lengths)
    ]
