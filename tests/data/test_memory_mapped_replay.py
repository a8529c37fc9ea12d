"""A replay in files: the same rows as in memory, and whoever was killed goes back to what was saved, exactly."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.checkpoints.state_tree import read_state
from rl_framework.core.trees import leaves
from rl_framework.data import memory_mapped_replay
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    InvalidInputError,
)
from tests.data.replays import (
    CAPACITY,
    SlowReplay,
    add_numbered,
    check_same,
    crashed_copy,
    go_on,
    make_replay,
    numbered_entries,
    resumed,
    scripted,
    steps_of_age,
)


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of few rows, so that a small ring has many."""
    monkeypatch.setattr(memory_mapped_replay, "RECORD_BYTES", 400)


def test_it_holds_the_same_rows_as_in_memory(tmp_path: Path) -> None:
    replay, slow = make_replay(20, tmp_path / "replay"), SlowReplay(20)
    assert replay.is_mapped
    for ended in scripted(0, 40, 3):
        add_numbered(replay, ended)
        slow.add(ended)
        check_same(replay, slow)
    draws = [
        each.uniform_rows(20, torch.Generator().manual_seed(0))
        for each in (replay, filled_in_memory(scripted(0, 40, 3)))
    ]
    assert torch.equal(*draws)


def filled_in_memory(script: list[list[bool]]) -> ReplayBuffer:
    replay = make_replay(20)
    for ended in script:
        add_numbered(replay, ended)
    return replay


happenings = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 12)),
    st.tuples(st.just("add"), st.integers(1, 40)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("write"), st.integers(0, 1000)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("episode"), st.integers(1, 9)),
)


@settings(max_examples=15, deadline=None)
@given(script=st.lists(happenings, min_size=3, max_size=14))
def test_a_crash_at_any_moment_loses_nothing_of_what_was_saved(script: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "replay")
        replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
        saved: list[tuple[dict[str, Any], SlowReplay]] = []
        for verb, number in script:
            carry_out(replay, slow, verb, number)
            if verb == "save" or not saved:
                saved.append((replay.state_dict(), copy.deepcopy(slow)))
        for age, (state, then) in enumerate(reversed(saved[-2:])):
            check_same(resumed(crashed_copy(folder, f"crashed-{age}"), state), then)
        replay.close()


def carry_out(replay: ReplayBuffer, slow: SlowReplay, verb: str, number: int) -> None:
    if verb == "add":
        go_on(replay, slow, number)
    elif verb == "cut":
        replay.cut()
        slow.cut()
    elif verb == "episode":
        replay.add_episode(numbered_entries(replay.total + np.arange(number)))
        slow.add_episode(number)
    elif verb == "write" and len(replay):
        row = replay.uniform_rows(1, torch.Generator().manual_seed(number))
        replay.write("rewards", row, torch.tensor([float(number)]))
        slow.changed[int(replay.ages(row))] = float(number)


def test_a_resumed_replay_goes_on_and_can_crash_again(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(replay, slow, 25)
    state, then = replay.state_dict(), copy.deepcopy(slow)
    for attempt in range(3):
        go_on(replay, slow, 9 + attempt)
        folder = crashed_copy(folder, f"crashed-{attempt}")
        replay, slow = resumed(folder, state), copy.deepcopy(then)
        check_same(replay, then)
        assert not list(folder.glob("journal-*.bin"))
    go_on(replay, slow, 40)
    check_same(replay, slow)


def test_a_crash_while_going_back_is_gone_back_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "replay"
    replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state, then = replay.state_dict(), copy.deepcopy(slow)
    go_on(replay, slow, 5)
    replay.state_dict()
    go_on(replay, slow, 8)
    crashed = crashed_copy(folder, "crashed")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memory_mapped_replay.MappedStorage, "_write_table", die)
    with pytest.raises(KeyboardInterrupt):
        resumed(crashed, state).episodes()
    monkeypatch.undo()
    check_same(resumed(crashed, state), then)


KILLED = """
import sys
from pathlib import Path
from rl_framework.checkpoints.archive import replace_in_one_step
from rl_framework.checkpoints.state_tree import write_state
from rl_framework.data import memory_mapped_replay
from tests.data.replays import CAPACITY, SlowReplay, go_on, make_replay

memory_mapped_replay.RECORD_BYTES = 400
folder = Path(sys.argv[1])
replay, slow = make_replay(CAPACITY, folder / "replay"), SlowReplay(CAPACITY)
def save(place):
    place.mkdir()
    write_state(place, "replay", replay.state_dict())
while True:
    go_on(replay, SlowReplay(CAPACITY), 11)
    replace_in_one_step(folder / "saved", save, own_files=lambda place: {each.name for each in place.iterdir()})
    print(replay.total, flush=True)
"""


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(6):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    state = read_state(tmp_path / "saved", "replay")
    assert state["total"] > 2 * CAPACITY
    slow = SlowReplay(CAPACITY)
    while slow.total < state["total"]:
        slow.add(steps_of_age(slow.total, 2))
    replay = resumed(tmp_path / "replay", state)
    check_same(replay, slow)
    go_on(replay, slow, 30)
    check_same(replay, slow)


