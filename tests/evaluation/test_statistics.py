"""Statistics against closed forms, enumerations and their defining properties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.errors import InvalidInputError
from rl_framework.evaluation import statistics
from rl_framework.evaluation.statistics import (
    bootstrap_interval,
    difference_interval,
    interquartile_mean,
    interquartile_means,
    means,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap_interval,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False)
samples = st.lists(numbers, min_size=1, max_size=30)
grades = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 3.0, 100.0], (0.25 * 0.0 + 1.0 * 3.0 + 0.25 * 100.0) / 1.5),
        ([4.0, 1.0, 1000.0, 2.0], 3.0),
        ([0.0, 1.0, 2.0, 3.0, 1000.0], (0.75 * 1.0 + 2.0 + 0.75 * 3.0) / 2.5),
        ([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, -1e9], 3.5),
    ],
)
def test_interquartile_mean_of_known_samples(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected)


@given(samples)
def test_interquartile_mean_is_the_trimmed_mean_of_four_copies(values: list[float]) -> None:
    copies = np.sort(np.repeat(values, 4))
    trimmed = copies[len(values) : 3 * len(values)].mean()
    assert interquartile_mean(values) == pytest.approx(trimmed, rel=1e-9, abs=1e-6)


@given(samples, numbers)
def test_interquartile_mean_shifts_with_its_values(values: list[float], shift: float) -> None:
    shifted = [value + shift for value in values]
    assert interquartile_mean(shifted) == pytest.approx(interquartile_mean(values) + shift, rel=1e-9, abs=1e-5)


@given(samples)
def test_interquartile_mean_lies_between_the_quartiles(values: list[float]) -> None:
    low, high = np.quantile(values, [0.25, 0.75], method="lower")[0], np.quantile(values, 0.75, method="higher")
    assert low - 1e-6 <= interquartile_mean(values) <= high + 1e-6


def test_interquartile_mean_pools_a_matrix_of_scores() -> None:
    assert interquartile_mean([[1.0, 2.0], [3.0, 1000.0]]) == 2.5


def test_bootstrap_interval_of_two_values_matches_the_enumeration() -> None:
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)
    assert bootstrap_interval([0.0, 1.0], confidence=0.8) == (0.0, 1.0)


def test_bootstrap_interval_of_a_constant_is_the_constant() -> None:
    assert bootstrap_interval([3.0] * 5, interquartile_means) == (3.0, 3.0)


def test_bootstrap_interval_approaches_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, size=4000)
    low, high = bootstrap_interval(values, n_resamples=4000)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_bootstrap_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    experiments = rng.exponential(5.0, size=(300, 60))
    hits = 0
    for values in experiments:
        low, high = bootstrap_interval(values, confidence=0.9, n_resamples=400)
        hits += low <= 5.0 <= high
    assert 0.83 <= hits / 300 <= 0.95  # nominal 0.9; the percentile bootstrap is a little short for skewed values


@given(samples, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_bootstrap_interval_is_the_same_for_the_same_seed(values: list[float], seed: int) -> None:
    first, second = (bootstrap_interval(values, n_resamples=50, seed=seed) for _ in range(2))
    assert first == second
    assert min(values) - 1e-6 <= first.low <= first.high <= max(values) + 1e-6


def test_bootstrap_interval_does_not_touch_the_global_generator() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    bootstrap_interval([1.0, 2.0, 3.0])
    assert np.random.random() == expected  # noqa: NPY002


def test_bootstrap_interval_is_wider_for_more_confidence() -> None:
    values = np.random.default_rng(2).normal(size=30)
    narrow, wide = (bootstrap_interval(values, confidence=confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_strata_keep_differences_between_tasks_out_of_the_interval() -> None:
    scores = np.array([[0.0, 100.0], [0.0, 100.0], [0.0, 100.0]])
    assert stratified_bootstrap_interval(scores) == (50.0, 50.0)
    assert bootstrap_interval(scores.reshape(-1)).low < 50.0


def test_each_task_is_resampled_among_its_own_runs() -> None:
    # Task 0 gives 0 or 1, task 1 gives 10 or 30: with two runs each, the mean lies in [5, 15.5] and reaches both ends.
    low, high = stratified_bootstrap_interval([[0.0, 10.0], [1.0, 30.0]], confidence=0.999, n_resamples=5000)
    assert (low, high) == (5.0, 15.5)


def test_a_sample_is_a_matrix_with_one_task() -> None:
    values = np.random.default_rng(4).normal(size=20)
    assert stratified_bootstrap_interval(values) == stratified_bootstrap_interval(values[:, None])


def test_resampling_in_small_portions_gives_as_many_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(values: Any) -> Any:
        seen.append(len(values))
        return means(values)

    monkeypatch.setattr(statistics, "NUMBERS_AT_ONCE", 100)
    bootstrap_interval(np.arange(30.0), counting, n_resamples=10)
    assert seen == [3, 3, 3, 1]


def test_difference_interval_of_known_constants() -> None:
    assert difference_interval([5.0, 5.0], [2.0, 2.0, 2.0]) == (3.0, 3.0)


def test_difference_interval_has_the_width_of_independent_samples() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(1.0, 1.0, 2000), rng.normal(0.0, 2.0, 1000)
    low, high = difference_interval(a, b, n_resamples=4000)
    half_width = 1.96 * np.sqrt(a.var() / len(a) + b.var() / len(b))
    assert (high - low) / 2.0 == pytest.approx(half_width, rel=0.08)
    assert low < a.mean() - b.mean() < high


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0], [0.0], 1.0),
        ([0.0], [1.0], 0.0),
        ([1.0], [1.0], 0.5),
        ([1.0, 2.0, 3.0], [0.0, 2.0], (1.0 + 1.5 + 2.0) / 6.0),
        # Mann and Whitney's U of the textbook tortoise-and-hare race THHHHHTTTTTH: 11 of 36 pairs.
        ([12.0, 6.0, 5.0, 4.0, 3.0, 2.0], [11.0, 10.0, 9.0, 8.0, 7.0, 1.0], 11.0 / 36.0),
    ],
)
def test_probability_of_improvement_of_known_samples(a: list[float], b: list[float], expected: float) -> None:
    assert probability_of_improvement(a, b) == pytest.approx(expected)


@given(grades, grades)
def test_probability_of_improvement_counts_pairs(a: list[float], b: list[float]) -> None:
    wins = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in product(a, b))
    assert probability_of_improvement(a, b) == pytest.approx(wins / (len(a) * len(b)))


@given(grades, grades)
def test_probabilities_of_improvement_of_both_sides_add_up_to_one(a: list[float], b: list[float]) -> None:
    assert probability_of_improvement(a, b) + probability_of_improvement(b, a) == pytest.approx(1.0)


def test_probability_of_improvement_averages_over_tasks() -> None:
    a, b = [[1.0, 0.0], [2.0, 0.0]], [[0.0, 5.0]]
    assert probability_of_improvement(a, b) == 0.5


def test_interval_of_the_probability_of_improvement_matches_the_enumeration() -> None:
    # a = {0, 2} against b = {1}: the share of twos in a resample of two is 0, 1/2, 1 with 1/4, 1/2, 1/4.
    assert probability_of_improvement_interval([0.0, 2.0], [1.0], confidence=0.4) == (0.5, 0.5)
    assert probability_of_improvement_interval([0.0, 2.0], [1.0], confidence=0.8) == (0.0, 1.0)


def test_interval_of_the_probability_of_improvement_resamples_within_tasks() -> None:
    a, b = np.array([[3.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 1.0], [2.0, 1.0]])
    assert probability_of_improvement_interval(a, b) == (0.5, 0.5)


def test_interval_of_the_probability_of_improvement_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        a, b = rng.normal(0.0, 1.0, 40), rng.normal(0.0, 1.0, 30)
        low, high = probability_of_improvement_interval(a, b, confidence=0.9, n_resamples=300)
        hits += low <= 0.5 <= high
    assert 0.82 <= hits / 200 <= 0.96


Call = Callable[[Any], Any]


@pytest.mark.parametrize("call", [interquartile_mean, bootstrap_interval, stratified_bootstrap_interval])
@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_no_values_and_broken_values_are_refused(call: Call, values: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        call(values)


def test_different_numbers_of_tasks_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="as many tasks"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidInputError, match="confidence"):
        bootstrap_interval([1.0, 2.0], confidence=confidence)


@pytest.mark.parametrize(
    "call", [bootstrap_interval, lambda values, **options: difference_interval(values, values, **options)]
)
def test_no_resamples_are_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInputError, match="resample"):
        call([1.0], n_resamples=0)
