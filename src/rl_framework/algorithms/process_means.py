"""Numbers to report, as means over all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from rl_framework.algorithms.processes import Processes

Share: TypeAlias = "tuple[Tensor | float, Tensor | float]"


def means_over(processes: Processes, shares: Mapping[str, Share], device: torch.device) -> dict[str, float]:
    """Ratios of sums, in one meeting of all processes.

    Args:
        processes: Who adds up.
        shares: What this process adds to the numerator and to the denominator of each number.
        device: Where they meet.

    Returns:
        The numbers; 0 where there is nothing to divide by.
    """
    pairs = [[_number(part, device) for part in share] for share in shares.values()]
    sums = processes.sum(torch.stack([torch.stack(pair) for pair in pairs])).tolist()
    return {name: above / below if below else 0.0 for name, (above, below) in zip(shares, sums, strict=True)}


def _number(part: Tensor | float, device: torch.device) -> Tensor:
    if isinstance(part, Tensor):
        return part.detach().to(device, torch.float64)
    return torch.tensor(float(part), dtype=torch.float64, device=device)
