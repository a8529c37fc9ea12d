"""PPO on one GPU at rlstack's shape: absolute speed with 2x256 and 2x64 networks, and against rl8 1.0.0.

Where there is no GPU it says so, and the results file says that the figures are open; figures that were taken on a GPU
before stay in it.

    python -m benchmarks.ppo_gpu
"""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.ppo_runs import our_rate, rl8_shape
from benchmarks.rl8_environment import Rl8
from benchmarks.side_by_side import Comparison, Limit, compare, leave_open, write_results

N_ENVS, HORIZON = 8192, 32
REQUIRED_RATES = {256: 4e6, 64: 8e6}
REQUIRED_RATIO = 3.0
ITERATIONS, RL8_ITERATIONS = 60, 10
PAIRS = 5
NAME = "ppo_gpu"


def measure(folder: Path) -> tuple[list[Comparison], list[Limit], str | None]:
    """Comparisons with rl8, times per transition, and what could not be measured, if anything."""
    limits = [_limit(hidden, folder) for hidden in REQUIRED_RATES]
    try:
        with Rl8(use_cuda=True) as rl8:
            return _against_rl8(rl8, folder), limits, None
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return [], limits, f"rl8 could not be run beside it: {error}"


def _limit(hidden: int, folder: Path) -> Limit:
    """The rate as a time per transition, which must stay below a bound."""
    rate = _our_rate(hidden, folder)
    rate()
    nanoseconds = tuple(1e9 / rate() for _ in range(PAIRS))
    name = f"PPO on {torch.cuda.get_device_name()}, 2x{hidden}, {N_ENVS} environments x {HORIZON}, time per transition"
    limit = Limit(name, nanoseconds, "nanoseconds", 1e9 / REQUIRED_RATES[hidden])
    print(f"{limit}; {1e3 / limit.median:.2f} million transitions/s", flush=True)
    return limit


def _against_rl8(rl8: Rl8, folder: Path) -> list[Comparison]:
    built = rl8.build({"num_envs": N_ENVS, "horizon": HORIZON}, threads=torch.get_num_threads())
    if built["device"] == "cpu":
        raise RuntimeError("its torch sees no GPU")
    theirs = partial(rl8.rate, RL8_ITERATIONS)
    name = f"PPO against rl8 on {torch.cuda.get_device_name()}: 2x256, {N_ENVS} environments x {HORIZON}"
    ours = _our_rate(256, folder)
    return [compare(name, ours, theirs, unit="transitions/s", required_ratio=REQUIRED_RATIO, pairs=PAIRS)]


def _our_rate(hidden: int, folder: Path) -> partial[float]:
    make_env, parameters = rl8_shape(N_ENVS, HORIZON, hidden, device="cuda")
    return partial(our_rate, make_env, parameters, ITERATIONS * N_ENVS * HORIZON, folder)


def main() -> None:
    if not torch.cuda.is_available():
        rates = {f"transitions per second, 2x{hidden}": rate for hidden, rate in REQUIRED_RATES.items()}
        leave_open(NAME, {**rates, "ratio to rl8": REQUIRED_RATIO}, "no GPU at hand")
        return
    with TemporaryDirectory(prefix="rl_framework-") as folder:
        comparisons, limits, missing = measure(Path(folder))
    path = write_results(NAME, comparisons, limits)
    if missing is not None:
        print(f"Open: {missing}")
        content: dict[str, Any] = {**json.loads(path.read_text()), "open": missing}
        path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
