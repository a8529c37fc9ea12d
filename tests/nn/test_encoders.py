from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.core.trees import map_tree, stack
from rl_framework.errors import SpaceError
from rl_framework.nn.encoders import ObservationEncoder, PictureEncoder, channel_axis, holds_pictures
from rl_framework.nn.tensors import to_tensors

CPU = torch.device("cpu")
FLOATS = spaces.Box(-1.0, 1.0, (2, 3), np.float32)


def picture(*shape: int, dtype: Any = np.uint8, high: float = 255) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)


def batch(space: gym.Space[Any], count: int = 4) -> Any:
    space.seed(0)
    return to_tensors(stack([space.sample() for _ in range(count)]), CPU)


SPACES: dict[str, tuple[gym.Space[Any], int]] = {
    "floats": (FLOATS, 6),
    "doubles": (spaces.Box(-1.0, 1.0, (3,), np.float64), 3),
    "whole-numbers": (spaces.Box(-5, 5, (3,), np.int32), 3),
    "bytes": (spaces.Box(0, 255, (128,), np.uint8), 128),
    "no-shape": (spaces.Box(0.0, 1.0, (), np.float32), 1),
    "discrete": (spaces.Discrete(5, start=-2), 5),
    "multi-discrete": (spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=np.array([[1, 0], [0, 9]])), 10),
    "bits": (spaces.MultiBinary((2, 2)), 4),
    "picture-last": (picture(40, 50, 3), 16),
    "picture-first": (picture(4, 84, 84), 16),
    "small-picture": (picture(8, 8, 3), 16),
    "grey-picture": (picture(84, 84), 16),
    "float-picture": (picture(16, 16, 3, dtype=np.float32, high=1.0), 16),
    "dict": (spaces.Dict({"camera.left": picture(12, 12, 3), "state": FLOATS, "mode": spaces.Discrete(2)}), 24),
    "nested": (spaces.Tuple([spaces.Dict({"a": spaces.Tuple([FLOATS])}), spaces.MultiBinary(3)]), 9),
}


@pytest.mark.parametrize("name", list(SPACES))
def test_every_space_becomes_finite_float32_features(name: str) -> None:
    space, expected = SPACES[name]
    encoder = ObservationEncoder(space, image_features=16)
    features = encoder(batch(space))
    assert features.shape == (4, encoder.n_features) == (4, expected)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", list(SPACES))
def test_rows_do_not_depend_on_each_other(name: str) -> None:
    space, _ = SPACES[name]
    encoder = ObservationEncoder(space, image_features=16)
    observations = batch(space)
    alone = encoder(map_tree(lambda leaf: leaf[2:3], observations))
    torch.testing.assert_close(alone, encoder(observations)[2:3], atol=1e-5, rtol=1e-4)


def test_one_hot_marks_the_choice_wherever_counting_starts() -> None:
    encoder = ObservationEncoder(spaces.Discrete(3, start=-1))
    assert encoder(torch.tensor([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]
    several = ObservationEncoder(spaces.MultiDiscrete([2, 3], start=[0, 5]))
    assert several(torch.tensor([[1, 5], [0, 7]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


def test_bytes_are_scaled_to_one_and_other_numbers_are_not() -> None:
    encoder = ObservationEncoder(spaces.Box(0, 255, (2,), np.uint8))
    assert encoder(torch.tensor([[0, 255]], dtype=torch.uint8)).tolist() == [[0.0, 1.0]]
    whole = ObservationEncoder(spaces.Box(-9, 9, (2,), np.int64))
    assert whole(torch.tensor([[-3, 7]])).tolist() == [[-3.0, 7.0]]


def test_channels_first_and_last_see_the_same_picture() -> None:
    last, first = PictureEncoder(picture(10, 12, 3), 8), PictureEncoder(picture(3, 10, 12), 8)
    first.load_state_dict(last.state_dict())
    pictures = batch(picture(10, 12, 3))
    torch.testing.assert_close(first(pictures.permute(0, 3, 1, 2)), last(pictures))


@pytest.mark.parametrize(
    ("shape", "axis"), [((84, 84, 4), 2), ((4, 84, 84), 0), ((84, 84), None), ((3, 40, 50), 0), ((9, 9, 9), 2)], ids=str
)
def test_the_shorter_outer_axis_holds_the_channels(shape: tuple[int, ...], axis: int | None) -> None:
    assert channel_axis(shape) == axis


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (picture(8, 8, 3), True),
        (picture(7, 7, 3), False),
        (picture(84, 84, dtype=np.float32, high=1.0), False),
        (picture(16, 16, 3, dtype=np.float32, high=2.0), False),
        (spaces.Dict({"a": spaces.Discrete(2), "b": picture(9, 9)}), True),
        (spaces.Discrete(3), False),
    ],
    ids=["small", "too-small", "grey-floats", "beyond-one", "in-a-dict", "no-box"],
)
def test_pictures_are_told_from_other_arrays(space: gym.Space[Any], expected: bool) -> None:
    assert holds_pictures(space) is expected


def test_normalisation_covers_float_boxes_alone_and_only_where_asked() -> None:
    space = spaces.Dict({"mode": spaces.Discrete(2), "state": FLOATS, "whole": spaces.Box(0, 9, (2,), np.int64)})
    assert not ObservationEncoder(space).is_normalized
    encoder = ObservationEncoder(space, normalize=True)
    observations = batch(space, 500)
    before = encoder(observations)
    encoder.update_normalization(observations)
    after = encoder(observations)
    (mode, state, whole), (mode_before, _, whole_before) = (
        torch.split(found, [2, 6, 2], 1) for found in (after, before)
    )
    torch.testing.assert_close(state.std(0, correction=0), torch.ones(6), atol=1e-3, rtol=0.0)
    assert torch.equal(mode, mode_before)
    assert torch.equal(whole, whole_before)


def test_a_space_without_numbers_is_refused() -> None:
    with pytest.raises(SpaceError, match="hold no numbers"):
        ObservationEncoder(spaces.Box(0.0, 1.0, (0,), np.float32))


def test_a_space_of_text_is_refused() -> None:
    with pytest.raises(SpaceError, match="Text at 'words'"):
        ObservationEncoder(spaces.Dict({"words": spaces.Text(3)}))
