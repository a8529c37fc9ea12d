"""Adam over parameters that lie in one piece of memory: one operation per step, on the CPU and in a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError
from rl_framework.nn.flat_parameters import FlatParameters
from rl_framework.nn.recorded_passes import backward


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamSettings:
    """How parameters follow their gradients.

    Attributes:
        learning_rate: Length of a step.
        betas: How slowly the averages of gradients and of their squares forget.
        epsilon: Added to the root of the latter.
        weight_decay: So much of each parameter is added to its gradient.
        max_gradient: Gradients are cut to this magnitude number by number; None for any.
        max_gradient_norm: And then, all together, to this length; None for any.

    Raises:
        InvalidInputError: A setting is out of range.
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient: float | None = None
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon", "max_gradient", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise InvalidInputError(f"{name} must be above 0, got {value!r}.")
        if self.weight_decay < 0.0:
            raise InvalidInputError(f"weight_decay must be 0 or more, got {self.weight_decay!r}.")
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise InvalidInputError(f"betas must be two numbers from 0 to below 1, got {self.betas!r}.")


class FlatAdam:
    """Adam with coupled weight decay, over flat parameters.

    A step asks the host for nothing, and the learning rate is a tensor: a CUDA graph can hold it.

    Args:
        flat: The parameters.
        settings: How they follow their gradients.

    Source: Kingma & Ba, Adam, 2014 (https://arxiv.org/abs/1412.6980).
    """

    def __init__(self, flat: FlatParameters, settings: AdamSettings) -> None:
        self.flat = flat
        self.settings = settings
        self._average = torch.zeros_like(flat.values)
        self._squares = torch.zeros_like(flat.values)
        device = flat.values.device
        self._steps = torch.zeros((), device=device)
        self._rate = torch.full((), settings.learning_rate, device=device)

    @property
    def learning_rate(self) -> Tensor:
        """Fill it to change it. `[]`"""
        return self._rate

    def minimize(self, loss: Tensor) -> None:
        """Forget gradients, take those of a loss, and step."""
        self.flat.forget()
        backward((loss,), (None,))
        self.step()

    def follow(self, values: Tensor, gradient: Tensor, loss: Tensor | None = None) -> None:
        """As `minimize`, for what is minimised by its gradient by some values.

        Args:
            values: What networks said.
            gradient: In the same shape.
            loss: What is minimised besides, None for nothing. `[]`
        """
        self.flat.forget()
        values_and_loss = (values,) if loss is None else (values, loss)
        backward(values_and_loss, (gradient, None)[: len(values_and_loss)])
        self.step()

    @torch.no_grad()
    def step(self) -> None:
        """Cut the gradients as the settings say, and follow them.

        Raises:
            InvalidInputError: Parameters or gradients have left their buffers.
        """
        self.flat.check()
        self.cut()
        self._steps += 1
        torch._fused_adam_(
            [self.flat.values],
            [self.flat.gradients],
            [self._average],
            [self._squares],
            [],
            [self._steps],
            lr=self._rate,
            beta1=self.settings.betas[0],
            beta2=self.settings.betas[1],
            weight_decay=self.settings.weight_decay,
            eps=self.settings.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def cut(self) -> None:
        """Cut the gradients as the settings say, in place."""
        gradients = self.flat.gradients
        if self.settings.max_gradient is not None:
            gradients.clamp_(-self.settings.max_gradient, self.settings.max_gradient)
        if self.settings.max_gradient_norm is not None:
            gradients.unsqueeze(0).renorm_(2.0, 0, self.settings.max_gradient_norm)

    def state_dict(self) -> dict[str, Any]:
        """Averages, number of steps and learning rate, as a plain tree."""
        return {
            "average": self._average.clone(),
            "squares": self._squares.clone(),
            "steps": float(self._steps),
            "learning_rate": float(self._rate),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            InvalidInputError: It is that of other parameters.
        """
        if state["average"].shape != self._average.shape:
            raise InvalidInputError(
                f"The saved optimiser is that of {len(state['average'])} numbers, and there are {len(self._average)}: "
                "build the networks as they were when it was saved."
            )
        self._average.copy_(state["average"])
        self._squares.copy_(state["squares"])
        self._steps.fill_(state["steps"])
        self._rate.fill_(state["learning_rate"])
