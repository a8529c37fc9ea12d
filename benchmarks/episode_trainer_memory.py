"""Memory that an update of the episode trainer takes at its peak above what was held before it.

The same number of steps lies in episodes of 10 steps, or half of them in episodes of 10,000: within the same
`minibatch_timesteps` both must need the same. As a control, the long ones are also taken whole. Each case runs in a
fresh process, which has done a small update before, so that what libraries allocate once is not counted; the figure is
the greatest resident memory. The layers are wide, so that what a minibatch needs stands out. glibc is told to give
blocks from 256 KiB on back at once: by itself it keeps them, fills their beginnings with small ones, and holds several
times as much in the end, with episodes of any length.

    python -m benchmarks.episode_trainer_memory
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, repeat
from typing import Any

import torch

from benchmarks.peak_memory import MEGABYTE, peak_of_process, restart_peak

STEPS, LONG, SHORT = 40_000, 10_000, 10
LIMIT = 1000
HIGHEST_SHARE = 1.2
"""Of the peak with short episodes alone, within the same limit."""


@dataclass(frozen=True)
class MemoryCase:
    """How one update is done.

    Attributes:
        memory: Of the model; None for an MLP.
        has_long: Whether half of the steps lie in long episodes.
        minibatch_timesteps: The limit.
    """

    memory: str | None
    has_long: bool
    minibatch_timesteps: int

    @property
    def name(self) -> str:
        """What is measured, in words."""
        model = "MLP" if self.memory is None else self.memory.upper()
        episodes = f"episodes of {LONG} and {SHORT} steps" if self.has_long else f"episodes of {SHORT} steps"
        return f"{model}, {episodes}, minibatches of {self.minibatch_timesteps}"


CASES = [
    MemoryCase(memory, has_long, limit)
    for memory in (None, "gru")
    for has_long, limit in ((False, LIMIT), (True, LIMIT), (True, LONG))
]


def peak_of_update(case: MemoryCase) -> dict[str, float]:
    """Megabytes that an update adds at its peak, and its seconds; to be called in a fresh process."""
    torch.set_num_threads(1)
    _update(case, [SHORT] * 10)
    lengths = [LONG] * (STEPS // 2 // LONG) if case.has_long else []
    return _update(case, [*lengths, *[SHORT] * ((STEPS - sum(lengths)) // SHORT)])


def _update(case: MemoryCase, lengths: Sequence[int]) -> dict[str, float]:
    import gymnasium as gym

    from rl_framework.algorithms.episode_trainer import EpisodeTrainer
    from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
    from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
    from rl_framework.nn.episode_tensors import EpisodeTensors
    from rl_framework.nn.model_episodes import ModelEpisodes

    network = EpisodePolicyConfig(body_sizes=(2048, 32), memory=case.memory, memory_size=256)
    space = gym.spaces.Box(-1.0, 1.0, (4,))
    model = ModelEpisodes(EpisodePolicy(space, gym.spaces.Discrete(2), network))
    config = VTraceAWRConfig(minibatch_timesteps=case.minibatch_timesteps, epochs=1, value_warmup_epochs=1, seed=0)
    trainer = EpisodeTrainer(model, config)
    ends = list(accumulate(lengths))
    observations, actions = torch.rand(ends[-1] + len(lengths), 4), torch.randint(2, (ends[-1],))
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        first, begin = end - length + number, end - length
        episode = EpisodeTensors(observations=observations[first : end + number + 1], targets=actions[begin:end])
        trainer.add_episode(episode, rewards=list(repeat(1.0, length)), terminated=True)
    gc.collect()
    before, begun = restart_peak(), time.perf_counter()
    trainer.update()
    return {
        "megabytes": (peak_of_process() - before) / MEGABYTE,
        "seconds": time.perf_counter() - begun,
    }


def in_fresh_process(case: MemoryCase) -> dict[str, float]:
    """`peak_of_update` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.episode_trainer_memory", json.dumps(asdict(case))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def measure() -> list[dict[str, Any]]:
    """One row per case; those of a model are compared with its short episodes alone."""
    rows: list[dict[str, Any]] = []
    reference = 0.0
    for case in CASES:
        found = in_fresh_process(case)
        if not case.has_long:
            reference = found["megabytes"]
        share = found["megabytes"] / reference
        row: dict[str, Any] = {"name": case.name, **asdict(case), **found, "share_of_short_alone": share}
        if case.minibatch_timesteps == LIMIT:
            row["met"] = share <= HIGHEST_SHARE
        rows.append(row)
        print(
            f"{case.name}: {found['megabytes']:.0f} MB above, {share:.2f} times, {found['seconds']:.1f} s", flush=True
        )
    return rows


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(peak_of_update(MemoryCase(**json.loads(sys.argv[1])))))
        return
    measure()


if __name__ == "__main__":
    main()
