"""The parts of a study, in this process: scores, comparison, identity, dead trials."""

from __future__ import annotations

import dataclasses
import queue
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.errors import ConnectorError, InvalidInputError, RLFrameworkError, UnknownOptionError
from rl_framework.launch.script import Direction
from rl_framework.launch.search_space import SearchChoices, SearchRange, SearchSpace
from rl_framework.launch.tuning.experiment import TrialRun, combined_score
from rl_framework.launch.tuning.objective import Objective, PruningListener
from rl_framework.launch.tuning.optuna_study import (
    OWNER,
    best_values,
    fail_dead_trials,
    finished_trials,
    open_study,
    retry_trial,
    running_numbers,
    without_password,
)
from rl_framework.launch.tuning.rungs import RUNGS_PER_RUN, comparison_step, rung_of
from rl_framework.launch.tuning.settings import TuningSettings
from rl_framework.launch.tuning.supervisor import Supervisor
from rl_framework.launch.tuning.tune import tune, write_best
from rl_framework.launch.tuning.worker_handle import Message, TrialWorker


@dataclasses.dataclass
class Formula:
    """An experiment whose score is what was chosen."""

    direction: Direction = "maximize"
    space: Mapping[str, SearchSpace] = dataclasses.field(
        default_factory=lambda: {"x": SearchRange(low=0.0, high=1.0), "sizes": SearchChoices(((1,), (2, 2)))}
    )
    fixed: int = 0
    value: float | None = None
    command: Sequence[str] = ("false",)
    runs: list[TrialRun] = dataclasses.field(default_factory=list)

    def search_space(self) -> Mapping[str, SearchSpace]:
        return self.space

    def description(self) -> dict[str, Any]:
        return {"fixed": self.fixed}

    def execute(self, chosen: Mapping[str, Any], run: TrialRun) -> float:
        self.runs.append(run)
        return chosen["x"] + run.index if self.value is None else self.value

    def best_tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return dict(chosen)

    def how_to_train(self, best_file: Path) -> str:
        return f"train {best_file}"

    def worker_command(self) -> Sequence[str]:
        return self.command


def settings_in(folder: Path, **given: Any) -> TuningSettings:
    return TuningSettings(**{"output": folder, "sampler": "random", "sampler_seed": 0, **given})


def conduct(study: optuna.Study, experiment: Formula, settings: TuningSettings, n_trials: int = 1) -> None:
    study.optimize(Objective(experiment, settings, lambda number: None), n_trials=n_trials, catch=(Exception,))


