"""What networks see of observations, and the statistics that only `update_normalization` changes."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.errors import SpaceError
from rl_framework.nn.control_features import ControlFeatures, NetworkInputs

NUMBERS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
GOALS = spaces.Dict(
    {
        "achieved_goal": spaces.Box(-1, 1, (2,), np.float32),
        "desired_goal": spaces.Box(-1, 1, (2,), np.float32),
        "observation": spaces.Box(-9, 9, (4,), np.float32),
    }
)


def test_statistics_of_chunks_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    chunks = [rng.normal([0.0, 40.0, -3.0], [1.0, 90.0, 0.01], (rng.integers(1, 60), 3)) for _ in range(100)]
    features = ControlFeatures(NUMBERS, normalize=True)
    for chunk in chunks:
        features.update_normalization(torch.as_tensor(chunk, dtype=torch.float32))
    rows = np.concatenate([chunk.astype(np.float32) for chunk in chunks]).astype(np.float64).clip(-200.0, 200.0)
    assert features.normalization is not None
    np.testing.assert_allclose(features.normalization.mean.numpy(), rows.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(features.normalization.variance.numpy(), rows.var(0), rtol=1e-6, atol=1e-6)
    asked = torch.as_tensor(rng.normal(0.0, 300.0, (50, 3)), dtype=torch.float32)
    scaled = (asked.double().numpy().clip(-200.0, 200.0) - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-8)
    np.testing.assert_allclose(features(asked).numpy(), scaled.clip(-5.0, 5.0), rtol=1e-4, atol=1e-4)
    assert float(features(asked).abs().max()) == 5.0


def test_looking_changes_no_statistics_and_loading_brings_them_back() -> None:
    features = ControlFeatures(NUMBERS, normalize=True)
    features.update_normalization(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 7.0 + 2.0)
    before = copy.deepcopy(features.state_dict())
    rows = torch.linspace(-90.0, 90.0, 30).view(10, 3)
    seen = features(rows)
    features.prepare(rows)
    NetworkInputs(features, 8)(rows)
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())
    other = ControlFeatures(NUMBERS, normalize=True)
    assert not torch.equal(other(rows), seen)
    other.load_state_dict(before)
    assert torch.equal(other(rows), seen)
    other.update_normalization(rows)
    assert not torch.equal(other(rows), seen)


@pytest.mark.parametrize("normalize", [False, True])
def test_networks_see_what_is_observed_and_desired_in_this_order(*, normalize: bool) -> None:
    features = ControlFeatures(GOALS, normalize=normalize)
    observations = {
        "achieved_goal": torch.full((2, 2), 7.0),
        "desired_goal": torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
        "observation": torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]),
    }
    joined = torch.cat([observations["observation"], observations["desired_goal"]], 1)
    assert features.n_features == features.n_numbers == 6
    torch.testing.assert_close(features(observations), joined)
    features.update_normalization(observations)
    assert features.is_normalized is normalize
    changed = {**observations, "achieved_goal": torch.zeros(2, 2)}
    assert torch.equal(features(changed), features(observations))
    if normalize:
        torch.testing.assert_close(features(observations).mean(0), torch.zeros(6), atol=1e-5, rtol=0)


def test_only_float_numbers_are_normalised() -> None:
    space = spaces.Dict(
        {
            "bits": spaces.MultiBinary(2),
            "choice": spaces.Discrete(3, start=5),
            "level": spaces.Box(0, 9, (1,), np.int64),
            "where": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    features = ControlFeatures(space, normalize=True)
    observations = {
        "bits": torch.tensor([[0, 1], [1, 1]], dtype=torch.int8),
        "choice": torch.tensor([5, 7]),
        "level": torch.tensor([[3], [9]]),
        "where": torch.tensor([[10.0, -10.0], [30.0, -10.0]]),
    }
    features.update_normalization(observations)
    wanted = torch.tensor([[-1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 3.0], [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 9.0]])
    torch.testing.assert_close(features(observations), wanted)


@pytest.mark.parametrize("normalize", [False, True])
def test_sines_and_cosines_of_float_numbers_stand_behind_all_numbers(*, normalize: bool) -> None:
    space = spaces.Dict({"choice": spaces.Discrete(3), "where": spaces.Box(-np.inf, np.inf, (2,), np.float32)})
    plain, features = (
        ControlFeatures(space, normalize=normalize),
        ControlFeatures(space, normalize=normalize, octaves=3),
    )
    observations = {"choice": torch.tensor([0, 2]), "where": torch.tensor([[0.5, -3.0], [2.0, 1.0]])}
    for each in (plain, features):
        each.update_normalization(observations)
    assert features.n_numbers == features.n_features == 5 + 2 * 3 * 2
    numbers = plain(observations)
    angles = np.concatenate([numbers[:, :2].double().numpy() * frequency for frequency in (1, 2, 4)], 1)
    expected = np.concatenate([numbers.numpy(), np.sin(angles), np.cos(angles)], 1)
    np.testing.assert_allclose(features(observations).numpy(), expected, atol=1e-5)
    assert features.prepare(observations).numbers.shape == (2, 17)
    assert NetworkInputs(features, 8)(observations).shape == (2, 17)


def test_where_nothing_is_a_float_number_there_are_no_waves() -> None:
    features = ControlFeatures(spaces.Discrete(3), octaves=4)
    assert features.n_features == 3
    assert torch.equal(features(torch.tensor([1])), torch.tensor([[0.0, 1.0, 0.0]]))


def test_pictures_are_left_to_each_network() -> None:
    space = spaces.Dict({"camera": spaces.Box(0, 255, (12, 12), np.uint8), "speed": spaces.Box(-9, 9, (2,))})
    features = ControlFeatures(space)
    observations = {"camera": torch.full((3, 12, 12), 51, dtype=torch.uint8), "speed": torch.ones(3, 2)}
    prepared = features.prepare(observations)
    assert prepared.numbers.shape == (3, 2)
    assert [picture.dtype for picture in prepared.pictures] == [torch.uint8]
    assert features.prepare(prepared) is prepared
    assert features(observations).shape == (3, 146) == (3, features.n_features)
    assert float(features(observations)[0, -1]) == pytest.approx(0.2)
    one, other = NetworkInputs(features, 8), NetworkInputs(features, 8)
    assert one(observations).shape == (3, 10) == (3, one.n_features)
    assert torch.equal(one(observations)[:, :2], observations["speed"])
    assert not torch.equal(one(observations), other(observations))
    assert one.features is other.features


def test_only_pictures_are_seen_too() -> None:
    space = spaces.Box(0, 255, (12, 12), np.uint8)
    inputs = NetworkInputs(ControlFeatures(space, normalize=True), 8)
    assert inputs(torch.zeros(3, 12, 12, dtype=torch.uint8)).shape == (3, 8)
    assert not inputs.features.is_normalized
    inputs.features.update_normalization(torch.zeros(3, 12, 12, dtype=torch.uint8))


@pytest.mark.parametrize("space", [spaces.Box(0, 1, (0,), np.float32), spaces.Text(4)])
def test_observations_without_numbers_are_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(SpaceError):
        ControlFeatures(space)
