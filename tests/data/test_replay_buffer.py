"""The replay: rows, their neighbours in their episodes and their types, before and after the ring wrapped."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.data import replay_storage
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.replay_storage import MemoryStorage
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from tests.algorithms.replay_backend import OperationTrace
from tests.data.replays import (
    COLUMNS,
    SlowReplay,
    add_numbered,
    check_numbers,
    check_same,
    make_replay,
    numbered_entries,
    scripted,
)

verbs = st.one_of(
    st.lists(st.booleans(), min_size=1, max_size=4).map(lambda ended: ("add", ended)),
    st.lists(st.booleans(), min_size=3, max_size=3).map(lambda ended: ("add", ended)),
    st.integers(1, 6).map(lambda length: ("episode", length)),
    st.just(("cut", None)),
)


def carry_out(replay: ReplayBuffer, slow: SlowReplay, verb: tuple[str, Any]) -> None:
    match verb:
        case "add", ended:
            add_numbered(replay, ended)
            slow.add(ended)
        case "episode", length:
            replay.add_episode(numbered_entries(replay.total + np.arange(length)))
            slow.add_episode(length)
        case _:
            replay.cut()
            slow.cut()


@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(6, 25), script=st.lists(verbs, max_size=30))
def test_rows_know_their_episodes_like_a_slow_twin(capacity: int, script: list[tuple[str, Any]]) -> None:
    replay, slow = make_replay(capacity), SlowReplay(capacity)
    for verb in script:
        carry_out(replay, slow, verb)
    check_same(replay, slow)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_step_of_a_wrapping_ring_is_right(n_envs: int) -> None:
    replay, slow = make_replay(20), SlowReplay(20)
    for ended in scripted(n_envs, 60, n_envs):
        add_numbered(replay, ended)
        slow.add(ended)
        check_same(replay, slow)


def test_an_episode_longer_than_the_ring_is_known_by_what_is_left_of_it() -> None:
    replay = make_replay(8)
    for step in range(30):
        add_numbered(replay, [step == 29])
    rows = torch.arange(22, 30) % 8
    assert replay.steps_before(rows).tolist() == list(range(8))
    assert replay.steps_after(rows).tolist() == list(range(7, -1, -1))
    assert len(replay.episodes()[0]) == 0


def test_rows_of_a_running_episode_can_be_read_at_once() -> None:
    replay = make_replay(10)
    first = add_numbered(replay, [False, False])
    assert replay.steps_after(first).tolist() == [0, 0]
    second = add_numbered(replay, [False, False])
    assert replay.later(first, 1).tolist() == second.tolist()
    check_numbers(replay, torch.cat([second, first]), [2, 3, 0, 1])


def test_tensors_are_taken_as_arrays_are() -> None:
    arrays, tensors = make_replay(10), make_replay(10)
    entries = numbered_entries([0, 1])
    arrays.add(entries, ended=np.zeros(2, bool))
    seen = {name: torch.from_numpy(leaf.copy()) for name, leaf in entries["observations"].items()}
    others = {name: torch.from_numpy(entries[name]) for name in tuple(COLUMNS)[1:]}
    tensors.add({"observations": seen, **others}, ended=torch.zeros(2, dtype=torch.bool))
    check_numbers(tensors, torch.arange(2), [0, 1])
    check_numbers(arrays, torch.arange(2), [0, 1])


def test_parts_of_columns_are_read_and_written() -> None:
    replay = make_replay(10)
    add_numbered(replay, [False, False, True])
    rows = torch.tensor([2, 0])
    replay.write("observations.position", rows, np.array([[7.0, 8.0], [9.0, 10.0]]))
    replay.write("terminated", rows, torch.tensor([True, False]))
    found = replay.read(["observations.position", "terminated", "rewards"], torch.arange(3))
    assert found["observations.position"].tolist() == [[9.0, 10.0], [1.0, -1.0], [7.0, 8.0]]
    assert found["terminated"].tolist() == [False, False, True]
    assert found["rewards"].tolist() == [0.0, 0.5, 1.0]


def test_leaves_without_numbers_and_gaps_between_columns_are_read() -> None:
    space = spaces.Dict({key: spaces.Box(-1.0, 1.0, shape) for key, shape in {"w": (), "x": (0,), "y": (2, 3)}.items()})
    replay = ReplayBuffer(8, {"seen": space, "last": spaces.Box(-1.0, 1.0, (2,))})
    seen = {"w": torch.rand(4), "x": torch.rand(4, 0), "y": torch.rand(4, 2, 3)}
    last = torch.rand(4, 2)
    rows = replay.add_episode({"seen": seen, "last": last})
    found = replay.read(["seen", "last"], rows)
    assert all(torch.equal(found["seen"][key], seen[key]) for key in seen)
    apart = replay.read(["seen.w", "last"], rows)
    assert torch.equal(apart["seen.w"], seen["w"])
    assert torch.equal(apart["last"], last)


@pytest.mark.parametrize(("draw", "steps"), [(0.0, 0), (0.5, 2), (0.999, 3)])
def test_later_rows_are_found_by_draws(draw: float, steps: int) -> None:
    replay = make_replay(20)
    rows = replay.add_episode(numbered_entries(np.arange(4)))
    draws = torch.full((1,), draw, dtype=torch.float64)
    assert replay.any_later(rows[:1], draws).tolist() == [steps]
    assert replay.any_later(rows[3:], draws).tolist() == [3]


def test_what_was_read_is_not_changed_later() -> None:
    replay = make_replay(2)
    add_numbered(replay, [False, False])
    found = replay.read(["rewards"], torch.arange(2))["rewards"]
    add_numbered(replay, [False, False])
    assert found.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("n_added", [7, 40])
def test_rows_are_drawn_uniformly(n_added: int) -> None:
    replay = make_replay(16)
    for _ in range(n_added):
        add_numbered(replay, [False])
    drawn = replay.uniform_rows(40_000, torch.Generator().manual_seed(0))
    assert chisquare(torch.bincount(drawn, minlength=len(replay)).numpy()).pvalue > 1e-3
    assert len(torch.bincount(drawn)) == len(replay)


def test_drawing_follows_the_generator_that_is_given() -> None:
    replay = make_replay(16)
    add_numbered(replay, [False] * 5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (replay.uniform_rows(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_never_waits_for_the_device() -> None:
    replay, generator = make_replay(30), torch.Generator().manual_seed(0)
    for ended in scripted(0, 20, 3):
        add_numbered(replay, ended)
    with HostAccessRefused(torch.device("cpu")):
        rows = replay.uniform_rows(8, generator)
        after, before = replay.steps_after(rows), replay.steps_before(rows)
        replay.read(["observations", "rewards"], replay.later(rows, after))
        replay.read(["observations.position"], replay.later(rows, -before))
        replay.ages(rows)


def test_a_graph_that_samples_sees_the_replay_grow() -> None:
    replay, generator = make_replay(30), torch.Generator().manual_seed(0)
    traces = []
    for n_steps in (5, 2, 9):
        for ended in scripted(0, n_steps, 3):
            add_numbered(replay, ended)
        with OperationTrace() as trace:
            rows = replay.uniform_rows(8, generator)
            found = replay.later(rows, torch.minimum(replay.steps_after(rows), replay.steps_before(rows)))
            replay.read(["observations"], found)
        traces.append(trace.operations)
    assert traces[0] == traces[1] == traces[2]


def test_what_a_graph_holds_on_to_grows_in_place() -> None:
    replay = make_replay(30)
    stored, added = replay.stored, replay.added
    for _ in range(20):
        add_numbered(replay, [False, True])
    assert (int(stored), int(added)) == (30, 40)
    replay.load_state_dict(make_replay(30).state_dict())
    assert (int(stored), int(added), len(replay)) == (0, 0, 0)


def test_episodes_can_be_asked_of_the_latest_rows_alone() -> None:
    replay = make_replay(100)
    for length in (3, 4, 5):
        replay.add_episode(numbered_entries(replay.total + np.arange(length)))
    assert [each.tolist() for each in replay.episodes(within=9)] == [[3, 7], [4, 5]]


def go_on(replay: ReplayBuffer, seed: int) -> None:
    for ended in scripted(seed, 15, 3):
        add_numbered(replay, ended)


@pytest.mark.parametrize("n_before", [3, 40])
def test_a_saved_replay_goes_on_exactly(tmp_path: Path, n_before: int) -> None:
    replay = make_replay(32)
    for ended in scripted(0, n_before, 3):
        add_numbered(replay, ended)
    write_state(tmp_path, "replay", replay.state_dict())
    go_on(replay, 1)
    resumed = make_replay(32)
    resumed.load_state_dict(read_state(tmp_path, "replay"))
    go_on(resumed, 1)
    rows = torch.arange(len(replay))
    check_numbers(resumed, rows, replay.ages(rows).numpy())
    for question in ("ages", "steps_after", "steps_before"):
        assert torch.equal(getattr(resumed, question)(rows), getattr(replay, question)(rows))
    assert [each.tolist() for each in resumed.episodes()] == [each.tolist() for each in replay.episodes()]


def test_a_state_stays_what_it_was_while_the_replay_goes_on() -> None:
    replay, slow = make_replay(8), SlowReplay(8)
    for ended in scripted(0, 10, 2):
        add_numbered(replay, ended)
        slow.add(ended)
    state = replay.state_dict()
    go_on(replay, 5)
    replay.load_state_dict(state)
    check_same(replay, slow)


def test_two_replays_in_one_process_do_not_meet() -> None:
    first, second = make_replay(10), make_replay(10)
    add_numbered(first, [True])
    assert (len(first), len(second)) == (1, 0)
    second.add(numbered_entries([5, 6]), ended=np.zeros(2, bool))
    check_numbers(first, torch.arange(1), [0])
    check_numbers(second, torch.arange(2), [5, 6])


def with_image(shape: tuple[int, ...]) -> dict[str, Any]:
    entries = numbered_entries([0])
    return {**entries, "observations": {**entries["observations"], "image": np.zeros((1, *shape), np.uint8)}}


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: make_replay(0), InvalidInputError, "capacity of at least 1"),
    (lambda: ReplayBuffer(3, {}), InvalidInputError, "at least one column"),
    (lambda: ReplayBuffer(3, {"texts": spaces.Text(5)}), SpaceError, "Text"),
    (lambda: make_replay(5).uniform_rows(1, torch.Generator()), InvalidInputError, "empty"),
    (lambda: add_numbered(make_replay(2), [False] * 3), InvalidInputError, "3 rows at once do not fit a replay of 2"),
    (lambda: make_replay(2).add_episode(numbered_entries(range(3))), InvalidInputError, "3 rows at once"),
    (lambda: make_replay(2).add({}, ended=np.zeros(1, bool)), SpaceError, "Expected the columns observations"),
    (
        lambda: make_replay(2).add(with_image((2, 4)), ended=np.zeros(1, bool)),
        SpaceError,
        r"observations do not fit the replay.*'image': \(1, 2, 4\)",
    ),
    (
        lambda: make_replay(2).add({**numbered_entries([0]), "observations": np.zeros(1)}, ended=np.zeros(1, bool)),
        SpaceError,
        "observations do not fit the replay",
    ),
    (lambda: make_replay(2).read(["reward"], torch.zeros(1).long()), UnknownOptionError, "Did you mean 'rewards'"),
    (lambda: make_replay(9).load_state_dict(make_replay(8).state_dict()), InvalidInputError, "cannot be resized"),
    (
        lambda: make_replay(8).load_state_dict(ReplayBuffer(8, {"rewards": COLUMNS["rewards"]}).state_dict()),
        SpaceError,
        "it has the columns rewards",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_columns_of_other_bounds_are_named() -> None:
    spaces_of = [
        transition_columns(spaces.Box(-1, 1, (width,)), spaces.Discrete(2), spaces.Box(-1, 1, (1,))) for width in (2, 3)
    ]
    small, large = (ReplayBuffer(4, columns) for columns in spaces_of)
    with pytest.raises(SpaceError, match="in the column observations"):
        small.load_state_dict(large.state_dict())


def test_a_refused_step_leaves_the_replay_as_it_was() -> None:
    replay, slow = make_replay(6), SlowReplay(6)
    add_numbered(replay, [False, True])
    slow.add([False, True])
    with pytest.raises(SpaceError):
        replay.add({**numbered_entries([0]), "actions": np.zeros((1, 2))}, ended=np.zeros(1, bool))
    with pytest.raises(InvalidInputError):
        add_numbered(replay, [False] * 7)
    check_same(replay, slow)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_room_for_rows_to_come_takes_no_memory() -> None:
    code = """
import numpy as np, torch
from pathlib import Path
from gymnasium import spaces
from rl_framework.data.replay_buffer import ReplayBuffer
def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
before = own()
replay = ReplayBuffer(1_000_000, {"x": spaces.Box(-1, 1, (128,), np.float32)})
replay.add_episode({"x": torch.ones(1000, 128)})
print(own() - before, float(replay.read(["x"], torch.arange(1000))["x"].sum()))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    megabytes, total = map(float, printed.split())
    assert megabytes < 50  # all rows are 524 MB
    assert total == 128_000.0


@pytest.mark.skipif(sys.platform == "win32", reason="the operating system does not say how much memory there is")
def test_more_rows_than_fit_the_machine_are_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_storage, "_zeros", lambda *_: torch.zeros(0))
    widths, device = {torch.float32: 125}, torch.device("cpu")  # and 3 marks: 512 bytes per row
    rows = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 512
    with pytest.warns(UserWarning, match=r"takes [\d.]+ GB when it is full, and this machine has [\d.]+ GB\. Give"):
        MemoryStorage(rows + 1, widths, device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MemoryStorage(rows, widths, device)
