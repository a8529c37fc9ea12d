"""Checkpoints of a training by several processes, as far as one process can show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_framework.agent.catalog import load_agent
from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints
from rl_framework.algorithms.processes import OneProcess
from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.errors import ArchiveError, CorruptArchiveError, InvalidInputError, RLFrameworkError


class OneOfSeveral(OneProcess):
    """Process 0 of several, whose others do nothing."""

    def __init__(self, count: int) -> None:
        self.count = count


class SecondOfTwo(OneProcess):
    """Process 1 of two; what process 0 would say is given.

    Args:
        latest: The latest checkpoint that process 0 sees.
    """

    rank, count = 1, 2

    def __init__(self, latest: int) -> None:
        self._latest = latest

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum with process 0's."""
        return numbers + self._latest


def save(folder: Path, step: int = 5, **options: Any) -> DistributedCheckpoints:
    """One checkpoint of one process."""
    checkpoints = DistributedCheckpoints(folder, **options)
    checkpoints.save(step, shared={"weights": torch.arange(3.0)}, own={"random": np.arange(4), "episodes": [(1, 2.5)]})
    return checkpoints


def write_agent(folder: Path) -> None:
    """What tells a saved agent from other folders."""
    Manifest(kind="native", algorithm="x:y").write(folder)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = save(tmp_path / "new" / "folder").load_latest()
    assert saved is not None
    assert saved.step == 5
    assert torch.equal(saved.shared["weights"], torch.arange(3.0))
    assert np.array_equal(saved.own["random"], np.arange(4))
    assert saved.own["episodes"] == [(1, 2.5)]


@pytest.mark.parametrize("exists", [True, False])
def test_there_is_nothing_to_load_before_the_first_save(exists: bool, tmp_path: Path) -> None:
    assert DistributedCheckpoints(tmp_path if exists else tmp_path / "missing").load_latest() is None


def test_the_latest_few_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = DistributedCheckpoints(tmp_path, keep_last=2)
    for step, score in enumerate([0.0, 3.0, 1.0, 2.0, None]):
        checkpoints.save(step, shared={}, own={}, score=score)
    assert sorted(path.name[-1] for path in tmp_path.glob("step_*")) == ["1", "3", "4"]


def test_leftovers_of_a_killed_save_are_neither_read_nor_kept(tmp_path: Path) -> None:
    left = tmp_path / ".step_000000000009.parts" / "rank_00000"
    left.mkdir(parents=True)
    (left / "state.json").write_text("{")
    assert DistributedCheckpoints(tmp_path).load_latest() is None
    save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000000005"]


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"written by 1 processes, and 3 read it.*Start 1 processes"):
        DistributedCheckpoints(tmp_path, OneOfSeveral(3)).load_latest()


def test_a_part_that_process_0_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"rank_00001 is missing.*a folder that all processes see"):
        save(tmp_path, processes=OneOfSeveral(2))
    assert DistributedCheckpoints(tmp_path, OneOfSeveral(2)).load_latest() is None


def test_process_0_says_which_checkpoint_is_read(tmp_path: Path) -> None:
    for step in (1, 2):
        for rank in (0, 1):
            part = tmp_path / f".step_{step:012d}.parts" / f"rank_{rank:05d}"
            part.mkdir(parents=True)
            (part / "state.json").write_text(f'["part", {step}, {rank}]')
        checkpoints = DistributedCheckpoints(tmp_path, OneOfSeveral(2))
        checkpoints._assemble(step, shared={"step": step}, score=None)
    saved = DistributedCheckpoints(tmp_path, SecondOfTwo(latest=1)).load_latest()
    assert saved is not None
    assert (saved.step, saved.shared, saved.own) == (1, {"step": 1}, ["part", 1, 1])


def test_damage_is_noticed_in_what_is_read(tmp_path: Path) -> None:
    checkpoints = save(tmp_path)
    file = tmp_path / "step_000000000005" / "shared" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptArchiveError, match="altered"):
        checkpoints.load_latest()


def test_a_saved_agent_is_no_such_checkpoint_and_the_reverse(tmp_path: Path) -> None:
    save_archive(tmp_path / "step_000000000001", write_agent)
    with pytest.raises(ArchiveError, match="saved agent of kind 'native'"):
        DistributedCheckpoints(tmp_path).load_latest()
    save(tmp_path / "own")
    with pytest.raises(RLFrameworkError, match="training by several processes"):
        load_agent(tmp_path / "own")


def test_state_that_cannot_be_written_leaves_the_earlier_checkpoints(tmp_path: Path) -> None:
    checkpoints = save(tmp_path)
    for shared, own in ((object(), {}), ({}, object())):
        with pytest.raises(ArchiveError, match="object"):
            checkpoints.save(6, shared=shared, own=own)
    saved = checkpoints.load_latest()
    assert saved is not None
    assert saved.step == 5


def test_a_file_in_the_way_of_the_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be read or written"):
        save(tmp_path / "file")


@pytest.mark.parametrize("arguments", [{"keep_last": 0}, {"step": -1}])
def test_numbers_out_of_range_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        save(tmp_path, **arguments)
