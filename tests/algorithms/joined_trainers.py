"""What becomes of an episode trainer in two processes, beside one that is alone with the episodes of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.processes import OneProcess, Processes
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from tests.algorithms.choice_episodes import ChoiceModel, made_episodes

WHOLE: dict[str, Any] = {"minibatch_timesteps": None, "value_minibatch_size": 10**6, "value_warmup_epochs": 3}
SMALL: dict[str, Any] = {"minibatch_timesteps": 12, "value_minibatch_size": 10, "value_warmup_epochs": 2}
UNEQUAL = [[4, 30, 1], [7, 2, 2, 9, 1, 1, 12]]
"""Lengths of the episodes of process 0 and of process 1."""


def one_batch(processes: Processes, *, is_exact: bool) -> dict[str, Any]:
    """The same batch of all episodes, divided among two processes and in one; how far apart three updates lead them."""
    joined = made_trainer(processes, WHOLE, is_exact=is_exact)
    alone = made_trainer(OneProcess(), WHOLE, is_exact=is_exact)
    metrics: dict[str, float] = {}
    for round_number in range(3):
        episodes = [made_episodes(lengths, seed=10 * round_number + rank) for rank, lengths in enumerate(UNEQUAL)]
        for mine in episodes[processes.rank]:
            joined.add_episode(**mine)
        for each in [*episodes[0], *episodes[1]]:
            alone.add_episode(**each)
        together, by_itself = joined.update().metrics, alone.update().metrics
        metrics = {name: abs(together[name] - by_itself[name]) for name in by_itself}
    return {
        "weights": distance(weights(joined), weights(alone)),
        "moved": distance(list(joined.model.parameters()), list(ChoiceModel(0).parameters())),
        "metrics": metrics,
        "digest": digest(weights(joined)),
    }


def many_batches(processes: Processes, dtype: torch.dtype) -> dict[str, Any]:
    """Minibatches of which one process has many and the other few; an order and a seed of each one's own."""
    trainer = made_trainer(processes, SMALL, dtype=dtype, seed=processes.rank)
    lengths = [[5], [7, 2, 2, 9, 1, 1, 12, 40]][processes.rank]
    reports = []
    for round_number in range(2):
        for each in made_episodes(lengths, seed=20 * round_number + processes.rank, dtype=dtype):
            trainer.add_episode(**each)
        reports.append(dict(trainer.update().metrics))
    return {
        "digest": digest(weights(trainer)),
        "metrics": reports,
        "generator": digest([trainer.generator.get_state()]),
        "replay": len(trainer.replay),
    }


def made_trainer(
    processes: Processes,
    options: dict[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    is_exact: bool = True,
) -> EpisodeTrainer:
    """A trainer of a small model; other seeds give other weights."""
    config = VTraceAWRConfig(epochs=3, seed=seed, weight_decay=0.1, **options)
    return EpisodeTrainer(ChoiceModel(seed, dtype, is_exact=is_exact), config, processes=processes)


def weights(trainer: EpisodeTrainer) -> list[Tensor]:
    """All that was learned."""
    return [*trainer.model.state_dict().values(), *trainer.value_function.state_dict().values()]


def distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The greatest difference of two numbers in the same place."""
    return max((one - other).abs().max().item() for one, other in zip(first, second, strict=True))


def digest(tensors: Sequence[Tensor]) -> str:
    """The same for the same bits."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().numpy().tobytes())
    return content.hexdigest()
