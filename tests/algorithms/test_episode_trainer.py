from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.episode_replay import EpisodeRecord
from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.errors import InvalidInputError
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.nn.distributions import Categorical, Distribution
from rl_framework.nn.episode_model import EpisodeScores
from tests.algorithms.episode_models import (
    LENGTHS,
    TinyModel,
    Told,
    add,
    agreement,
    as_doubles,
    make_trainer,
    reward_of,
    same,
    tell,
    trained,
    weights_of,
)

# Learning


@pytest.mark.parametrize("exact", [True, False], ids=["distributions", "log-likelihoods alone"])
def test_it_learns_what_earns_rewards(exact: bool) -> None:
    trainer = trained(12, TinyModel(exact=exact), learning_rate=3e-3)
    trainer.model.exact = True  # type: ignore[assignment]  # so that its mode can be asked for
    assert agreement(trainer.model) > 0.85


def test_at_the_default_temperature_advantages_weigh_and_at_a_high_one_they_do_not() -> None:
    assert trained(1).config.temperature < 1.0
    cloning = trained(12, temperature=1000.0, learning_rate=3e-3)
    assert agreement(cloning.model) < 0.7
    add(cloning, [20])
    assert cloning.update().metrics["train/effective_share"] == pytest.approx(1.0)
    assert trained(1).update().metrics["train/effective_share"] < 0.9


def test_the_divergence_stays_about_its_target() -> None:
    trainer = make_trainer(minibatch_timesteps=40, epochs=10, learning_rate=0.01, kl_target=0.02, kl_coefficient=1.0)
    divergences = []
    for update in range(10):
        add(trainer, [20] * 10, seed=update)
        divergences.append(trainer.update().metrics["train/kl"])
    assert max(divergences) < 0.06
    assert float(np.mean(divergences)) > 0.002


def test_a_loss_of_the_models_own_is_learned_from() -> None:
    class Anxious(TinyModel):
        def told(self, episodes: Any, encodings: Tensor, log_prob: Tensor, *rest: Any) -> EpisodeScores:
            plain = super().told(episodes, encodings, log_prob, *rest)
            return replace(plain, loss=encodings.square().mean())

    def size(model: TinyModel) -> float:
        with torch.no_grad():
            return float(model.score_episodes([tell(100, 5)]).encodings.square().mean())

    small, large = trained(5, Anxious(), learning_rate=0.01), trained(5, TinyModel(), learning_rate=0.01)
    assert isinstance(small.model, TinyModel)
    assert isinstance(large.model, TinyModel)
    assert size(small.model) < 0.5 * size(large.model)


def test_values_of_encodings_shape_the_encoder_where_that_is_wanted() -> None:
    with_values = trained(2, value_coefficient=1.0, temperature=1000.0)
    without = trained(2, value_coefficient=0.0, temperature=1000.0)
    assert not same(weights_of(with_values), weights_of(without))


# Passes of the model


def test_each_frozen_phase_passes_every_episode_once() -> None:
    for value_epochs in (1, 7):
        model = TinyModel()
        passes: list[bool] = []
        frozen_steps: list[int] = []

        def watched(
            episodes: Sequence[Told], score: Any = model.score_episodes, into: Any = (passes, frozen_steps)
        ) -> Any:
            into[0].append(torch.is_grad_enabled())
            if not torch.is_grad_enabled():
                into[1].append(sum(len(episode["actions"]) for episode in episodes))
            return score(episodes)

        model.score_episodes = watched  # type: ignore[method-assign]  # to see how it is called
        trainer = make_trainer(
            model, minibatch_timesteps=None, epochs=3, value_epochs_before=value_epochs, value_epochs_after=value_epochs
        )
        add(trainer, LENGTHS)
        trainer.update()
        assert passes == [False, True, True, True, False]
        assert frozen_steps == [sum(LENGTHS)] * 2


def test_minibatches_have_no_more_steps_than_allowed_however_long_an_episode_is() -> None:
    model = TinyModel()
    trainer = make_trainer(model, minibatch_timesteps=100, epochs=1)
    add(trainer, [10_000, *[10] * 20])
    metrics = trainer.update().metrics
    assert max(model.n_steps) <= 100
    assert sum(model.n_steps) == 3 * 10_200
    assert metrics["train/replay_timesteps"] == 10_200


def test_an_episode_that_is_too_long_and_cannot_be_cut_is_named() -> None:
    model = TinyModel()
    model.cut_episode = None  # type: ignore[assignment, method-assign]  # it has none
    trainer = make_trainer(model, minibatch_timesteps=100)
    add(trainer, [10, 101])
    with pytest.raises(InvalidInputError, match="episode 1 has 101 steps, more than the 100 of minibatch_timesteps"):
        trainer.update()


