"""The value function's learning from frozen encodings, in which the model has no part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.algorithms.episode_table import EpisodeTable
from rl_framework.algorithms.gradients import cut_gradients, forget_gradients
from rl_framework.algorithms.processes import Processes
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.functional.episode_losses import mean_and_deviation, moments
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.scaled_value import ScaledValue


@dataclass(slots=True, kw_only=True)
class ValueFit:
    """Fits a value function to its own V-trace targets, which are found anew before every epoch.

    Attributes:
        value_function: What learns.
        optimizer: What changes it.
        config: Hyper-parameters.
        processes: Those that learn together.
        generator: From which orders are drawn.
    """

    value_function: ScaledValue
    optimizer: torch.optim.Optimizer
    config: VTraceAWRConfig
    processes: Processes
    generator: torch.Generator

    def run(self, table: EpisodeTable, n_epochs: int, reward_size: float) -> Tensor:
        """Learn for some epochs.

        Args:
            table: Encodings and what was recorded with them.
            n_epochs: How often all steps are gone through.
            reward_size: What rewards are divided by.

        Returns:
            Mean squared error of the last epoch, at unit scale; 0 without any. `[]`
        """
        processes, size = self.processes, self.config.value_minibatch_size
        n_batches = int(processes.largest(-(-len(table) // size)))
        total = processes.sum(table.log_prob.new_full((), float(len(table))))
        divisor = total / max(1, n_batches)
        error = torch.zeros_like(total)
        for _ in range(n_epochs if n_batches else 0):
            targets = self._targets(table, reward_size)
            order = torch.randperm(len(table), generator=self.generator).to(targets.device)
            self.value_function.train()
            errors = [
                self._step(table, targets, rows, divisor) for rows in _padded(torch.split(order, size), n_batches)
            ]
            self.value_function.eval()
            error = torch.stack(errors).mean()
        return error

    def _targets(self, table: EpisodeTable, reward_size: float) -> Tensor:
        """Value targets at unit scale, which is that of the present ones. `[M]`"""
        value_function = self.value_function
        targets = table.targets(value_function, self.config, reward_size).values
        mean, deviation = mean_and_deviation(self.processes.sum(moments(targets)))
        value_function.rescale(mean, deviation)
        return value_function.normalize(targets)

    def _step(self, table: EpisodeTable, targets: Tensor, rows: Tensor, divisor: Tensor) -> Tensor:
        """One gradient step on some of the steps that count; gives their part of the mean squared error."""
        parameters = list(self.value_function.parameters())
        forget_gradients(parameters)
        loss = torch.zeros_like(divisor)
        if len(rows):
            encodings = table.encodings[table.packed.before[rows]]
            with recorded_passes():
                errors = self.value_function.normalized(encodings) - targets[rows]
                loss = errors.square().sum() / divisor
                backward((loss,), (None,))
        self.processes.sum_gradients(parameters)
        cut_gradients(parameters, self.config.max_gradient_norm)
        self.optimizer.step()
        return loss.detach()


def _padded(batches: tuple[Tensor, ...], count: int) -> list[Tensor]:
    """So many batches; those that are missing are empty."""
    full = [batch for batch in batches if len(batch)]
    empty = torch.zeros(0, dtype=torch.int64, device=batches[0].device)
    return [*full, *[empty] * (count - len(full))]