def test_a_record_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state, then = replay.state_dict(), copy.deepcopy(slow)
    go_on(replay, slow, 3)
    for name, keep in (("head", 10), ("rows", -7)):
        crashed = crashed_copy(folder, name)
        journal = next(crashed.glob("journal-*.bin"))
        content = journal.read_bytes()
        journal.write_bytes(content + content[:keep])
        check_same(resumed(crashed, state), then)


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state = replay.state_dict()
    go_on(replay, slow, 15)
    crashed = crashed_copy(folder, "damaged")
    journal = next(crashed.glob("journal-*.bin"))
    content = bytearray(journal.read_bytes())
    content[60] ^= 255
    journal.write_bytes(content)
    with pytest.raises(CorruptArchiveError, match="damaged at byte"):
        resumed(crashed, state).episodes()


def test_a_disk_that_refuses_the_journal_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state, then = replay.state_dict(), copy.deepcopy(slow)

    def refuse(descriptor: int) -> None:
        os.truncate(descriptor, os.stat(descriptor).st_size - 5)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ArchiveError, match="Make room on the disk"):
        add_numbered(replay, [False, False])
    monkeypatch.undo()
    check_same(replay, slow)
    go_on(replay, slow, 30)
    check_same(replay, slow)
    check_same(resumed(crashed_copy(tmp_path / "replay", "crashed"), state), then)


def test_a_state_is_small_and_the_same_while_nothing_happens(tmp_path: Path) -> None:
    replay, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state = replay.state_dict()
    assert sum(np.size(leaf) for leaf in leaves({key: state[key] for key in state if key != "columns"})) < 100
    assert replay.state_dict()["moment"] == state["moment"]
    go_on(replay, slow, 1)
    assert replay.state_dict()["moment"] != state["moment"]


def test_journals_do_not_grow_beyond_their_share(tmp_path: Path) -> None:
    replay, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    rows = sum(path.stat().st_size for path in (tmp_path / "replay").glob("*.bin"))
    states = []
    for _ in range(20):
        states.append(replay.state_dict())
        go_on(replay, slow, 2)
    kept = list((tmp_path / "replay").glob("journal-*.bin"))
    assert 2 <= len(kept) < 20
    assert sum(path.stat().st_size for path in kept) < 2 * rows
    with pytest.raises(InvalidInputError, match="cannot go back to this saved state"):
        resumed(crashed_copy(tmp_path / "replay", "crashed"), states[0]).episodes()


def test_a_cut_after_the_last_state_belongs_to_a_state_of_its_own(tmp_path: Path) -> None:
    replay, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(replay, slow, 18)
    running, then = replay.state_dict(), copy.deepcopy(slow)
    replay.cut()
    slow.cut()
    cut = replay.state_dict()
    check_same(resumed(crashed_copy(tmp_path / "replay", "cut"), cut), slow)
    folder = crashed_copy(tmp_path / "replay", "running")
    gone_back = resumed(folder, running)
    check_same(gone_back, then)
    gone_back.close()
    with pytest.raises(InvalidInputError, match="cannot go back to this saved state"):
        resumed(folder, cut).episodes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_rows_take_no_memory_of_the_process(tmp_path: Path) -> None:
    count = 200_000
    code = f"""
import numpy as np, torch
from pathlib import Path
from tests.data.replays import make_replay, numbered_entries
from rl_framework.data.replay_buffer import ReplayBuffer
from gymnasium import spaces
def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
replay = ReplayBuffer({count}, {{"x": spaces.Box(-1, 1, (128,), np.float32)}}, folder={str(tmp_path / "replay")!r})
replay.add_episode({{"x": torch.zeros(5000, 128)}})
before = own()
for part in range(39):
    replay.add_episode({{"x": torch.full((5000, 128), float(part))}})
replay.read(["x"], torch.randint(0, {count}, (5000,)))
print(len(replay), own() - before)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rows, megabytes = printed.split()
    assert int(rows) == count
    assert float(megabytes) < 30  # the rows are 102 MB
