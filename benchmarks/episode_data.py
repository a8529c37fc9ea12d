"""A million recorded transitions: how fast they open, how fast they are read, how much memory they take.

5,000 episodes of 200 steps with 10-dimensional float32 observations, 2-dimensional float32 actions and float64 rewards.
Reading is compared with the imitation library's `TrajectoryDatasetSequence` over the same numbers, in its own layout.
Times and memory of opening and of streaming are taken in fresh processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import Comparison, Limit, compare, write_results
from rl_framework import Episode, EpisodeSequence

EPISODES, STEPS, DIMENSIONS = 5_000, 200, 10
RUNS = 5

OPENING = """
import json, sys, time, psutil
from rl_framework import EpisodeSequence
process = psutil.Process()
before = process.memory_info().rss
start = time.perf_counter()
sequence = EpisodeSequence.from_dataset(sys.argv[1])
seconds = time.perf_counter() - start
assert len(sequence) == int(sys.argv[2])
print(json.dumps([seconds, (process.memory_info().rss - before) / 1e6]))
"""

STREAMING = """
import json, sys, threading, psutil
from benchmarks.episode_data import generate
from rl_framework import EpisodeSequence
process, peak, done = psutil.Process(), [0], threading.Event()
def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], process.memory_info().rss)
before = process.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
sequence = EpisodeSequence.from_episode_generator(generate(), path=sys.argv[1])
assert sequence.n_transitions == int(sys.argv[2])
done.set()
watcher.join()
print(json.dumps([(peak[0] - before) / 1e6]))
"""


def generate() -> Iterator[Episode]:
    """The episodes, one after the other; the same at every call."""
    rng = np.random.default_rng(0)
    for _ in range(EPISODES):
        yield Episode(
            observations=rng.standard_normal((STEPS + 1, DIMENSIONS), dtype=np.float32),
            actions=rng.standard_normal((STEPS, 2), dtype=np.float32),
            rewards=rng.standard_normal(STEPS),
            terminated=False,
        )


def rate_of_reading(episodes: Iterable[Any], observations: str) -> float:
    """Transitions per second when every episode is fetched once, and one number of each is looked at."""
    start = time.perf_counter()
    n_transitions, total = 0, 0.0
    for episode in episodes:
        n_transitions += len(episode)
        total += float(getattr(episode, observations)[-1, 0])
    assert n_transitions == EPISODES * STEPS
    assert np.isfinite(total)
    return n_transitions / (time.perf_counter() - start)


def measure_reading(folder: Path) -> Comparison:
    """Fetch every episode: ours against the imitation library's sequence."""
    from imitation.data import serialize

    ours = EpisodeSequence.from_dataset(folder / "ours")
    theirs: Any = serialize.load(folder / "theirs")
    assert np.array_equal(ours[17].observations, theirs[17].obs)
    return compare(
        "Iterating 5,000 episodes: EpisodeSequence against TrajectoryDatasetSequence",
        lambda: rate_of_reading(ours, "observations"),
        lambda: rate_of_reading(theirs, "obs"),
        unit="transitions/s",
        required_ratio=5.0,
        pairs=RUNS,
    )


def in_fresh_process(source: str, *words: str) -> list[float]:
    """The numbers that a script prints."""
    command = [sys.executable, "-c", source, *words]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers: list[float] = json.loads(printed.splitlines()[-1])
    return numbers


def measure_opening(path: Path) -> list[Limit]:
    """Open the data in fresh processes, imports not counted."""
    runs = [in_fresh_process(OPENING, str(path), str(EPISODES)) for _ in range(RUNS)]
    seconds, megabytes = zip(*runs, strict=True)
    return [
        Limit("Opening a million transitions", seconds, "s", 0.1),
        Limit("Resident memory that opening adds", megabytes, "MB", 50.0),
    ]


def measure_streaming(folder: Path) -> Limit:
    """Write a million transitions from a generator in fresh processes; the most memory held at any time."""
    runs = [in_fresh_process(STREAMING, str(folder / f"stream{run}"), str(EPISODES * STEPS)) for run in range(3)]
    peaks = tuple(run[0] for run in runs)
    return Limit("Resident memory that from_episode_generator adds at its peak", peaks, "MB", 200.0)


def measure() -> tuple[list[Comparison], list[Limit]]:
    """All figures of this file."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        limits = [measure_streaming(folder)]
        sequence = EpisodeSequence.from_episode_generator(generate(), path=folder / "ours")
        sequence.save(folder / "theirs", format="imitation")
        limits = [*measure_opening(folder / "ours"), *limits]
        comparisons = [measure_reading(folder)]
    for limit in limits:
        print(limit)
    return comparisons, limits


if __name__ == "__main__":
    write_results("episode_data", *measure())
