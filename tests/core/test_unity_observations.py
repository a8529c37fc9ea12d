"""Numbers out of ML-Agents' observation messages, in both layouts and both ways of sending pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.core.unity_observations import stacked_observations
from rl_framework.errors import InvalidInputError

pytest.importorskip("mlagents_envs")
prepare()
HWC, CHW = (2, 2, 1), (1, 2, 2)
PNG = 1


def proto(shape: Sequence[int], **fields: Any) -> Any:
    from mlagents_envs.communicator_objects.observation_pb2 import ObservationProto

    numbers = fields.pop("numbers", None)
    found = ObservationProto(shape=shape, **fields)
    if numbers is not None:
        found.float_data.data.extend(np.ravel(numbers).tolist())
    return found


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def frame(seed: int, height: int = 5, width: int = 7) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def brightness(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.array(pixels / np.float32(255), dtype=np.float32)


@pytest.mark.parametrize("shape", [(1,), (4,), (300,), (3, 2), (0, 2), (2, 5, 7)])
def test_numbers_come_as_they_were_sent(shape: tuple[int, ...]) -> None:
    sent = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    found = stacked_observations([proto(shape, numbers=one) for one in sent], shape)
    assert found.dtype == np.float32
    assert found.flags.writeable
    np.testing.assert_array_equal(found, sent)


def test_what_is_not_a_number_comes_too() -> None:
    sent = [float("nan"), float("inf"), -0.0]
    np.testing.assert_array_equal(stacked_observations([proto((3,), numbers=sent)], (3,)), [sent])


@pytest.mark.parametrize("count", [0, 3, 5])
def test_another_count_of_numbers_is_refused(count: int) -> None:
    good, bad = proto((4,), numbers=np.zeros(4)), proto((4,), numbers=np.zeros(count))
    with pytest.raises(InvalidInputError, match=f"expected 4 numbers, got {count}"):
        stacked_observations([good, bad], (4,))


@pytest.mark.parametrize("flags", [HWC, ()], ids=["flags", "none"])
def test_a_png_in_the_old_layout(flags: tuple[int, ...]) -> None:
    pixels = frame(1)
    sent = proto(pixels.shape, compression_type=PNG, compressed_data=png(pixels), dimension_properties=flags)
    np.testing.assert_array_equal(stacked_observations([sent], pixels.shape), brightness(pixels)[None])


@pytest.mark.parametrize("flags", [CHW, ()], ids=["flags", "none"])
def test_a_png_in_the_new_layout(flags: tuple[int, ...]) -> None:
    pixels = frame(2)
    shape = (3, 5, 7)
    sent = proto(shape, compression_type=PNG, compressed_data=png(pixels), dimension_properties=flags)
    np.testing.assert_array_equal(stacked_observations([sent], shape), brightness(pixels).transpose(2, 0, 1)[None])


@pytest.mark.parametrize(("flags", "axes"), [(HWC, (0, 1, 2)), (CHW, (2, 0, 1))])
def test_where_all_sizes_are_three_the_flags_decide(flags: tuple[int, ...], axes: tuple[int, int, int]) -> None:
    pixels = frame(3, 3, 3)
    sent = proto((3, 3, 3), compression_type=PNG, compressed_data=png(pixels), dimension_properties=flags)
    np.testing.assert_array_equal(stacked_observations([sent], (3, 3, 3))[0], brightness(pixels).transpose(axes))


def test_stacked_frames_lie_behind_each_other() -> None:
    pixels = [frame(seed) for seed in range(2)]
    sent = proto((5, 7, 6), compression_type=PNG, compressed_data=b"".join(map(png, pixels)))
    found = stacked_observations([sent], (5, 7, 6))
    np.testing.assert_array_equal(found[0], np.concatenate([brightness(one) for one in pixels], axis=2))


def test_a_mapping_puts_channels_together_and_leaves_some_out() -> None:
    pixels = [frame(seed) for seed in range(2)]
    data = b"".join(map(png, pixels))
    sent = proto((2, 5, 7), compression_type=PNG, compressed_data=data, compressed_channel_mapping=[1, 1, 1, 0, -1, -1])
    found = stacked_observations([sent], (2, 5, 7))[0]
    np.testing.assert_allclose(found[1], brightness(pixels[0]).mean(axis=2), rtol=1e-6)
    np.testing.assert_array_equal(found[0], brightness(pixels[1])[..., 0])


def test_without_a_mapping_grey_is_the_mean_and_filling_channels_are_dropped() -> None:
    pixels = frame(4)
    grey = proto((5, 7, 1), compression_type=PNG, compressed_data=png(pixels))
    np.testing.assert_allclose(stacked_observations([grey], (5, 7, 1))[0, ..., 0], brightness(pixels).mean(axis=2))
    two = proto((5, 7, 2), compression_type=PNG, compressed_data=png(pixels))
    np.testing.assert_array_equal(stacked_observations([two], (5, 7, 2))[0], brightness(pixels)[..., :2])


def test_a_grey_png_has_three_equal_channels() -> None:
    pixels = frame(5)[..., 0]
    sent = proto((5, 7, 3), compression_type=PNG, compressed_data=png(pixels))
    found = stacked_observations([sent], (5, 7, 3))[0]
    np.testing.assert_array_equal(found, np.repeat(brightness(pixels)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"compressed_data": b""}, "expected a PNG picture at byte 0 of 0"),
        ({"compressed_data": b"JFIF" * 10}, "expected a PNG picture at byte 0"),
        ({"compressed_data": png(frame(0)) + b"rest"}, "expected a PNG picture at byte"),
        ({"compressed_data": png(frame(0))[:60]}, "cannot be read"),
        ({"compressed_data": png(frame(0)) + png(frame(0, 5, 8))}, "of one size"),
        ({"compressed_data": png(frame(0, 6, 7))}, "expected a picture of shape"),
        ({"compressed_data": png(frame(0)), "compressed_channel_mapping": [0, 1]}, "channel mapping of 3 numbers"),
        ({"compressed_data": png(frame(0)), "compressed_channel_mapping": [0, 0, 7]}, "channel mapping"),
    ],
)
def test_damaged_pictures_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        stacked_observations([proto((5, 7, 3), compression_type=PNG, **fields)], (5, 7, 3))


def test_a_picture_of_another_shape_than_announced_is_refused() -> None:
    sent = proto((5, 7, 3), compression_type=PNG, compressed_data=png(frame(0)))
    with pytest.raises(InvalidInputError, match=r"expected a picture of shape \(3, 5, 7\), got \(5, 7, 3\)"):
        stacked_observations([sent], (3, 5, 7))
