from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.errors import InvalidInputError, TrainingDivergedError
from rl_framework.nn.episode_model import EpisodeScores
from tests.algorithms.episode_models import (
    LENGTHS,
    TinyModel,
    Told,
    add,
    make_trainer,
    reward_of,
    same,
    tell,
    weights_of,
)

# What cannot be learned from


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InvalidInputError, match="call add_episode before update"):
        make_trainer().update()


@pytest.mark.parametrize(
    ("rewards", "log_prob", "message"),
    [
        (np.zeros(0), None, "rewards of episode 0 must be .*at least one"),
        (np.zeros((2, 2)), None, r"rewards of episode 0 must be .*got \[2, 2\]"),
        (np.array([0.0, np.nan]), None, "rewards of episode 0 must be finite numbers; at step 1 there is nan"),
        (np.zeros(2), np.array([-np.inf, 0.0]), "log_prob of episode 0 must be finite.* at step 0 there is -inf"),
        (np.zeros(2), np.zeros(3), "Episode 0 has 2 rewards and 3 entries of log_prob"),
    ],
)
def test_episodes_that_make_no_sense_are_refused(rewards: Any, log_prob: Any, message: str) -> None:
    trainer = make_trainer()
    with pytest.raises(InvalidInputError, match=message):
        trainer.add_episode(tell(2, 0), rewards=rewards, terminated=True, log_prob=log_prob)
    assert (len(trainer.replay), trainer.n_episodes) == (0, 0)


class Wrong(TinyModel):
    """A model that says something wrong of the episodes that are marked."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong

    def told(
        self, episodes: Sequence[Told], encodings: Tensor, log_prob: Tensor, distribution: Any, lengths: tuple[int, ...]
    ) -> EpisodeScores:
        plain = super().told(episodes, encodings, log_prob, distribution, lengths)
        marked = [at for at, episode in enumerate(episodes) if "marked" in episode]
        if not marked:
            return plain
        last = sum(lengths[: marked[0] + 1]) - 1
        match self.wrong:
            case "encodings":
                return replace(plain, encodings=encodings[:-1])
            case "lengths":
                return replace(plain, lengths=tuple(length - (at in marked) for at, length in enumerate(lengths)))
            case "nan encodings":
                return replace(plain, encodings=torch.full_like(encodings, torch.nan))
        value = {"-inf": -math.inf, "nan": math.nan}[self.wrong]
        return replace(plain, log_prob=log_prob.index_fill(0, torch.tensor(last), value))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("encodings", r"encodings of episode 2 must be \[5, 5\].*the model gave \[4, 5\]"),
        ("lengths", "episode 2 has 4 actions, and the model told of 3"),
        ("-inf", "log-likelihood of the action at step 3 of episode 2 is -inf"),
        ("nan", "log-likelihood of the action at step 3 of episode 2 is nan"),
        ("nan encodings", "encoding of observation 0 of episode 0 holds NaN"),
    ],
)
def test_what_a_model_may_not_say_is_refused_and_the_episode_named(wrong: str, message: str) -> None:
    trainer = make_trainer(Wrong(wrong))
    add(trainer, [3, 6])
    trainer.add_episode({**tell(4, 0), "marked": torch.ones(())}, rewards=np.ones(4), terminated=True)
    before = weights_of(trainer)
    with pytest.raises(InvalidInputError, match=message):
        trainer.update()
    assert same(weights_of(trainer), before)
    assert trainer.updates == 0


def test_cut_episodes_are_named_with_the_step_where_the_piece_begins() -> None:
    trainer = make_trainer(Wrong("-inf"), minibatch_timesteps=4)
    model = trainer.model
    assert isinstance(model, Wrong)
    cut = model.cut_episode
    model.cut_episode = lambda episode, start, stop: {  # type: ignore[method-assign]  # to mark the second piece
        **cut(episode, start, stop),
        **({"marked": torch.ones(())} if start else {}),
    }
    add(trainer, [8])
    with pytest.raises(InvalidInputError, match="step 3 of episode 0 from step 4 is -inf"):
        trainer.update()


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Linear is no EpisodeModel"):
        EpisodeTrainer(nn.Linear(1, 1))
    with pytest.raises(InvalidInputError, match="no parameters that could learn"):
        EpisodeTrainer(TinyModel().requires_grad_(requires_grad=False))


@pytest.mark.parametrize("value", [0.0, 1.0, -1000.0])
def test_equal_rewards_are_no_trouble(value: float) -> None:
    trainer = make_trainer(normalize_advantages=True)
    for update in range(3):
        for at, length in enumerate(LENGTHS):
            trainer.add_episode(tell(length, 10 * update + at), rewards=np.full(length, value), terminated=True)
        assert all(math.isfinite(number) for number in trainer.update().metrics.values())


def test_equal_advantages_weigh_all_actions_alike() -> None:
    trainer = make_trainer(value_warmup_epochs=0, value_epochs_before=0)
    nn.init.zeros_(trainer.value_function.head.weight)
    for at in range(4):
        trainer.add_episode(tell(1, at), rewards=[2.5], terminated=True)
    assert trainer.update().metrics["train/effective_share"] == 1.0


class Exploding(TinyModel):
    """Says NaN in one of its calls, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.explodes_at = 0

    def told(self, episodes: Any, encodings: Tensor, log_prob: Tensor, *rest: Any) -> EpisodeScores:
        bad = len(self.n_steps) == self.explodes_at
        return super().told(episodes, encodings, log_prob * math.nan if bad else log_prob, *rest)


def test_an_update_that_diverges_is_undone() -> None:
    model = Exploding()
    trainer = make_trainer(model, minibatch_timesteps=None)
    add(trainer, LENGTHS)
    trainer.update()
    before, statistics = weights_of(trainer), trainer.state_dict()["phases"]
    model.explodes_at = len(model.n_steps) + 2  # the first gradient step
    add(trainer, LENGTHS, seed=1)
    with pytest.raises(TrainingDivergedError, match=r"in update 2\. The weights of update 1 were kept"):
        trainer.update()
    after = trainer.state_dict()["phases"]
    assert same(weights_of(trainer), before)
    assert torch.equal(after["controller"]["coefficient"], statistics["controller"]["coefficient"])
    assert trainer.updates == 1
    model.explodes_at = 0
    assert all(math.isfinite(number) for number in trainer.update().metrics.values())
    rewards = torch.cat([reward_of(tell(length, at + more)) for more in (0, 1000) for at, length in enumerate(LENGTHS)])
    assert trainer._phases.rewards.size == pytest.approx(float(rewards.square().mean().sqrt()))


def test_a_parameter_that_learns_for_the_first_time_in_an_update_that_diverges_is_put_back() -> None:
    class Late(TinyModel):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Parameter(torch.ones(2))
            self.is_on = False

        def told(self, *rest: Any) -> EpisodeScores:
            loss = self.extra.sum() * math.nan if self.is_on and torch.is_grad_enabled() else None
            return replace(super().told(*rest), loss=loss)

    model = Late()
    trainer = make_trainer(model)
    add(trainer, LENGTHS)
    trainer.update()
    before = weights_of(trainer)
    model.is_on = True
    with pytest.raises(TrainingDivergedError):
        trainer.update()
    assert same(weights_of(trainer), before)
    model.is_on = False
    assert trainer.update().metrics
