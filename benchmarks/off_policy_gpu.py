"""SAC on one GPU: updates per second, where one CUDA graph holds several updates, sampling included.

Where there is no GPU it says so, and the results file says that the figure is open; a figure that was taken on a GPU
before stays in it.

    python -m benchmarks.off_policy_gpu
"""

from __future__ import annotations

import time

import torch

from benchmarks.off_policy_throughput import LOCOMOTION, N_STORED, fill
from benchmarks.side_by_side import Limit, leave_open, write_results
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.envs.source import open_environments
from rl_framework.testing.environments import AnySpaceEnv

NAME = "off_policy_gpu"
REQUIRED_RATE = 2000.0
BATCH_SIZE = 256
PER_GRAPH = (1, 10)
UPDATES = 2000
RUNS = 5


def time_per_update(per_graph: int) -> Limit:
    """Microseconds, which must stay below a bound.

    Args:
        per_graph: Updates that one CUDA graph holds.
    """
    config = OffPolicyConfig(
        rule={"kind": "sac", "network": {"hidden_sizes": (256, 256)}},
        replay={"capacity": N_STORED, "batch_size": BATCH_SIZE},
        updates_per_graph=per_graph,
        device="cuda",
        seed=0,
    )
    learner = OffPolicy(open_environments([AnySpaceEnv(*LOCOMOTION)]), config)
    fill(learner, LOCOMOTION)
    times = []
    for _ in range(RUNS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        learner.optimize(UPDATES)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / UPDATES * 1e6)
    name = f"SAC on {torch.cuda.get_device_name()}, 2x256, batches of {BATCH_SIZE}, {per_graph} updates per graph"
    limit = Limit(name, tuple(times[1:]), "microseconds per update", 1e6 / REQUIRED_RATE)
    print(f"{limit}; {1e6 / limit.median:,.0f} updates/s", flush=True)
    return limit


def main() -> None:
    """Measure, or say why not."""
    if not torch.cuda.is_available():
        leave_open(NAME, {"SAC updates per second": REQUIRED_RATE}, "no GPU at hand")
        return
    write_results(NAME, [], [time_per_update(per_graph) for per_graph in PER_GRAPH])


if __name__ == "__main__":
    main()
