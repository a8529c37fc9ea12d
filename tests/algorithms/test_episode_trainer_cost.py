"""What an update of the episode trainer costs: passes of the model, and room. Times are in `benchmarks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from gymnasium import spaces

from benchmarks.bare_episodes import BarePasses
from benchmarks.episode_trainer import counted_rows, passes_of_update, train_end_to_end
from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.core.seeding import isolated_randomness
from rl_framework.nn import model_episodes
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.episode_tensors import EpisodeTensors
from rl_framework.nn.model_episodes import ModelEpisodes
from tests.algorithms.live_bytes import LiveBytes

LIMIT, SHORT, LONG = 60, 10, 300
WIDTH = 256
every_memory = pytest.mark.parametrize("memory", [None, "gru"])


def make_trainer(lengths: Sequence[int], /, *, memory: str | None = None, **settings: Any) -> EpisodeTrainer:
    """One whose model has a layer that is much wider than what it leaves behind."""
    network = EpisodePolicyConfig(body_sizes=(WIDTH, 4), hidden_sizes=(8,), memory=memory, memory_size=8)
    few = {"epochs": 1, "value_warmup_epochs": 0, "value_epochs_before": 1, "value_epochs_after": 1}
    sizes = {"minibatch_timesteps": LIMIT, "value_hidden_sizes": (4,)}
    with isolated_randomness(0):
        model = ModelEpisodes(EpisodePolicy(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2), network))
        trainer = EpisodeTrainer(model, VTraceAWRConfig(**{"seed": 0, **few, **sizes, **settings}))
        for length in lengths:
            episode = EpisodeTensors(observations=torch.rand(length + 1, 3), targets=torch.randint(2, (length,)))
            trainer.add_episode(episode, rewards=torch.rand(length), terminated=True, log_prob=-torch.rand(length))
    return trainer


# ------------------------------------------------------------------------------------------------ passes


@pytest.mark.parametrize("value_epochs", [1, 6])
def test_values_are_learned_without_passes_of_the_model(value_epochs: int) -> None:
    both = value_epochs
    trainer = make_trainer([20] * 9, epochs=3, value_epochs_before=both, value_epochs_after=both)
    assert passes_of_update(trainer) == 2 + 3


def test_warmup_of_the_first_update_costs_no_passes() -> None:
    assert passes_of_update(make_trainer([20] * 9, value_warmup_epochs=30)) == 2 + 1


def test_end_to_end_each_value_epoch_is_a_pass() -> None:
    frozen, other = (make_trainer([20] * 9, epochs=3, value_epochs_before=5, value_epochs_after=4) for _ in range(2))
    assert passes_of_update(frozen) == 2 + 3
    assert passes_of_update(train_end_to_end(other)) == 2 + 3 + 5 + 4


@every_memory
def test_bare_passes_are_those_of_an_update(memory: str | None) -> None:
    """What the time of an update is compared with in `benchmarks` leaves no pass out and adds none."""
    trainer = make_trainer([20] * 9, memory=memory, epochs=3)
    trainer.update()
    bare = BarePasses(trainer)
    with counted_rows(trainer) as ours:
        trainer.update()
    with counted_rows(trainer) as theirs:
        bare.run()
    assert len(ours) == len(theirs)
    assert sum(ours) == sum(theirs)


# ------------------------------------------------------------------------------------------------ room


def peak_of_update(trainer: EpisodeTrainer) -> int:
    with LiveBytes() as live:
        trainer.update()
    peak: int = live.peak
    return peak


@every_memory
def test_room_follows_the_steps_of_a_minibatch_and_not_the_longest_episode(memory: str | None) -> None:
    n_steps = 4 * LONG
    long_and_short = [LONG, *[SHORT] * ((n_steps - LONG) // SHORT)]
    within_limit = peak_of_update(make_trainer(long_and_short, memory=memory))
    short_alone = peak_of_update(make_trainer([SHORT] * (n_steps // SHORT), memory=memory))
    taken_whole = peak_of_update(make_trainer(long_and_short, memory=memory, minibatch_timesteps=LONG))
    assert within_limit < 1.1 * short_alone
    assert taken_whole > 2 * short_alone


def test_room_follows_the_limit() -> None:
    lengths, limits = [LONG, *[SHORT] * 60], (LIMIT, 2 * LIMIT, LONG)
    peaks = [peak_of_update(make_trainer(lengths, minibatch_timesteps=limit)) for limit in limits]
    per_step = WIDTH * 4
    assert peaks[1] - peaks[0] > per_step * LIMIT
    assert peaks[2] - peaks[1] > per_step * (LONG - 2 * LIMIT)


@every_memory
def test_no_pass_sees_more_than_a_minibatch(memory: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in observations: one more for each piece, and, with memory, what is padded."""
    monkeypatch.setattr(model_episodes, "CHUNK_STEPS", LIMIT)
    trainer = make_trainer([LONG, *[SHORT] * 60, LONG + 1, LIMIT], memory=memory)
    with counted_rows(trainer) as rows:
        trainer.update()
    padded = 1 if memory is None else 2
    assert max(rows) <= padded * (LIMIT + LIMIT / SHORT + 1)


def test_long_episodes_are_learned_from_whole() -> None:
    """Pieces add up: every step of an episode counts once in an epoch."""
    trainer = make_trainer([LONG + 1, SHORT], epochs=2)
    pieces = -(-(LONG + 1) // LIMIT) + 1
    with counted_rows(trainer) as rows:
        trainer.update()
    assert sum(rows) == (2 + 2) * (LONG + 1 + SHORT + pieces)
    assert trainer.timesteps == LONG + 1 + SHORT
