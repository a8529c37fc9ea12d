"""What it costs a training that its numbers go to a service that answers after 200 ms.

PPO on CartPole-v1 with 8 environments, with a connector and without. The service runs on loopback in a process of its
own. Closing the connector, which waits for what is on its way, is not counted: training is over by then.

    python -m benchmarks.connector_cost
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.side_by_side import Comparison, compare, write_results
from benchmarks.training_throughput import ENVIRONMENT, N_ENVS, PARAMETERS
from rl_framework import ClearMLConnector, Connector, HuggingFaceConnector, StableBaselinesAgent
from rl_framework.connectors.outbox import Outbox

STEPS = 61_440
PAIRS = 9

SERVERS = """
import json, sys
from pathlib import Path
from rl_framework.testing.clearml_server import LoopbackClearML
from rl_framework.testing.hub_server import HubServer
from rl_framework.testing.loopback_faults import Fault

class Distant:
    def next(self, step):
        return Fault(pause=0.2)

with HubServer(Path(sys.argv[1]), faults=Distant()) as hub, LoopbackClearML(faults=Distant()) as clearml:
    print(json.dumps({"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, **clearml.environment()}), flush=True)
    sys.stdin.read()
"""


@contextmanager
def distant_services(folder: Path) -> Iterator[None]:
    """Services for this process, 200 ms away."""
    import json

    command = [sys.executable, "-c", SERVERS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        os.environ.update(json.loads(server.stdout.readline()))
        yield
        server.stdin.close()


def rate(connector: Connector | None) -> float:
    """Steps per second of one training."""
    agent = StableBaselinesAgent(algorithm_parameters=PARAMETERS)
    start = time.perf_counter()
    summary = agent.train(ENVIRONMENT, STEPS, n_envs=N_ENVS, vectorization="serial", connector=connector)
    found = summary.taken_timesteps / (time.perf_counter() - start)
    if connector is not None:
        connector.close()
    return found


def measure(folder: Path) -> list[Comparison]:
    """One comparison per service."""
    outbox = Outbox(folder / "outbox")
    endpoint, token = os.environ["HF_ENDPOINT"], os.environ["HF_TOKEN"]

    def with_hub() -> float:
        return rate(HuggingFaceConnector("me/agent", endpoint=endpoint, token=token, outbox=outbox))

    def with_clearml() -> float:
        return rate(ClearMLConnector("benchmarks", "cost", offline=False, outbox=outbox))

    return [
        compare(name, measured, lambda: rate(None), unit="steps/s", required_ratio=0.98, pairs=PAIRS)
        for name, measured in (
            ("Training with a HuggingFaceConnector against training without", with_hub),
            ("Training with a ClearMLConnector against training without", with_clearml),
        )
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="rl_framework-") as parent, distant_services(Path(parent)):
        write_results("connector_cost", measure(Path(parent)))
