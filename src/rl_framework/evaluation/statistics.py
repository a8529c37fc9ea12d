"""Statistics of few, noisy episode returns: robust means, bootstrap intervals, one sample against another.

Scores are `[runs]`, or `[runs, tasks]` where the runs of each task are resampled among themselves (strata).
Everything is deterministic given the seed.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rl_framework.errors import InvalidInputError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]

RESAMPLES = 2000
NUMBERS_AT_ONCE = 2_000_000  # resampled numbers held in memory at a time


class Interval(NamedTuple):
    """A range that holds the true value with the stated confidence."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.2f}, {self.high:.2f}]"


def means(values: FloatArray) -> FloatArray:
    """Mean over the last axis. `[..., N] -> [...]`."""
    return np.asarray(values.mean(axis=-1), dtype=np.float64)


def interquartile_means(values: FloatArray) -> FloatArray:
    """Mean of the middle half of the sorted values over the last axis. `[..., N] -> [...]`.

    Values on the border of the middle half count with the fraction of them that lies inside, so that exactly a
    quarter of the weight is cut on each side for every N (for N divisible by 4 this is the usual trimmed mean).
    """
    return np.asarray(np.sort(values, axis=-1) @ _middle_half(values.shape[-1]), dtype=np.float64)


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Mean of the middle half of all values, whatever their shape.

    Raises:
        InvalidInputError: No values, or one that is not finite.
    """
    return float(interquartile_means(_as_scores(values).reshape(-1)))


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Statistic = means,
    *,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic of independent values. `[N]`.

    Args:
        values: The sample.
        statistic: Function over the last axis: `means`, `interquartile_means`, or your own.
        confidence: Share of such intervals that hold the true value, between 0 and 1.
        n_resamples: How many resamples the percentiles are taken from.
        seed: Seed of the resampling.

    Raises:
        InvalidInputError: No values, a value that is not finite, or an impossible confidence or number of resamples.
    """
    return stratified_bootstrap_interval(
        np.asarray(values, dtype=np.float64).reshape(-1, 1),
        statistic,
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


def stratified_bootstrap_interval(
    scores: npt.ArrayLike,
    statistic: Statistic = means,
    *,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic over all scores, each task resampled among its own runs.

    Args:
        scores: One score per run and task. `[runs, tasks]`
        statistic: Function over the last axis, applied to the runs of all tasks side by side.
        confidence: Share of such intervals that hold the true value, between 0 and 1.
        n_resamples: How many resamples the percentiles are taken from.
        seed: Seed of the resampling.

    Raises:
        InvalidInputError: No scores, a score that is not finite, or an impossible confidence or number of resamples.
    """
    rng = np.random.default_rng(seed)
    return _percentiles(_resampled(_as_scores(scores), statistic, n_resamples, rng), confidence)


def difference_interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    statistic: Statistic = means,
    *,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of `statistic(a) - statistic(b)` for two independent samples.

    Args:
        a: The first sample. `[runs]` or `[runs, tasks]`
        b: The second sample; the numbers of runs may differ. `[runs]` or `[runs, tasks]`
        statistic: Function over the last axis.
        confidence: Share of such intervals that hold the true value, between 0 and 1.
        n_resamples: How many resamples the percentiles are taken from.
        seed: Seed of the resampling.

    Raises:
        InvalidInputError: As `stratified_bootstrap_interval`.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = (_resampled(_as_scores(scores), statistic, n_resamples, rng) for scores in (a, b))
    return _percentiles(ours - theirs, confidence)


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Probability that a random run of `a` beats a random run of `b`, averaged over tasks; ties count one half.

    It is the Mann-Whitney U statistic divided by the number of pairs.

    Args:
        a: `[runs]` or `[runs, tasks]`
        b: As many tasks; the number of runs may differ. `[runs]` or `[runs, tasks]`

    Raises:
        InvalidInputError: No scores, a score that is not finite, or different numbers of tasks.
    """
    pairs = list(_histograms(a, b))
    return float(np.mean([_win_rates(ours, theirs) for ours, theirs in pairs]))


def probability_of_improvement_interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Stratified percentile bootstrap interval of `probability_of_improvement`.

    Args:
        a: `[runs]` or `[runs, tasks]`
        b: As many tasks; the number of runs may differ. `[runs]` or `[runs, tasks]`
        confidence: Share of such intervals that hold the true value, between 0 and 1.
        n_resamples: How many resamples the percentiles are taken from.
        seed: Seed of the resampling.

    Raises:
        InvalidInputError: As `probability_of_improvement`, or an impossible confidence or number of resamples.
    """
    _check_resamples(n_resamples)
    rng = np.random.default_rng(seed)
    rates = [_resampled_win_rates(ours, theirs, n_resamples, rng) for ours, theirs in _histograms(a, b)]
    return _percentiles(np.mean(rates, axis=0), confidence)


def _middle_half(count: int) -> FloatArray:
    """Weight of each sorted value: its overlap with the middle half of `[0, count]`, summing to one. `[count]`."""
    left = np.arange(count, dtype=np.float64)
    overlap = np.minimum(left + 1.0, 0.75 * count) - np.maximum(left, 0.25 * count)
    weights: FloatArray = np.clip(overlap, 0.0, None) / (0.5 * count)
    return weights


def _as_scores(values: npt.ArrayLike) -> FloatArray:
    """Finite scores. `[runs] | [runs, tasks] -> [runs, tasks]`."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise InvalidInputError(f"Expected scores [runs] or [runs, tasks], at least one; got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise InvalidInputError(f"Expected finite scores, got {scores[~np.isfinite(scores)][0]}.")
    return scores.reshape(len(scores), -1)


def _check_resamples(n_resamples: int) -> None:
    if n_resamples < 1:
        raise InvalidInputError(f"Expected at least one resample, got n_resamples={n_resamples}.")


def _resampled(scores: FloatArray, statistic: Statistic, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """The statistic of many resamples. `[runs, tasks] -> [n_resamples]`."""
    _check_resamples(n_resamples)
    runs, tasks = scores.shape
    task = np.arange(tasks)
    parts = []
    for count in _chunks(n_resamples, scores.size):
        chosen = rng.integers(runs, size=(count, runs, tasks))
        parts.append(statistic(scores[chosen, task].reshape(count, -1)))
    return np.concatenate(parts)


def _chunks(total: int, size: int) -> Iterator[int]:
    """Portions of `total` that hold at most `NUMBERS_AT_ONCE` numbers, `size` each."""
    portion = max(1, NUMBERS_AT_ONCE // size)
    for start in range(0, total, portion):
        yield min(portion, total - start)


def _percentiles(samples: FloatArray, confidence: float) -> Interval:
    if not 0.0 < confidence < 1.0:
        raise InvalidInputError(f"Expected a confidence between 0 and 1, got {confidence}.")
    low, high = np.quantile(samples, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(float(low), float(high))


def _histograms(a: npt.ArrayLike, b: npt.ArrayLike) -> Iterator[tuple[IntArray, IntArray]]:
    """Per task, how often each distinct score of either sample occurs in `a` and in `b`, in rising order. `[K]`."""
    ours, theirs = _as_scores(a), _as_scores(b)
    if ours.shape[1] != theirs.shape[1]:
        raise InvalidInputError(f"Expected as many tasks in both, got {ours.shape[1]} and {theirs.shape[1]}.")
    for column, other in zip(ours.T, theirs.T, strict=True):
        distinct, ranks = np.unique(np.concatenate([column, other]), return_inverse=True)
        split = len(column)
        yield (
            np.bincount(ranks[:split], minlength=len(distinct)),
            np.bincount(ranks[split:], minlength=len(distinct)),
        )


def _win_rates(ours: IntArray, theirs: IntArray) -> FloatArray:
    """Share of pairs that the first sample wins, from histograms over the same scores. `[..., K] -> [...]`."""
    beaten = np.cumsum(theirs, axis=-1) - 0.5 * theirs
    pairs = ours.sum(axis=-1) * theirs.sum(axis=-1)
    return np.asarray((ours * beaten).sum(axis=-1) / pairs, dtype=np.float64)


def _resampled_win_rates(ours: IntArray, theirs: IntArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Win rates of many resamples; resampling a sample is a multinomial draw over its histogram. `[n_resamples]`."""
    parts = [
        _win_rates(*(rng.multinomial(sample.sum(), sample / sample.sum(), size=count) for sample in (ours, theirs)))
        for count in _chunks(n_resamples, len(ours))
    ]
    return np.concatenate(parts)
