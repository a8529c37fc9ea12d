from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.data.episode import Episode
from rl_framework.errors import UnknownOptionError
from rl_framework.nn.episode_model import EpisodeScores
from tests.algorithms.episode_models import (
    LENGTHS,
    TinyModel,
    add,
    make_trainer,
    same,
    tell,
    trained,
    weights_of,
)

# The best so far


def test_the_best_statistics_are_remembered() -> None:
    trainer = make_trainer()
    assert trainer.add_eval_stats({"return": 1.0, "length": 5.0}, primary="return")
    assert not trainer.add_eval_stats({"return": 1.0}, primary="return")
    assert not trainer.add_eval_stats({"return": math.nan}, primary="return")
    assert trainer.add_eval_stats({"return": 2.0}, primary="return")
    assert trainer.best_stats == {"return": 2.0, "primary": 2.0}
    with pytest.raises(UnknownOptionError, match="Did you mean 'return'"):
        trainer.add_eval_stats({"return": 2.0}, primary="retrun")


def test_the_best_after_resuming_is_the_best_before() -> None:
    first, second = make_trainer(), make_trainer()
    first.add_eval_stats({"return": 2.0}, primary="return")
    second.load_state_dict(first.state_dict())
    assert not second.add_eval_stats({"return": 1.5}, primary="return")


# Going on


class Forgetful(TinyModel):
    """A model with dropout."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.body.append(nn.Dropout(0.2))


@pytest.mark.parametrize("known", [True, False], ids=["played", "recorded"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path: Path, known: bool) -> None:
    settings = {"minibatch_timesteps": 16, "value_dropout": 0.3, "seed": 3, "replay_updates": 2}
    whole = make_trainer(Forgetful(), **settings)
    for update in range(3):
        add(whole, LENGTHS, seed=update, **({} if known else {"log_prob": None}))
        whole.update()
    write_state(tmp_path, "state", whole.state_dict())
    resumed = make_trainer(Forgetful(seed=1), **{**settings, "seed": 4})
    resumed.load_state_dict(read_state(tmp_path, "state"))
    torch.manual_seed(17)
    for update in range(3, 6):
        for trainer in (whole, resumed):
            add(trainer, LENGTHS, seed=update)
        assert whole.update() == resumed.update()
    assert same(weights_of(whole), weights_of(resumed))
    assert (resumed.updates, resumed.n_episodes, resumed.timesteps) == (6, 30, 330)


def test_recorded_episodes_are_saved_with_the_replay(tmp_path: Path) -> None:
    class OfRecords(TinyModel):
        def score_episodes(self, episodes: Sequence[Any]) -> EpisodeScores:
            return super().score_episodes(
                [
                    {"observations": torch.tensor(one.observations), "actions": torch.tensor(one.actions)}
                    for one in episodes
                ]
            )

    told = tell(6, 0)
    episode = Episode(
        observations=told["observations"].numpy(),
        actions=told["actions"].numpy(),
        rewards=np.ones(6),
        terminated=True,
        infos=[{"at": step} for step in range(6)],
    )
    trainers = [make_trainer(OfRecords()), make_trainer(OfRecords())]
    trainers[0].add_episode(episode, rewards=episode.rewards, terminated=episode.terminated)
    write_state(tmp_path, "state", trainers[0].state_dict())
    trainers[1].load_state_dict(read_state(tmp_path, "state"))
    (record,) = trainers[1].replay
    assert record.episode == episode
    assert trainers[0].update() == trainers[1].update()


def test_hyper_parameters_may_change_between_runs() -> None:
    first, second = trained(1), make_trainer(weight_decay=0.25, value_weight_decay=0.5)
    second.load_state_dict(first.state_dict())
    decays = [optimizer.param_groups[0]["weight_decay"] for _, optimizer in second._optimizers()]
    assert decays == [0.25, 0.5]


def test_without_a_seed_two_trainers_differ_and_with_one_they_do_not() -> None:
    assert not same(weights_of(trained(1, seed=None)), weights_of(trained(1, seed=None)))
    assert same(weights_of(trained(2, seed=5)), weights_of(trained(2, seed=5)))


def test_updates_leave_the_processs_random_generators_alone() -> None:
    trainer = make_trainer(Forgetful(), value_dropout=0.5)
    add(trainer, LENGTHS)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    trainer.update()
    assert torch.equal(torch.rand(1), expected)
