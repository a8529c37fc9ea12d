"""Processes that were started together by `torchrun` or `accelerate launch`, joined by Hugging Face Accelerate.

torchrun --standalone --nproc-per-node 2 script.py
accelerate launch --cpu --num_processes 2 script.py
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.errors import InvalidInputError, MissingExtraError


class AccelerateProcesses:
    """The processes of one launch; follows the protocol `Processes`.

    A process that nobody launched is alone: the same script runs with and without a launcher.

    Args:
        accelerator: An `accelerate.Accelerator`, for a choice of device or back-end. Without one, each process takes a
            CUDA device of its own; where there is none, all compute on the CPU and meet over gloo.

    Attributes:
        device: Where this process computes; the model belongs there before a trainer gets it.

    Raises:
        MissingExtraError: Accelerate is not installed.
        InvalidInputError: Several processes were launched, and the accelerator takes itself for one that is alone.
    """

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerate = _import_accelerate()
        self._accelerator = accelerator or self._accelerate.Accelerator(cpu=_meets_on_the_cpu())
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes
        self.device: torch.device = self._accelerator.device
        _check_launch(self.count)

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each: a new tensor of their type and device, without gradient.

        Args:
            numbers: What this process adds. `[...]`, the same shape and type in all.
        """
        message = numbers.detach().to(self.device).contiguous()
        total: Tensor = self._accelerate.utils.reduce(message, reduction="sum")
        return total.to(numbers.device)

    def largest(self, number: float) -> float:
        """The greatest of all processes' numbers; NaN if one of them is NaN."""
        mine = torch.tensor([number], dtype=torch.float64, device=self.device)
        everybodys: Tensor = self._accelerate.utils.gather(mine)
        return everybodys.max().item()

    @torch.no_grad()
    def share_weights(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors, in place, with those of process 0.

        Raises:
            InvalidInputError: The processes have tensors of different number, shape or type.
        """
        self._check_alike(tensors)
        for tensor in tensors:
            message = tensor.detach().to(self.device).contiguous()
            tensor.copy_(self._accelerate.utils.broadcast(message))

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each parameter's gradient, in place, by the sum over all processes, in one message.

        A process without a gradient of a parameter adds nothing to it; where no process has one, there is none
        afterwards. The sum is found in 32 bits, or in 64 where a parameter has them.
        """
        if not parameters:
            return
        total = self.sum(self._message(parameters))
        present, gradients = total[: len(parameters)].tolist(), total[len(parameters) :]
        for parameter, is_present in zip(parameters, present, strict=True):
            gradient, gradients = gradients[: parameter.numel()], gradients[parameter.numel() :]
            if is_present:
                parameter.grad = torch.empty_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.copy_(gradient.view_as(parameter))

    def wait(self) -> None:
        """Return once all processes have come here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the other processes, at the end of the program; no verb may be called afterwards."""
        self._accelerator.end_training()

    def _message(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Which parameters have a gradient, as ones and zeros, and all gradients. `[P + numbers of all P]`"""
        is_wide = any(parameter.dtype == torch.float64 for parameter in parameters)
        dtype = torch.float64 if is_wide else torch.float32
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=dtype)
        gradients = (torch.zeros_like(each) if each.grad is None else each.grad for each in parameters)
        return torch.cat([part.to(self.device, dtype).reshape(-1) for part in (present, *gradients)])

    def _check_alike(self, tensors: Sequence[Tensor]) -> None:
        """A message between tensors of different sizes would fail without a word of why, or not fail at all."""
        looks = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in tensors]
        number = float(zlib.crc32(repr(looks).encode()))
        if self.largest(number) != -self.largest(-number):
            raise InvalidInputError(
                f"Processes that train together need models of the same shapes and number types, and some differ from "
                f"each other. Process {self.rank} has {len(looks)} tensors: {looks[:5]}... Build the model in the same "
                "way in each, without regard to the rank."
            )


def _import_accelerate() -> Any:
    try:
        import accelerate
    except ImportError as error:
        raise MissingExtraError("Training by several processes", "accelerate") from error
    return accelerate


def _launched() -> int:
    """How many processes the launcher says that it started."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def _meets_on_the_cpu() -> bool:
    """Unless told, Accelerate takes each of several processes without a GPU for one that is alone."""
    return _launched() > 1 and not torch.cuda.is_available()


def _check_launch(count: int) -> None:
    if count == 1 and _launched() > 1:
        raise InvalidInputError(
            f"The launcher started {_launched()} processes, but the accelerator takes this one for the only one; each "
            "would train a model of its own. Give Accelerator(cpu=True) to train on CPUs, or no accelerator at all."
        )
