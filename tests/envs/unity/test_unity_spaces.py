"""Sensors and action branches as spaces, and batches of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.unity_spaces import UnityActions, UnityObservations, UnitySensor
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.spaces import actions_of, find_behavior, observations_of
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from tests.envs.unity.scripted_player import behavior, sensor

VECTOR = UnitySensor(name="Body", shape=(3,))
RAYS = UnitySensor(name="Rays", shape=(2,))
BUFFER = UnitySensor(name="Others", shape=(4, 2))
CAMERA = UnitySensor(name="Camera", shape=(3, 6, 5))
OLD_CAMERA = UnitySensor(name="Camera", shape=(6, 5, 3), channels_last=True)


def numbers(*shape: int) -> Any:
    """Numbers from 0 to 1 that all differ."""
    return (np.arange(np.prod(shape)) / np.prod(shape)).reshape(shape).astype(np.float32)


def test_one_sensor_is_a_box_and_its_batch_is_a_copy() -> None:
    form = UnityObservations([VECTOR])
    given = numbers(2, 3)
    batch = form.batch([given])
    given[:] = -1
    assert form.space == spaces.Box(-np.inf, np.inf, (3,), np.float32)
    np.testing.assert_array_equal(batch, numbers(2, 3))


def test_several_sensors_are_a_dict_by_name() -> None:
    form = UnityObservations([VECTOR, BUFFER, CAMERA])
    assert isinstance(form.space, spaces.Dict)
    assert {name: part.shape for name, part in form.space.items()} == {
        "Body": (3,),
        "Others": (4, 2),
        "Camera": (3, 6, 5),
    }
    batch = form.batch([numbers(2, 3), numbers(2, 4, 2), numbers(2, 3, 6, 5)])
    assert list(batch) == list(form.space)
    assert form.space.contains({name: leaf[1] for name, leaf in batch.items()})
    np.testing.assert_array_equal(batch["Others"], numbers(2, 4, 2))


@pytest.mark.parametrize(("layout", "shape"), [("chw", (3, 6, 5)), ("hwc", (6, 5, 3))])
def test_pictures_of_both_packages_come_in_the_layout_asked_for(layout: Any, shape: tuple[int, ...]) -> None:
    picture = numbers(1, 3, 6, 5)
    new = UnityObservations([CAMERA], layout=layout)
    old = UnityObservations([OLD_CAMERA], layout=layout)
    assert new.space == old.space == spaces.Box(0, 255, shape, np.uint8)
    from_new, from_old = new.batch([picture]), old.batch([picture.transpose(0, 2, 3, 1)])
    np.testing.assert_array_equal(from_new, from_old)
    expected = np.rint(picture * 255).astype(np.uint8)
    np.testing.assert_array_equal(from_new, expected if layout == "chw" else expected.transpose(0, 2, 3, 1))
    assert from_new.flags.c_contiguous


def test_bytes_of_a_picture_stay_as_they_are() -> None:
    given = np.arange(90, dtype=np.uint8).reshape(1, 3, 6, 5)
    np.testing.assert_array_equal(UnityObservations([CAMERA]).batch([given]), given)
    scaled = UnityObservations([CAMERA], picture_type="float32").batch([given])
    np.testing.assert_allclose(scaled, given / 255, rtol=1e-6)


def test_a_grid_of_other_numbers_is_refused_as_a_picture_and_taken_as_numbers() -> None:
    given = numbers(1, 3, 6, 5) * 7
    with pytest.raises(SpaceError, match=r"'Camera' gives numbers from 0 to 6\.9.*picture_type='float32'"):
        UnityObservations([CAMERA]).batch([given])
    form = UnityObservations([CAMERA], picture_type="float32")
    assert form.space == spaces.Box(-np.inf, np.inf, (3, 6, 5), np.float32)
    np.testing.assert_array_equal(form.batch([given]), given)


def test_flatten_joins_vectors_and_leaves_the_rest() -> None:
    alone = UnityObservations([VECTOR, RAYS], flatten=True)
    assert alone.space == spaces.Box(-np.inf, np.inf, (5,), np.float32)
    np.testing.assert_array_equal(alone.batch([numbers(1, 3), numbers(1, 2)])[0], [*numbers(3), *numbers(2)])
    beside = UnityObservations([VECTOR, BUFFER, RAYS], flatten=True)
    assert isinstance(beside.space, spaces.Dict)
    assert {name: part.shape for name, part in beside.space.items()} == {"Others": (4, 2), "vector": (5,)}
    batch = beside.batch([numbers(1, 3), numbers(1, 4, 2), numbers(1, 2)])
    np.testing.assert_array_equal(batch["vector"][0], [*numbers(3), *numbers(2)])


def test_equal_and_awkward_names_are_told_apart() -> None:
    form = UnityObservations([VECTOR, UnitySensor(name="Body", shape=(2,)), UnitySensor(name="Ray.Front", shape=(1,))])
    assert [one.name for one in form.sensors] == ["Body", "Body_1", "Ray_Front"]


def test_one_observation_is_a_row_of_a_batch() -> None:
    form = UnityObservations([VECTOR, CAMERA])
    one = form.one([numbers(3), numbers(3, 6, 5)])
    assert form.space.contains(one)
    np.testing.assert_array_equal(one["Body"], numbers(3))


@pytest.mark.parametrize(
    ("shape", "properties", "is_last"),
    [
        ((84, 84, 3), (2, 2, 1), True),
        ((3, 84, 84), (1, 2, 2), False),
        ((4, 4, 16), (2, 2, 1), True),
        ((16, 4, 4), (1, 2, 2), False),
        ((84, 84, 3), (), True),
        ((3, 84, 84), (0, 0, 0), False),
        ((8,), (1,), False),
    ],
)
def test_the_layout_is_told_by_the_properties_or_else_by_the_sizes(
    shape: tuple[int, ...], properties: tuple[int, ...], *, is_last: bool
) -> None:
    assert UnitySensor.of("Any", shape, properties).channels_last is is_last


@pytest.mark.parametrize("camera", [CAMERA, OLD_CAMERA])
def test_people_see_the_camera(camera: UnitySensor) -> None:
    picture = UnityObservations([VECTOR, camera]).picture([numbers(3), numbers(*camera.shape)])
    assert picture is not None
    assert picture.shape == (6, 5, 3)
    expected = numbers(*camera.shape) if camera.channels_last else np.moveaxis(numbers(*camera.shape), 0, -1)
    np.testing.assert_array_equal(picture, np.rint(expected * 255).astype(np.uint8))


def test_people_see_grey_in_three_channels_and_nothing_without_a_camera() -> None:
    grey = UnitySensor(name="Camera", shape=(1, 6, 5))
    picture = UnityObservations([grey]).picture([numbers(1, 6, 5)])
    assert picture is not None
    assert (picture[..., 0] == picture[..., 2]).all()
    assert UnityObservations([VECTOR]).picture([numbers(3)]) is None


@pytest.mark.parametrize(
    ("sensors", "options", "error", "words"),
    [
        ([], {}, SpaceError, "no sensor"),
        ([UnitySensor(name="Odd", shape=(1, 2, 3, 4))], {}, SpaceError, "'Odd' has the shape"),
        ([VECTOR], {"layout": "cwh"}, UnknownOptionError, "Did you mean 'chw'"),
        ([VECTOR], {"picture_type": "uint16"}, UnknownOptionError, "Did you mean 'uint8'"),
    ],
)
def test_bad_descriptions_are_refused(
    sensors: list[UnitySensor], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        UnityObservations(sensors, **options)


FORMS: dict[str, tuple[UnityActions, spaces.Space[Any]]] = {
    "continuous": (UnityActions(2, ()), spaces.Box(-1, 1, (2,), np.float32)),
    "discrete": (UnityActions(0, (3,)), spaces.Discrete(3)),
    "branches": (UnityActions(0, (3, 2)), spaces.MultiDiscrete(np.array([3, 2]))),
    "hybrid, one branch": (
        UnityActions(2, (3,)),
        spaces.Dict({"continuous": spaces.Box(-1, 1, (2,), np.float32), "discrete": spaces.Discrete(3)}),
    ),
    "hybrid": (
        UnityActions(2, (3, 2)),
        spaces.Dict(
            {"continuous": spaces.Box(-1, 1, (2,), np.float32), "discrete": spaces.MultiDiscrete(np.array([3, 2]))}
        ),
    ),
    "hybrid as a box": (UnityActions(2, (3, 2), hybrid="box"), spaces.Box(-1, 1, (7,), np.float32)),
}


@pytest.mark.parametrize("name", FORMS)
def test_actions_have_the_space_and_come_back_from_the_wire(name: str) -> None:
    form, space = FORMS[name]
    assert form.space == space
    generator = np.random.default_rng(0)
    continuous = generator.uniform(-1, 1, (5, form.continuous_size)).astype(np.float32)
    discrete = generator.integers(0, np.array(form.branches, np.int64), (5, len(form.branches))).astype(np.int32)
    joined = form.join(continuous, discrete)
    rows = [{key: leaf[0] for key, leaf in joined.items()} if isinstance(joined, dict) else joined[0]]
    assert all(form.space.contains(row) for row in rows)
    again = form.split(joined)
    np.testing.assert_array_equal(again[0], continuous)
    np.testing.assert_array_equal(again[1], discrete)
    assert [part.dtype.name for part in again] == ["float32", "int32"]


def test_continuous_actions_are_clipped() -> None:
    continuous, _ = UnityActions(2, ()).split(np.array([[-3, 0.5]], np.float32))
    np.testing.assert_array_equal(continuous, [[-1, 0.5]])


def test_the_highest_score_of_each_branch_is_taken() -> None:
    form = UnityActions(1, (3, 2), hybrid="box")
    continuous, discrete = form.split(np.array([[0.3, -1, 0.2, 0.1, 0.9, -0.9]], np.float32))
    np.testing.assert_array_equal(continuous, np.array([[0.3]], np.float32))
    np.testing.assert_array_equal(discrete, [[1, 0]])


@pytest.mark.parametrize(
    ("name", "actions", "words"),
    [
        ("continuous", np.array([[0, 0], [0, np.nan]], np.float32), "row 1 contains"),
        ("hybrid as a box", np.array([[0, 0, 0, 0, 0, 0, np.inf]], np.float32), "row 0 contains"),
        ("discrete", np.array([0, 3]), "Row 1 chose 3 in branch 0 of its action, which has the choices 0 to 2"),
        ("branches", np.array([[0, -1]]), "Row 0 chose -1 in branch 1"),
    ],
)
def test_actions_that_do_not_exist_are_refused(name: str, actions: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        FORMS[name][0].split(actions)


def test_forbidden_choices_are_replaced_by_the_first_allowed_one() -> None:
    form = UnityActions(0, (3, 2))
    allowed = np.array([[False, False, True, True, True], [True, True, True, True, False], [True] * 5])
    chosen, count = form.permit(np.array([[0, 1], [1, 1], [2, 1]], np.int32), allowed)
    np.testing.assert_array_equal(chosen, [[2, 1], [1, 0], [2, 1]])
    assert count == 2


def test_an_agent_without_actions_is_refused() -> None:
    with pytest.raises(SpaceError, match="no actions"):
        UnityActions(0, ())


def test_masks_are_for_choices_that_are_seen_as_such() -> None:
    assert {name: form.can_mask for name, (form, _) in FORMS.items()} == {
        "continuous": False,
        "discrete": True,
        "branches": True,
        "hybrid, one branch": True,
        "hybrid": True,
        "hybrid as a box": False,
    }


def test_settings_choose_the_form() -> None:
    spec = behavior(1, (2,), sensor("Body", (3,), (1,)), sensor("Camera", (6, 5, 3), (2, 2, 1)))
    settings = UnitySettings(launch=UnityLaunch(file=None), hybrid="box", layout="hwc")
    assert actions_of(spec, settings).space == spaces.Box(-1, 1, (3,), np.float32)
    seen = observations_of(spec, settings).space
    assert isinstance(seen, spaces.Dict)
    assert seen["Camera"] == spaces.Box(0, 255, (6, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("wanted", "known", "found"),
    [
        (None, ["Reach?team=0"], "Reach?team=0"),
        ("Reach", ["Reach?team=0", "Goalie?team=0"], "Reach?team=0"),
        ("Reach?team=1", ["Reach?team=0", "Reach?team=1"], "Reach?team=1"),
        ("Reach", ["Goalie?team=0"], None),
        (None, [], None),
    ],
)
def test_a_behaviour_is_found_with_and_without_its_team(
    wanted: str | None, known: list[str], found: str | None
) -> None:
    assert find_behavior(wanted, known) == found


@pytest.mark.parametrize("wanted", [None, "Reach"])
def test_an_ambiguous_behaviour_is_refused(wanted: str | None) -> None:
    with pytest.raises(InvalidInputError, match=r"'Reach\?team=0', 'Reach\?team=1'; name the one to learn: behavior="):
        find_behavior(wanted, ["Reach?team=1", "Reach?team=0"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_players": 0}, "n_players must be a whole number from 1"),
        ({"n_players": 2, "launch": UnityLaunch(file=None)}, "The Editor is one player"),
        ({"n_players": 2, "launch": UnityLaunch(file="Game", port=6000)}, "cannot share port 6000"),  # type: ignore[arg-type]
        ({"restarts": 1, "launch": UnityLaunch(file=None)}, "The Editor cannot be started anew"),
        ({"max_agents": 0}, "max_agents must be"),
        ({"others": "still"}, "Unknown way for other agents: 'still'"),
        ({"hybrid": "tuple"}, "Unknown form of hybrid actions"),
        ({"respawn_limit": True}, "respawn_limit must be"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        UnitySettings(**{"launch": "Game", **options})
