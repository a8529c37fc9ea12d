"""Steps of torch's fused Adam without what each of them begins with.

An optimiser looks through its groups, collects what it keeps of every parameter and sorts it by device and type before
it computes anything: on the CPU that takes four times as long as the computing, for networks of a few thousand weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as hooks

ADAMS = (torch.optim.Adam, torch.optim.AdamW)
KEPT = ("exp_avg", "exp_avg_sq")


class OptimizerSteps:
    """Lets an optimiser step, by the shortest way that comes to the same.

    That is torch's fused operation itself for Adam and AdamW with one group of parameters on the CPU, whose state has
    been made and which nobody has hooked into; for everything else it is the optimiser's own `step`.

    Args:
        optimizer: Any of torch's.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._state: Any = None
        self._kept: tuple[list[Tensor], ...] = ()
        self._counts = torch.zeros(0)

    @torch.no_grad()
    def take(self) -> None:
        """Step along the gradients that the parameters have."""
        group = self._optimizer.param_groups[0]
        gradients = [parameter.grad for parameter in group["params"]]
        if not self._is_direct(group) or any(gradient is None for gradient in gradients):
            self._optimizer.step()
            return
        averages, squares, steps = self._kept
        self._counts += 1
        compute = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        compute(
            group["params"],
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    def _is_direct(self, group: dict[str, Any]) -> bool:
        optimizer = self._optimizer
        if type(optimizer) not in ADAMS or not group["fused"] or group["amsgrad"] or _is_hooked(optimizer):
            return False
        if optimizer.state is not self._state or len(optimizer.state) != len(group["params"]):
            self._state, self._kept = None, ()
            self._take_up(group)
        return self._state is not None

    def _take_up(self, group: dict[str, Any]) -> None:
        """Collect what the optimiser keeps, if there is something and it is of the simple kind.

        Its counts of steps become parts of one tensor, so that they are raised in one operation.
        """
        optimizer, parameters = self._optimizer, group["params"]
        are_here = all(parameter.is_cpu and parameter in optimizer.state for parameter in parameters)
        if are_here and len(optimizer.param_groups) == 1 and len({parameter.dtype for parameter in parameters}) == 1:
            states = [optimizer.state[parameter] for parameter in parameters]
            self._counts = torch.stack([state["step"] for state in states])
            for state, count in zip(states, self._counts.unbind(), strict=True):
                state["step"] = count
            self._state = optimizer.state
            self._kept = tuple([state[name] for state in states] for name in (*KEPT, "step"))


def _is_hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether somebody wants to be told of steps, or has put another method in their place."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or hooks._global_optimizer_pre_hooks
        or hooks._global_optimizer_post_hooks
        or "step" in vars(optimizer)
    )
