"""Everything beside the networks that the next step of one of d3rlpy's algorithms depends on, as a plain tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow
from rl_framework.core.trees import Tree
from rl_framework.errors import CorruptArchiveError


def networks(algorithm: Any) -> torch.nn.ModuleDict:
    """All networks, target networks and learned numbers of an algorithm, as one network."""
    found: dict[str, torch.nn.Module] = algorithm.impl.modules.get_torch_modules()
    return torch.nn.ModuleDict(found)


def optimizers(algorithm: Any) -> dict[str, Any]:
    """The optimisers of an algorithm, with their learning rate schedules, by name."""
    modules = algorithm.impl.modules
    return {name: part for name, part in vars(modules).items() if hasattr(part, "optim")}


def training_state(row: AlgorithmRow, algorithm: Any) -> dict[str, Any]:
    """Optimisers and counters."""
    return {
        "grad_step": algorithm.grad_step,
        "optimizers": {name: dict(part.state_dict()) for name, part in optimizers(algorithm).items()},
        "counters": {name: getattr(algorithm.impl, name) for name in row.counters},
    }


def load_training_state(row: AlgorithmRow, algorithm: Any, state: Mapping[str, Tree], *, keep_rates: bool) -> None:
    """Take back what `training_state` gave.

    Args:
        row: The algorithm.
        algorithm: It, built with the same networks.
        state: The tree.
        keep_rates: Take learning rates from the tree; else those of the algorithm's configuration stay.

    Raises:
        CorruptArchiveError: The tree is that of another algorithm.
    """
    parts = optimizers(algorithm)
    try:
        algorithm.set_grad_step(state["grad_step"])
        for name, part in parts.items():
            rates = [group["lr"] for group in part.optim.param_groups]
            part.load_state_dict(state["optimizers"][name])
            if not keep_rates:
                _set_rates(part, rates)
        for name in row.counters:
            setattr(algorithm.impl, name, state["counters"][name])
    except (LookupError, TypeError, ValueError) as error:
        raise CorruptArchiveError(f"The training state is not that of this {row.name}: {error!r}.") from error


def _set_rates(part: Any, rates: list[float]) -> None:
    for group, rate in zip(part.optim.param_groups, rates, strict=True):
        group["lr"] = rate
