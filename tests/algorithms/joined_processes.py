"""What two processes that train together do and see: `torchrun` runs it, with a folder for the answers of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_framework.algorithms.accelerate_processes import AccelerateProcesses
from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints
from rl_framework.errors import RLFrameworkError
from tests.algorithms.joined_trainers import many_batches, one_batch
from tests.algorithms.joint_runs import train


def sums(processes: AccelerateProcesses) -> dict[str, Any]:
    """Sums of floats, whole numbers, a scalar, a view with gaps and nothing."""
    mine = torch.arange(6.0, requires_grad=True) + 10 * processes.rank
    numbers = {
        "floats": mine,
        "doubles": mine.double() / 3,
        "whole": torch.tensor([2**40 + processes.rank]),
        "scalar": torch.tensor(0.5 + processes.rank),
        "view": mine.detach().view(2, 3).T,
        "nothing": torch.zeros(0, 3),
    }
    totals = {name: processes.sum(tensor) for name, tensor in numbers.items()}
    is_alike = all(
        (total.dtype, total.shape, total.requires_grad) == (numbers[name].dtype, numbers[name].shape, False)
        for name, total in totals.items()
    )
    is_new = all(total.data_ptr() != numbers[name].data_ptr() for name, total in totals.items() if total.numel())
    return {name: total.tolist() for name, total in totals.items()} | {"is_alike": is_alike, "is_new": is_new}


def largest(processes: AccelerateProcesses) -> list[float]:
    """Of a number that grows with the rank, one that falls, one too long for 32 bits, and one that is missing once."""
    rank = processes.rank
    numbers = [float(rank), -float(rank), 2.0**40 + rank, float("nan") if rank == 1 else 3.0]
    return [processes.largest(number) for number in numbers]


def shared_weights(processes: AccelerateProcesses) -> list[Any]:
    """Weights, buffers of whole numbers and truth values, and a weight with gaps in memory."""
    torch.manual_seed(processes.rank)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    tensors = [*model.parameters(), *model.buffers(), torch.rand(4, 2).T, torch.rand(5) > 0.5]
    memory = [tensor.data_ptr() for tensor in tensors]
    processes.share_weights(tensors)
    return [[tensor.tolist() for tensor in tensors], [tensor.data_ptr() for tensor in tensors] == memory]


def gradients(processes: AccelerateProcesses) -> list[Any]:
    """One that both have, one that process 1 has, one that nobody has, one in half precision with gaps, one scalar."""
    rank = processes.rank
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((2, 2), (3,), (4,))]
    parameters += [nn.Parameter(torch.zeros(3, 2, dtype=torch.float16).T), nn.Parameter(torch.zeros(()))]
    for parameter, number in zip(parameters, (1.0 + rank, 5.0, None, 0.25, -float(rank)), strict=True):
        if number is not None and (rank == 1 or number != 5.0):
            parameter.grad = torch.full_like(parameter, number)
    held = parameters[0].grad
    processes.sum_gradients(parameters)
    processes.sum_gradients([])
    return [[None if p.grad is None else p.grad.tolist() for p in parameters], parameters[0].grad is held]


def refusal(work: Any) -> str:
    """Class and message of what a call raises."""
    try:
        work()
    except RLFrameworkError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def different_models(processes: AccelerateProcesses) -> str:
    """What is said of two models that cannot be trained together."""
    return refusal(lambda: processes.share_weights([torch.zeros(2 + processes.rank)]))


def checkpoints(processes: AccelerateProcesses, folder: Path) -> dict[str, Any]:
    """Write some, find the latest, fail in one process, and read as if there were fewer processes."""
    checkpoints = DistributedCheckpoints(folder, processes, keep_last=1)
    rank = processes.rank
    before = checkpoints.load_latest()
    for step in (1, 2):
        checkpoints.save(
            step, shared={"weights": torch.full((3,), float(step))}, own={"mine": [step, rank]}, score=-step
        )
    bad = refusal(lambda: checkpoints.save(3, shared={}, own={"object": object() if rank == 1 else 1}))
    unwritable = refusal(lambda: checkpoints.save(4, shared={"object": object()}, own={}))
    saved = checkpoints.load_latest()
    assert saved is not None
    return {
        "before": before,
        "steps": sorted(path.name for path in folder.glob("step_*")),
        "latest": [saved.step, saved.shared["weights"].tolist(), saved.own],
        "failed in process 1": bad,
        "failed in process 0": unwritable,
    }


def main() -> None:
    """Do it all, and write down what was seen."""
    folder = Path(sys.argv[1])
    processes = AccelerateProcesses()
    answers = {
        "rank": processes.rank,
        "count": processes.count,
        "device": str(processes.device),
        "sums": sums(processes),
        "largest": largest(processes),
        "weights": shared_weights(processes),
        "gradients": gradients(processes),
        "different models": different_models(processes),
        "checkpoints": checkpoints(processes, folder / "checkpoints"),
        "one batch": one_batch(processes, is_exact=True),
        "one batch, sampled divergence": one_batch(processes, is_exact=False),
        "many batches": many_batches(processes, torch.float32),
        "many batches, double precision": many_batches(processes, torch.float64),
        "training": train(processes, folder / "training"),
    }
    processes.wait()
    (folder / f"answers_{processes.rank}.json").write_text(json.dumps(answers))
    processes.close()


if __name__ == "__main__":
    main()
