from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.evaluation.evaluation import Evaluation


def evaluation(returns: Any = (1.0, 2.0, 6.0), **changes: Any) -> Evaluation:
    count = len(returns)
    fields: dict[str, Any] = {
        "returns": np.array(returns, dtype=np.float64),
        "lengths": np.arange(1, count + 1),
        "seeds": tuple(range(count)),
        "n_envs": 2,
        "deterministic": False,
        "seed": 7,
        "duration_seconds": 0.5,
    }
    return Evaluation(**(fields | changes))


def test_it_unpacks_as_mean_and_population_standard_deviation() -> None:
    mean, std = evaluation([1.0, 2.0, 6.0])
    assert mean == 3.0
    assert std == pytest.approx(math.sqrt((4 + 1 + 9) / 3))


def test_median_and_inter_quartile_mean_are_those_of_the_returns() -> None:
    result = evaluation([0.0, 2.0, 4.0, 1000.0])
    assert (result.median, result.iqm) == (3.0, 3.0)


def test_intervals_hold_their_statistic_and_stay_the_same() -> None:
    result = evaluation(np.random.default_rng(0).normal(size=50))
    assert result.interval.low < result.mean < result.interval.high
    assert result.iqm_interval.low < result.iqm < result.iqm_interval.high
    assert result.interval == evaluation(result.returns).interval


def test_the_success_rate_counts_only_episodes_that_said_so() -> None:
    assert evaluation(successes=(True, None, False)).success_rate == 0.5


def test_without_a_word_from_the_environment_there_is_no_success_rate() -> None:
    assert evaluation().success_rate is None


def test_the_episodes_of_each_agent_make_a_record_of_their_own() -> None:
    names = ("left", "right", "left", None)
    result = evaluation([1.0, 2.0, 5.0, 9.0], agents=names, successes=(True, False, None, None))
    parts = result.by_agent()
    assert list(parts) == ["left", "right"]
    assert (parts["left"].returns.tolist(), parts["left"].lengths.tolist()) == ([1.0, 5.0], [1, 3])
    assert (parts["left"].seeds, parts["left"].successes, parts["left"].agents) == ((0, 2), (True, None), ("left",) * 2)
    assert parts["right"].mean == 2.0
    assert (parts["right"].seed, parts["right"].n_envs) == (result.seed, result.n_envs)


def test_without_agents_there_is_nothing_to_take_apart() -> None:
    assert evaluation().by_agent() == {}


def test_agents_survive_json_and_older_records_have_none() -> None:
    before = evaluation([1.0, 2.0], agents=("left", None))
    record = json.loads(json.dumps(before.to_dict()))
    assert Evaluation.from_dict(record).agents == ("left", None)
    del record["agents"]
    assert Evaluation.from_dict(record).agents is None


def test_agents_of_another_number_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="agents"):
        evaluation([1.0, 2.0], agents=("left",))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=8), st.booleans())
def test_json_gives_back_the_same_record(returns: list[float], said: bool) -> None:
    successes = tuple(value > 0 for value in returns) if said else None
    before = evaluation(returns, successes=successes, seeds=(None,) * len(returns), environment_id="X-v1")
    after = Evaluation.from_dict(json.loads(json.dumps(before.to_dict(), allow_nan=False)))
    assert after.to_dict() == before.to_dict()
    assert np.array_equal(after.returns, before.returns)
    assert after.seeds == before.seeds
    assert after.successes == before.successes


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownOptionError, match="'seeds'"):
        Evaluation.from_dict(evaluation().to_dict() | {"seedss": []})


@pytest.mark.parametrize("missing", ["returns", "seeds", "n_envs"])
def test_a_missing_field_is_refused(missing: str) -> None:
    record = evaluation().to_dict()
    del record[missing]
    with pytest.raises(InvalidInputError, match=missing):
        Evaluation.from_dict(record)


@pytest.mark.parametrize("name", ["lengths", "seeds", "successes"])
def test_fields_of_another_length_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        evaluation(**{name: (1, 2)})


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_return_that_is_not_finite_is_refused(broken: float) -> None:
    with pytest.raises(InvalidInputError, match="episode 1"):
        evaluation([0.0, broken])


def test_an_evaluation_without_episodes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one episode"):
        evaluation([])


def test_it_cannot_be_changed() -> None:
    result = evaluation()
    with pytest.raises(ValueError, match="read-only"):
        result.returns[0] = 5.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.seed = 5  # type: ignore[misc]


def test_the_arrays_that_it_was_made_from_stay_the_callers() -> None:
    returns = np.array([1.0, 2.0])
    result = evaluation(returns)
    returns[0] = 100.0
    assert result.mean == 1.5


def test_the_summary_says_the_numbers() -> None:
    text = str(evaluation([1.0, 3.0], environment_id="CartPole-v1", successes=(True, False)))
    for part in ("CartPole-v1", "2.00 +/- 1.00", "2 episodes", "95 %", "median 2.00", "50.0%"):
        assert part in text


def test_importing_the_services_does_not_import_torch() -> None:
    modules = [
        *("evaluation.evaluate", "evaluation.comparison", "video.recording"),
        *("connectors.local", "connectors.null", "connectors.tee", "connectors.tensorboard"),
    ]
    imports = "; ".join(f"import rl_framework.{module}" for module in modules)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
