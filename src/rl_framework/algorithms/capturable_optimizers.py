"""Optimisers whose steps a CUDA graph can hold: what changes from step to step is in tensors on the device.

A number that Python knows, such as a learning rate or a count of steps, would stay in the graph what it was when the
graph was made. So the learning rate becomes a tensor that is filled anew, and the optimiser's own option `capturable`
does the same to its counts. States are saved without either, so that they fit learners without graphs, on any device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KEPT = ("lr", "capturable", "fused", "foreach")
"""Settings of how an optimiser computes here, which a state from elsewhere does not change."""


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Have an optimiser compute without numbers of the host, if it can; it has taken no step yet.

    Args:
        optimizer: One with the option `capturable`, or SGD, which counts nothing.
        device: Where the parameters are.

    Returns:
        Whether it can; otherwise it is left as it was.
    """
    groups = optimizer.param_groups
    if type(optimizer) is not torch.optim.SGD and not all("capturable" in group for group in groups):
        return False
    for group in groups:
        group["lr"] = torch.full((), float(group["lr"]), dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True
    return True


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Change the learning rate, in its place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def plain_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`state_dict` with learning rates as numbers."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def load_plain_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take back what `plain_state` gave; the optimiser goes on computing in the way that it was made for."""
    own = [{name: group[name] for name in KEPT if name in group} for group in optimizer.param_groups]
    groups = [{**given, **kept} for given, kept in zip(state["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
