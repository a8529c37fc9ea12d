"""Two processes on this machine that meet over gloo."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_framework.algorithms.accelerate_processes import AccelerateProcesses
from rl_framework.errors import InvalidInputError, MissingExtraError
from tests.algorithms.launching import finished, launched

SCRIPT = Path(__file__).parent / "joined_processes.py"
KILLED = Path(__file__).parent / "joint_runs.py"


class LonelyAccelerator:
    """What `Accelerator()` is in each of several processes without a GPU, unless told that CPUs are meant."""

    process_index, num_processes, device = 0, 1, torch.device("cpu")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes did and saw."""
    folder = tmp_path_factory.mktemp("joined")
    with launched(SCRIPT, str(folder), folder=folder) as process:
        finished(process)
    return [json.loads((folder / f"answers_{rank}.json").read_text()) for rank in (0, 1)]


def test_each_process_knows_its_rank_and_how_many_there_are(answers: list[dict[str, Any]]) -> None:
    assert [(each["rank"], each["count"], each["device"][:3]) for each in answers] == [(0, 2, "cpu"), (1, 2, "cpu")]


def test_sums_are_the_same_bits_everywhere_and_keep_shape_and_type(answers: list[dict[str, Any]]) -> None:
    first, second = (each["sums"] for each in answers)
    assert first == second
    assert first["floats"] == [10.0, 12.0, 14.0, 16.0, 18.0, 20.0]
    assert first["doubles"] == [number / 3 + (number + 10) / 3 for number in range(6)]
    assert first["whole"] == [2**41 + 1]
    assert first["scalar"] == 2.0
    assert first["view"] == [[10.0, 16.0], [12.0, 18.0], [14.0, 20.0]]
    assert first["nothing"] == []
    assert first["is_alike"]
    assert first["is_new"]


def test_the_largest_number_is_found_and_a_missing_one_is_not_lost(answers: list[dict[str, Any]]) -> None:
    for each in answers:
        *numbers, missing = each["largest"]
        assert numbers == [1.0, 0.0, 2.0**40 + 1]
        assert math.isnan(missing)


def test_weights_and_buffers_of_process_0_go_to_all_in_place(answers: list[dict[str, Any]]) -> None:
    first, second = (each["weights"] for each in answers)
    assert first == second
    assert first[1] is True
    torch.manual_seed(0)
    assert first[0][0] == torch.nn.Linear(3, 2).weight.tolist()


def test_gradients_are_added_up_in_place_and_stay_away_where_nobody_has_one(answers: list[dict[str, Any]]) -> None:
    wanted = [[[3.0, 3.0]] * 2, [5.0] * 3, None, [[0.5] * 3] * 2, -1.0]
    assert [each["gradients"] for each in answers] == [[wanted, True]] * 2


def test_models_that_differ_are_refused_in_all_processes(answers: list[dict[str, Any]]) -> None:
    for each in answers:
        assert "InvalidInputError" in each["different models"]
        assert f"Process {each['rank']} has 1 tensors" in each["different models"]


def test_checkpoints_hold_what_is_common_and_what_is_each_ones_own(answers: list[dict[str, Any]]) -> None:
    for each in answers:
        seen = each["checkpoints"]
        assert seen["before"] is None
        assert seen["steps"] == ["step_000000000001", "step_000000000002"]  # the best and the latest
        assert seen["latest"] == [2, [2.0, 2.0, 2.0], {"mine": [2, each["rank"]]}]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_save_that_fails_in_one_process_fails_in_all(failing: int, answers: list[dict[str, Any]]) -> None:
    said = [each["checkpoints"][f"failed in process {failing}"] for each in answers]
    assert "builtins.object" in said[failing]
    assert f"Process {failing} could not" in said[1 - failing]


@pytest.mark.parametrize("kind", ["one batch", "one batch, sampled divergence"])
def test_a_batch_divided_unequally_among_processes_teaches_the_same_as_in_one(
    kind: str, answers: list[dict[str, Any]]
) -> None:
    for each in answers:
        assert each[kind]["moved"] > 5e-3
        assert each[kind]["weights"] < 1e-5
        assert max(each[kind]["metrics"].values()) < 1e-5


@pytest.mark.parametrize("kind", ["many batches", "many batches, double precision"])
def test_processes_with_unequal_numbers_of_minibatches_stay_together(kind: str, answers: list[dict[str, Any]]) -> None:
    first, second = (each[kind] for each in answers)
    assert (first["replay"], second["replay"]) == (2, 16)
    assert first["digest"] == second["digest"]
    assert first["metrics"] == second["metrics"]
    assert first["metrics"][1]["train/replay_episodes"] == 18.0


def test_processes_have_different_random_states(answers: list[dict[str, Any]]) -> None:
    first, second = answers
    assert first["many batches"]["generator"] != second["many batches"]["generator"]
    assert first["training"]["acting"] != second["training"]["acting"]
    assert first["training"]["replay"] != second["training"]["replay"]
    assert first["training"]["drawn"] != second["training"]["drawn"]


def test_training_in_environments_of_each_process_gives_all_the_same_weights_and_reports(
    answers: list[dict[str, Any]],
) -> None:
    first, second = (each["training"] for each in answers)
    assert first["weights"] == second["weights"]
    assert first["common"] == second["common"]
    assert first["reports"] == second["reports"]
    assert [timesteps for timesteps, _, _ in first["reports"]] == list(range(120, 961, 120))


def test_killed_processes_start_again_and_end_as_if_nobody_had_been_killed(
    answers: list[dict[str, Any]], tmp_path: Path
) -> None:
    with launched(KILLED, str(tmp_path), folder=tmp_path, restarts=2) as process:
        finished(process)
    outcomes = [json.loads((tmp_path / f"outcome_{rank}.json").read_text()) for rank in (0, 1)]
    for outcome, each in zip(outcomes, answers, strict=True):
        whole = each["training"]
        assert outcome["restarts"] == 2
        assert outcome["reports"] == whole["reports"][-len(outcome["reports"]) :]
        assert len(outcome["reports"]) < len(whole["reports"])
        for name in ("weights", "common", "acting", "replay", "drawn"):
            assert outcome[name] == whole[name]


def test_an_accelerator_that_sees_one_process_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInputError, match=r"started 2 processes.*Accelerator\(cpu=True\)"):
        AccelerateProcesses(LonelyAccelerator())


def test_an_accelerator_without_a_launcher_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    processes = AccelerateProcesses(LonelyAccelerator())
    assert (processes.rank, processes.count) == (0, 1)


def test_without_accelerate_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[accelerate\]"):
        AccelerateProcesses()