@pytest.mark.parametrize(
    ("scores", "weight", "direction", "expected"),
    [
        ([1.0, 2.0, 6.0], 0.5, "maximize", 2.0),
        ([1.0, 2.0, 6.0], 0.5, "minimize", 4.5),
        ([1.0, 2.0, 6.0], 0.0, "maximize", 3.0),
        ([1.0, 2.0, 6.0], 1.0, "minimize", 6.0),
        ([4.0], 0.5, "maximize", 4.0),
    ],
)
def test_a_score_is_a_share_of_the_worst_and_the_rest_of_the_mean(
    scores: list[float], weight: float, direction: Direction, expected: float
) -> None:
    assert combined_score(scores, weight, direction) == expected


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_rungs_rise_with_steps(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert 0 <= rung_of(low) <= rung_of(high) < RUNGS_PER_RUN


def test_rungs_are_the_numbers_with_one_digit() -> None:
    steps = [0, 1, 2, 9, 10, 19, 20, 99, 100, 1000]
    assert [rung_of(step) for step in steps] == [0, 1, 2, 9, 10, 10, 11, 18, 19, 28]
    assert comparison_step(20, 0) != comparison_step(20, 1)


def test_runs_that_report_at_different_steps_meet_and_the_poor_one_is_ended() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    good = study.ask()
    hears_all = PruningListener(good, 0, 0)
    for step in range(128, 5000, 128):
        hears_all(step, 10.0)
    study.tell(good, 10.0)
    poor = study.ask()
    listener = PruningListener(poor, 0, 1500)
    for step in (768, 1000, 1499):
        listener(step, 1.0)
    assert poor._cached_frozen_trial.intermediate_values == {}
    with pytest.raises(optuna.TrialPruned, match="step 1536 of run 0"):
        listener(1536, 1.0)


def test_a_rung_hears_of_a_run_once_and_never_of_nan() -> None:
    trial = optuna.create_study().ask()
    listener = PruningListener(trial, 1, 0)
    for step, value in [(10, float("nan")), (11, 1.0), (15, 2.0), (20, 3.0), (12, 4.0)]:
        listener(step, value)
    assert list(trial._cached_frozen_trial.intermediate_values.values()) == [1.0, 3.0]


def test_each_trial_runs_once_per_seed_in_folders_of_its_own(tmp_path: Path) -> None:
    experiment, settings = Formula(), settings_in(tmp_path, seeds_per_trial=2, worst_weight=1.0)
    with open_study(experiment, settings) as study:
        conduct(study, experiment, settings)
        assert study.best_value == study.best_params["x"]
        assert study.trials[0].user_attrs[OWNER] == 0
    assert [run.folder.relative_to(tmp_path).as_posix() for run in experiment.runs] == [
        "trials/00000/seed_0", "trials/00000/seed_1",
    ]  # fmt: skip


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_values_are_those_of_the_best_trial(direction: Direction, tmp_path: Path) -> None:
    experiment, settings = Formula(direction), settings_in(tmp_path)
    with open_study(experiment, settings) as study:
        assert best_values(study, experiment.space) is None
        assert not write_best(study, experiment, settings)
        conduct(study, experiment, settings, n_trials=4)
        found = best_values(study, experiment.space)
        assert found is not None
        values = [trial.value for trial in study.trials if trial.value is not None]
        assert found[0].value == (max(values) if direction == "maximize" else min(values))
        assert found[1]["sizes"] in ((1,), (2, 2))
        assert write_best(study, experiment, settings)
    assert f"x: {found[1]['x']}" in settings.best_file.read_text()


def test_a_score_that_is_nan_marks_the_trial_as_failed(tmp_path: Path) -> None:
    experiment, settings = Formula(value=float("nan")), settings_in(tmp_path)
    with open_study(experiment, settings) as study:
        conduct(study, experiment, settings)
        assert study.trials[0].state.name == "FAIL"
        assert "is NaN" in study.trials[0].user_attrs["error"]


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with open_study(Formula(), settings):
        pass
    with open_study(Formula(), dataclasses.replace(settings, workers=3, n_trials=99)):
        pass
    for experiment, changed, name in [
        (Formula(fixed=1), settings, "experiment"),
        (Formula(), dataclasses.replace(settings, seeds_per_trial=2), "seeds_per_trial"),
    ]:
        with pytest.raises(InvalidInputError, match=rf"differs in: {name}\)"), open_study(experiment, changed):
            pass


@pytest.fixture
def study(tmp_path: Path) -> Iterator[tuple[optuna.Study, TuningSettings]]:
    settings = settings_in(tmp_path, retries=1)
    with open_study(Formula(), settings) as opened:
        yield opened, settings


def begin(study: optuna.Study) -> int:
    with pytest.warns(UserWarning, match="Heartbeat"):
        return study.ask().number


def test_a_trial_is_tried_again_as_often_as_allowed(study: tuple[optuna.Study, TuningSettings]) -> None:
    opened, settings = study
    first = begin(opened)
    assert running_numbers(opened) == {first}
    assert retry_trial(opened, first, settings)
    assert not retry_trial(opened, first, settings)
    assert finished_trials(opened) == []
    second = begin(opened)
    assert not retry_trial(opened, second, settings)
    assert [trial.number for trial in finished_trials(opened)] == [second]


def test_trials_of_other_processes_are_waited_for_and_count(study: tuple[optuna.Study, TuningSettings]) -> None:
    opened, settings = study
    elsewhere = begin(opened)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        opened.tell(elsewhere, 1.0)

    once = dataclasses.replace(settings, n_trials=1, heartbeat=1)
    Supervisor(opened, Formula(), once, say=say, on_complete=lambda: None).conduct()
    assert lines == ["Waiting for trials of another process, which end or turn out to be dead."]
    assert [trial.number for trial in finished_trials(opened)] == [elsewhere]


def test_a_trial_that_never_gave_a_sign_of_life_is_dead_after_the_time_of_grace(
    study: tuple[optuna.Study, TuningSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, settings = study
    silent = begin(opened)
    fail_dead_trials(opened, settings)
    assert running_numbers(opened) == {silent}
    later = datetime.now() + timedelta(seconds=settings.grace_seconds + 1)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return later

    monkeypatch.setattr("rl_framework.launch.tuning.optuna_study.datetime", Later)
    fail_dead_trials(opened, settings)
    assert [trial.state.name for trial in opened.trials] == ["FAIL", "WAITING"]


def test_every_combination_is_tried_once(tmp_path: Path) -> None:
    space: dict[str, SearchSpace] = {"x": SearchRange(low=0.0, high=1.0, step=0.5), "sizes": SearchChoices((1, 2))}
    experiment, settings = Formula(space=space), settings_in(tmp_path, sampler="exhaustive")
    with open_study(experiment, settings) as opened:
        conduct(opened, experiment, settings, n_trials=6)
        assert len({(trial.params["x"], trial.params["sizes"]) for trial in opened.trials}) == 6


def test_combinations_that_cannot_be_counted_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="give x a step or choices"):
        tune(Formula(), settings_in(tmp_path, sampler="exhaustive"), lambda line: None)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/study.db", "nonsense", "nobase://me:secret@host/base"])
def test_a_database_that_cannot_be_opened_is_told_without_the_password(url: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectorError, match="cannot be used") as caught,
        open_study(Formula(), settings_in(tmp_path, storage=url)),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    assert without_password("postgresql://me:s3cr:t@host/base") == "postgresql://me:***@host/base"
    assert without_password("at mysql://me:s/3@host/base: no") == "at mysql://me:***@host/base: no"
    assert without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_workers_that_cannot_begin_end_the_study_with_their_last_words(tmp_path: Path) -> None:
    program = "import sys; sys.stdin.readline(); sys.exit('the script is broken')"
    with pytest.raises(RLFrameworkError, match=r"exit code 1 before it could begin[^!]*the script is broken"):
        tune(Formula(command=(sys.executable, "-c", program)), settings_in(tmp_path), lambda line: None)
    with pytest.raises(RLFrameworkError, match="Cannot start no-such-program"):
        tune(Formula(command=("no-such-program",)), settings_in(tmp_path), lambda line: None)


LAST_COMBINATION = """
import json, optuna, os, sys
settings = json.loads(sys.stdin.readline())["settings"]
study = optuna.load_study(study_name=None, storage="sqlite:///" + settings["output"] + "/study.db")
trial = study.ask()
trial.suggest_categorical("x", [1.0])
print(json.dumps({"ready": True}), json.dumps({"started": trial.number}), sep="\\n", flush=True)
os._exit(3)
"""


def test_the_worker_of_the_last_combination_may_die(tmp_path: Path) -> None:
    experiment = Formula(space={"x": SearchChoices((1.0,))}, command=(sys.executable, "-c", LAST_COMBINATION))
    lines: list[str] = []
    with pytest.raises(RLFrameworkError, match="No trial was complete"):
        tune(experiment, settings_in(tmp_path, sampler="exhaustive", retries=0), lines.append)
    assert "Trial 0: its process ended with exit code 3" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="no groups of processes there")
def test_what_a_dead_worker_started_ends_with_it(tmp_path: Path) -> None:
    command = ("sh", "-c", "sleep 60 & exit 3")
    messages: queue.Queue[Message] = queue.Queue()
    worker = TrialWorker(command, {}, log=tmp_path / "log", messages=messages, threads=1)
    assert messages.get(timeout=30).content == {"gone": 3}
    worker.end(5.0)
    # The child has the worker's output, whose end its reader sees only once both are gone.
    worker._reader.join(10.0)
    assert not worker._reader.is_alive()


def test_the_output_of_a_study_is_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="is a folder"):
        tune(Formula(), settings_in(tmp_path / "file"), lambda line: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    with pytest.raises(InvalidInputError, match="holds a run already"):
        tune(Formula(), settings_in(tmp_path / "run"), lambda line: None)
    (tmp_path / "other" / "trials").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="holds the trials of another study"):
        tune(Formula(), settings_in(tmp_path / "other"), lambda line: None)


@pytest.mark.parametrize(
    "given",
    [
        {"n_trials": 0},
        {"workers": 0},
        {"worst_weight": 1.5},
        {"time_limit": 0.0},
        {"heartbeat": 0},
        {"sampler": "x"},
        {"pruner": "x"},
    ],
)
def test_settings_check_themselves_and_travel(given: dict[str, Any], tmp_path: Path) -> None:
    settings = settings_in(tmp_path, storage="sqlite://", workers=3)
    assert TuningSettings.from_json(settings.to_json()) == settings
    with pytest.raises((InvalidInputError, UnknownOptionError)):
        dataclasses.replace(settings, **given)