def test_cut_episodes_teach_the_same_as_whole_ones() -> None:
    def first_metrics(limit: int | None) -> dict[str, float]:
        trainer = make_trainer(TinyModel().double(), minibatch_timesteps=limit, epochs=1, learning_rate=0.0)
        for at, length in enumerate(LENGTHS):
            episode = as_doubles(tell(length, at))
            trainer.add_episode(episode, rewards=reward_of(episode), terminated=at % 2 == 0)
        return dict(trainer.update().metrics)

    whole, cut = first_metrics(None), first_metrics(8)
    for name in ("train/policy_loss", "train/effective_share", "train/value_loss", "train/encoding_loss"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-6), name


def test_the_model_is_in_training_mode_only_while_it_learns() -> None:
    modes: list[tuple[bool, bool]] = []

    class Watched(TinyModel):
        def score_episodes(self, episodes: Sequence[Told]) -> EpisodeScores:
            modes.append((torch.is_grad_enabled(), self.training))
            return super().score_episodes(episodes)

    trainer = trained(1, Watched())
    assert set(modes) == {(True, True), (False, False)}
    assert not trainer.model.training


# Steps that do not count


class Prompted(TinyModel):
    """Told that some steps are not its own; there it says nonsense."""

    def told(self, episodes: Sequence[Told], encodings: Tensor, log_prob: Tensor, *rest: Any) -> EpisodeScores:
        valid = torch.cat([episode["valid"] for episode in episodes])
        nonsense = torch.where(valid, log_prob, torch.full_like(log_prob, -math.inf))
        return replace(super().told(episodes, encodings, nonsense, *rest), valid=valid)


