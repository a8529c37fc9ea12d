"""Memory that one update of PPO takes at its peak above what was held before it: whole batch, parts, mixed precision.

rlstack's shape: 8192 environments, a horizon of 32, separate networks of 2x256 units, full batches. Each case runs in a
fresh process, which has done an update of a small batch before, so that what libraries allocate once is not counted. On
the CPU the figure is the greatest resident memory; on CUDA, where there is a GPU, what torch has allocated at the most.

    python -m benchmarks.ppo_memory
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.side_by_side import RESULTS, machine

N_ENVS, HORIZON, HIDDEN = 8192, 32, 256
PARTS: tuple[int | str | None, ...] = (None, 65_536, 16_384, "auto")
MEGABYTE = 2**20


@dataclass(frozen=True)
class Case:
    """How one update is done.

    Attributes:
        device: `cpu` or `cuda`.
        micro_batch_size: Transitions that pass through the network at once; `auto` for PPO's own choice, None for all.
        mixed_precision: Whether the network computes in bfloat16.
    """

    device: str
    micro_batch_size: int | str | None
    mixed_precision: bool


def peak_of_update(case: Case) -> dict[str, float]:
    """Megabytes that an update adds at its peak, and its seconds; to be called in a fresh process."""
    _update(case, 64, is_measured=False)
    return _update(case, N_ENVS, is_measured=True)


def _update(case: Case, n_envs: int, *, is_measured: bool) -> dict[str, float]:
    from benchmarks.ppo_runs import rl8_shape
    from rl_framework.algorithms.ppo import PPO
    from rl_framework.algorithms.ppo_config import PPOConfig

    make_env, parameters = rl8_shape(n_envs, HORIZON, HIDDEN, device=case.device)
    ways = {"micro_batch_size": case.micro_batch_size if is_measured else None, "mixed_precision": case.mixed_precision}
    ppo = PPO(make_env(), PPOConfig(**{**parameters, **ways}, seed=0))
    ppo.collect()
    gc.collect()
    before = _restart_peak(case.device)
    begin = time.perf_counter()
    ppo.update()
    return {"megabytes": (_peak(case.device) - before) / MEGABYTE, "seconds": time.perf_counter() - begin}


def _restart_peak(device: str) -> int:
    """Bytes held now, from which the peak is counted again."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory starts again from here
    except OSError:
        return _peak(device)
    return _status("VmRSS")


def _peak(device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def in_fresh_process(case: Case) -> dict[str, float]:
    """`peak_of_update` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ppo_memory", json.dumps(asdict(case))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def measure() -> list[dict[str, Any]]:
    """One row per case; the first of each device is what the others are compared with."""
    rows: list[dict[str, Any]] = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        whole = 0.0
        for mixed_precision in (False, True):
            for micro_batch_size in PARTS:
                case = Case(device, micro_batch_size, mixed_precision)
                found = in_fresh_process(case)
                whole = whole or found["megabytes"]
                rows.append({**asdict(case), **found, "share_of_whole_batch": found["megabytes"] / whole})
                print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    part = {None: "whole batch", "auto": "parts of PPO's own choice"}.get(
        row["micro_batch_size"], f"parts of {row['micro_batch_size']}"
    )
    precision = "bfloat16" if row["mixed_precision"] else "float32"
    share = f"{row['share_of_whole_batch']:.0%} of the whole batch in float32"
    return f"{row['device']}, {part}, {precision}: {row['megabytes']:,.0f} MB above, {share}, {row['seconds']:.1f} s"


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(peak_of_update(Case(**json.loads(sys.argv[1])))))
        return
    shape = {"n_envs": N_ENVS, "horizon": HORIZON, "hidden_sizes": [HIDDEN, HIDDEN], "epochs": 4}
    content = {"machine": machine(), "shape": shape, "peak_of_one_update": measure()}
    path = RESULTS / "ppo_memory.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
