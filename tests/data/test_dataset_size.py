"""A data set of any size opens at once, and is written in the memory of one episode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MILLION = """
import json, sys, time
from pathlib import Path
import numpy as np
import psutil
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence

def resident():
    return psutil.Process().memory_info().rss / 1e6

peak = resident()

def episodes(count, steps=200):
    global peak
    rng = np.random.default_rng(0)
    for number in range(count):
        numbers = rng.random((steps + 1, 10), dtype=np.float32)
        yield Episode(observations=numbers, actions=numbers[1:, 0], rewards=numbers[1:, 1], terminated=True)
        if number % 50 == 0:
            peak = max(peak, resident())

path = Path(sys.argv[1])
EpisodeSequence.from_episode_generator(episodes(1), path=path.with_name("warm"))
EpisodeSequence.from_dataset(path.with_name("warm"))
EpisodeSequence.from_episode_generator(episodes(5000), path=path)
before, start = resident(), time.perf_counter()
opened = EpisodeSequence.from_dataset(path)
seconds, added = time.perf_counter() - start, resident() - before
start = time.perf_counter()
steps = sum(len(episode) for episode in opened)
iterated = time.perf_counter() - start
print(json.dumps({"peak": peak, "seconds": seconds, "added": added, "iterated": iterated, "steps": steps}))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    path = tmp_path_factory.mktemp("million") / "data"
    run = subprocess.run([sys.executable, "-c", MILLION, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def test_a_million_transitions_open_at_once(measured: dict[str, float]) -> None:
    assert measured["seconds"] < 0.1
    assert measured["added"] < 50


def test_a_million_transitions_are_written_in_constant_memory(measured: dict[str, float]) -> None:
    assert measured["peak"] < 200


def test_reading_an_episode_takes_microseconds(measured: dict[str, float]) -> None:
    assert measured["steps"] == 1_000_000
    assert measured["iterated"] / 5000 < 100e-6


def test_no_large_library_is_imported_for_it() -> None:
    code = "import sys; import rl_framework.data.storage; print([m for m in sys.modules if m in {names}])"
    names = {"torch", "h5py", "pyarrow", "minari", "datasets", "d3rlpy", "imitation", "stable_baselines3"}
    run = subprocess.run(
        [sys.executable, "-c", code.format(names=names)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert run.stdout.strip() == "[]"