@pytest.mark.parametrize("exact", [True, False])
def test_steps_that_do_not_count_change_nothing(exact: bool) -> None:
    plain = make_trainer(TinyModel(exact=exact).double(), minibatch_timesteps=None)
    prompted = make_trainer(Prompted(exact=exact).double(), minibatch_timesteps=None)
    for at, length in enumerate(LENGTHS):
        episode = as_doubles(tell(length, at))
        rewards, ends = reward_of(episode), {"terminated": at % 2 == 0}
        plain.add_episode(episode, rewards=rewards, **ends)
        padded = {
            "observations": torch.cat([torch.ones(2, 3).double(), episode["observations"], torch.ones(1, 3).double()]),
            "actions": torch.cat([torch.zeros(2).long(), episode["actions"], torch.zeros(1).long()]),
            "valid": torch.tensor([False] * 2 + [True] * length + [False]),
        }
        prompted.add_episode(padded, rewards=torch.cat([torch.zeros(2), rewards, torch.zeros(1)]), **ends)
    for trainer in (plain, prompted):
        trainer.update()
    for one, two in zip(weights_of(plain), weights_of(prompted), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_episodes_of_which_nothing_counts_are_refused() -> None:
    trainer = make_trainer(Prompted())
    trainer.add_episode({**tell(3, 0), "valid": torch.zeros(3, dtype=torch.bool)}, rewards=np.ones(3), terminated=True)
    with pytest.raises(InvalidInputError, match="valid is False for all of them"):
        trainer.update()


# Rewards


def test_rewards_that_the_model_tells_take_the_place_of_those_given() -> None:
    class Judge(TinyModel):
        def told(self, episodes: Sequence[Told], *rest: Any) -> EpisodeScores:
            return replace(super().told(episodes, *rest), rewards=torch.cat([3.0 * reward_of(one) for one in episodes]))

    trainer = make_trainer(Judge(), minibatch_timesteps=20)
    for at in range(4):
        trainer.add_episode(tell(20, at), rewards=None, terminated=True)
    first = trainer.update().metrics["train/reward_size"]
    again = trainer.update().metrics["train/reward_size"]
    rewards = torch.cat([3.0 * reward_of(tell(20, at)) for at in range(4)])
    assert first == again == pytest.approx(float(rewards.square().mean().sqrt()))
    assert trainer.replay.timesteps == 80


def test_rewards_that_nobody_tells_are_missed() -> None:
    trainer = make_trainer()
    trainer.add_episode(tell(2, 0), rewards=None, terminated=True)
    with pytest.raises(InvalidInputError, match="episode 0 was added without rewards, and the model tells none"):
        trainer.update()


def test_rewards_are_learned_from_at_unit_size_whatever_their_own() -> None:
    def learned(factor: float) -> list[Tensor]:
        trainer = make_trainer(TinyModel().double(), minibatch_timesteps=None)
        for at, length in enumerate(LENGTHS):
            episode = as_doubles(tell(length, at))
            trainer.add_episode(episode, rewards=factor * reward_of(episode).double(), terminated=True)
        trainer.update()
        return weights_of(trainer)

    for one, two in zip(learned(1.0), learned(1e4), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_rewards_stay_as_they_are_where_that_is_wanted() -> None:
    trainer = make_trainer(normalize_rewards=False, gamma=0.0, value_learning_rate=0.0)
    for at in range(4):
        trainer.add_episode(tell(5, at), rewards=50.0 * reward_of(tell(5, at)), terminated=True)
    metrics = trainer.update().metrics
    rewards = torch.cat([50.0 * reward_of(tell(5, at)) for at in range(4)]).double()
    assert metrics["train/reward_size"] == 1.0
    assert float(trainer.value_function.mean) == pytest.approx(float(rewards.mean()))


def test_the_rewards_of_each_episode_count_once_in_whatever_order_they_come() -> None:
    trainer = make_trainer(replay_updates=None)
    sizes = []
    for number, reward in ((7, 3.0), (2, 4.0)):
        record = EpisodeRecord(
            number=number,
            episode=tell(5, number),
            rewards=torch.full((5,), reward).double(),
            terminated=True,
            log_prob=None,
            added_at=trainer.updates,
            length=5,
        )
        trainer.replay.add(record)
        sizes += [trainer.update().metrics["train/reward_size"] for _ in range(2)]
    assert sizes == pytest.approx([3.0, 3.0, 12.5**0.5, 12.5**0.5])


def test_actions_of_unknown_likelihood_count_as_the_models_own() -> None:
    def learned(*, known: bool) -> list[Tensor]:
        model = TinyModel()
        trainer = make_trainer(model, minibatch_timesteps=None, value_epochs_after=0)
        for at, length in enumerate(LENGTHS):
            with torch.no_grad():
                own = model.score_episodes([tell(length, at)]).log_prob
            given = own if known else None
            trainer.add_episode(tell(length, at), rewards=reward_of(tell(length, at)), terminated=True, log_prob=given)
        trainer.update()
        return weights_of(trainer)

    for one, two in zip(learned(known=True), learned(known=False), strict=True):
        torch.testing.assert_close(one, two)


# Settings over the run


def test_schedules_follow_the_progress() -> None:
    trainer = make_trainer(learning_rate=LinearSchedule(1e-3, 0.0), entropy_share=LinearSchedule(1.0, 0.5))
    add(trainer, LENGTHS)
    first = trainer.update().metrics
    trainer.progress = 0.5
    second = trainer.update().metrics
    assert (first["train/learning_rate"], second["train/learning_rate"]) == (1e-3, 5e-4)
    assert second["train/entropy_target"] == pytest.approx(0.75 * first["train/entropy_target"])


def test_the_entropy_is_pulled_towards_its_target() -> None:
    def entropy(share: float) -> float:
        trainer = make_trainer(
            minibatch_timesteps=40, epochs=10, temperature=1000.0, entropy_coefficient=100.0, entropy_share=share
        )
        for update in range(4):
            add(trainer, [20] * 5, seed=update)
            trainer.update()
        return trainer.update().metrics["train/entropy"]

    assert entropy(0.5) < 0.5 < 0.6 < entropy(1.0)


# Distributions that cannot be divided


class Stubborn(Distribution):
    """A user's own distribution, which knows no divergence and cannot be divided."""

    def __init__(self, inner: Categorical) -> None:
        self.inner = inner

    def log_prob(self, targets: Tensor) -> Tensor:
        return self.inner.log_prob(targets)

    def entropy(self) -> Tensor:
        return self.inner.entropy()

    def mode(self) -> Tensor:
        return self.inner.mode()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.inner.sample(generator)


def test_distributions_that_know_no_divergence_are_done_without() -> None:
    class Own(TinyModel):
        def told(self, episodes: Any, encodings: Tensor, log_prob: Tensor, distribution: Any, lengths: Any) -> Any:
            return super().told(episodes, encodings, log_prob, Stubborn(distribution), lengths)  # type: ignore[arg-type]

    own, sampled = trained(2, Own()), trained(2, TinyModel(exact=False))
    assert same(weights_of(own), weights_of(sampled))


def test_the_default_settings_are_those_of_the_config() -> None:
    assert EpisodeTrainer(TinyModel()).config == VTraceAWRConfig()
