"""What holds for minibatches of every kind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.core.trees import leaves
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.sampling.hindsight import Hindsight
from rl_framework.data.sampling.prioritized import PrioritizedSelection
from rl_framework.data.sampling.replay_sampler import ReplaySampler
from rl_framework.data.sampling.uniform import UniformSelection
from rl_framework.errors import InvalidInputError, RLFrameworkError, SpaceError, UnknownOptionError
from tests.data.sampling.recordings import Recording, record, reward

HINDSIGHT = Hindsight(mixture="rfaab_1_4_3_1_1", reward=reward, warm_up=100, shaping=0.1)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(episodes=100, capacity=333)


def tensors(batch: ReplayBatch) -> list[torch.Tensor]:
    trees = (batch.observations, batch.next_observations, batch.actions, batch.rewards, batch.discounts, batch.rows)
    return [leaf for tree in trees for leaf in leaves(tree)] + ([] if batch.weights is None else [batch.weights])


@pytest.mark.parametrize("relabel", [None, HINDSIGHT])
@pytest.mark.parametrize("n_step", [1, 3])
def test_nothing_waits_for_the_device_and_shapes_are_as_promised(
    recording: Recording, n_step: int, relabel: Hindsight | None
) -> None:
    sampler = ReplaySampler(
        recording.replay,
        PrioritizedSelection(recording.replay),
        gammas=(0.5, 0.9, 0.98),
        n_step=n_step,
        relabel=relabel,
        endings="first_visit" if relabel else "environment",
    )
    generator = torch.Generator().manual_seed(0)
    with HostAccessRefused(torch.device("cpu")):
        batch = sampler.sample(32, generator)
        sampler.update_priorities(batch.rows, batch.rewards[:, 0])

    assert batch.rewards.shape == batch.discounts.shape == (32, 3)
    assert batch.observations["observation"].shape == batch.next_observations["observation"].shape == (32, 2)
    assert batch.weights is not None
    assert batch.weights.shape == batch.rows.shape == (32,)
    assert {tensor.dtype for tensor in tensors(batch)} == {torch.float32, torch.int64}


@pytest.mark.parametrize("relabel", [None, HINDSIGHT])
def test_the_same_generator_and_state_give_the_same_minibatch(recording: Recording, relabel: Hindsight | None) -> None:
    def sampler() -> ReplaySampler:
        selection = PrioritizedSelection(recording.replay)
        return ReplaySampler(recording.replay, selection, gammas=(0.9,), n_step=2, relabel=relabel)

    first, second = sampler(), sampler()
    for seed in range(3):
        batch = first.sample(16, torch.Generator().manual_seed(seed))
        first.update_priorities(batch.rows, batch.rewards[:, 0])
    second.load_state_dict(first.state_dict())

    ours, theirs = (each.sample(16, torch.Generator().manual_seed(7)) for each in (first, second))

    assert all(torch.equal(one, other) for one, other in zip(tensors(ours), tensors(theirs), strict=True))


def test_nothing_is_drawn_from_elsewhere_than_the_generator(recording: Recording) -> None:
    selection = UniformSelection(recording.replay)
    sampler = ReplaySampler(recording.replay, selection, gammas=(0.9,), relabel=HINDSIGHT)
    before = torch.random.get_rng_state()

    sampler.sample(16, torch.Generator().manual_seed(0))

    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_hindsight_goals_and_rewards_are_as_stored(recording: Recording) -> None:
    sampler = ReplaySampler(recording.replay, UniformSelection(recording.replay), gammas=(0.9,))

    batch = sampler.sample(500, torch.Generator().manual_seed(0))

    steps = [recording.step(int(row)) for row in batch.rows]
    torch.testing.assert_close(batch.rewards[:, 0], torch.tensor([each.reward for each in steps]))
    expected = torch.tensor([(1.0, each.episode, each.step) for each in steps])
    assert torch.equal(batch.observations["desired_goal"], expected)
    assert torch.equal(batch.next_observations["desired_goal"], expected)


def test_pictures_and_choices_keep_their_number_types() -> None:
    observations = spaces.Tuple((spaces.Box(0, 255, (4, 4, 1), np.uint8), spaces.Discrete(3)))
    replay = ReplayBuffer(64, transition_columns(observations, spaces.Discrete(5)))
    pictures = torch.arange(10 * 16, dtype=torch.uint8).view(10, 4, 4, 1)
    entries: dict[str, Any] = {
        "observations": (pictures, torch.arange(10) % 3),
        "next_observations": (pictures + 1, (torch.arange(10) + 1) % 3),
        "actions": torch.arange(10) % 5,
        "rewards": torch.arange(10.0),
        "terminated": torch.arange(10) == 9,
    }
    replay.add_episode(entries)
    sampler = ReplaySampler(replay, UniformSelection(replay), gammas=(0.5,), n_step=2)

    batch = sampler.sample(50, torch.Generator().manual_seed(0))

    assert batch.observations[0].dtype == torch.uint8
    assert torch.equal(batch.observations[0], pictures[batch.rows])
    assert torch.equal(batch.actions, batch.rows % 5)
    lasts = (batch.rows + 1).clamp(max=9)
    assert torch.equal(batch.next_observations[0], pictures[lasts] + 1)
    assert torch.equal(batch.next_observations[1], (lasts + 1) % 3)


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        ({"n_step": 0}, InvalidInputError, "got n_step=0"),
        ({"gammas": ()}, InvalidInputError, "got ()"),
        ({"gammas": (0.9, 1.1)}, InvalidInputError, "got (0.9, 1.1)"),
        ({"endings": "sometimes"}, UnknownOptionError, "'sometimes'"),
    ],
)
def test_settings_out_of_range_are_refused(
    recording: Recording, settings: dict[str, Any], error: type[RLFrameworkError], complaint: str
) -> None:
    with pytest.raises(error, match=re.escape(complaint)):
        ReplaySampler(recording.replay, UniformSelection(recording.replay), **{"gammas": (0.9,), **settings})


def test_endings_at_the_goal_need_goals() -> None:
    replay = ReplayBuffer(8, transition_columns(spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2)))
    with pytest.raises(SpaceError, match="need observations with goals"):
        ReplaySampler(replay, UniformSelection(replay), gammas=(0.9,), endings="first_visit")
    with pytest.raises(InvalidInputError, match="empty"):
        ReplaySampler(replay, UniformSelection(replay), gammas=(0.9,)).sample(4, torch.Generator())
