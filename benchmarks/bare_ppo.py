"""The arithmetic of PPO and nothing else: what a learner could reach that had no environment, endings or reports.

Two separate networks of two hidden layers. A horizon of policy passes with sampling, one pass of the value network over
everything, then four epochs over the whole batch, each of which adds up the gradients of blocks and ends with a step of
Adam. Observations, advantages and returns are random numbers that were there before.

Blocks may be worked on by torch's own threads, each operation divided, or by Python threads that each run whole
operations on one core; which of them, and which size, is best depends on shape and machine and is found by trying.

    python -m benchmarks.bare_ppo [hidden] [n_envs] [horizon]
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

CLIP_RANGE = 0.2
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
BLOCK_ROWS = (1024, 2048, 4096, 8192, 16_384)
Columns = tuple[Tensor, ...]


@dataclass(frozen=True)
class Shape:
    """What is computed.

    Attributes:
        n_envs: Rows of each pass while acting.
        horizon: Passes while acting.
        hidden: Width of both hidden layers of each network.
        n_observed: Numbers in an observation.
        activation: `relu` or `tanh`.
        epochs: Steps of the optimiser.
    """

    n_envs: int
    horizon: int
    hidden: int
    n_observed: int = 1
    activation: str = "relu"
    epochs: int = 4

    @property
    def transitions(self) -> int:
        """In one iteration."""
        return self.n_envs * self.horizon


@dataclass(frozen=True)
class Blocking:
    """How the batch is worked on.

    Attributes:
        rows: Rows of each block.
        workers: Python threads with one core each; 1 for torch's own threads.
        by_hand: Whether the backward pass is written out, in memory that is there already, instead of autograd's.
    """

    rows: int
    workers: int = 1
    by_hand: bool = False


class BarePPO:
    """The loop.

    Args:
        shape: What is computed.
        blocking: How.
    """

    def __init__(self, shape: Shape, blocking: Blocking) -> None:
        self.shape = shape
        rows = min(blocking.rows, -(-shape.transitions // blocking.workers))
        nets = (_network(shape, 2), _network(shape, 1))
        self._workers = [_Worker(nets if i == 0 else _replica(nets), rows, blocking) for i in range(blocking.workers)]
        self._optimizer = torch.optim.Adam(self._workers[0].parameters(), lr=1e-3, fused=True)
        self._pool = ThreadPoolExecutor(blocking.workers) if blocking.workers > 1 else None
        self._observations = torch.randn(shape.transitions, shape.n_observed)
        self._advantages, self._returns = torch.randn(2, shape.transitions)
        self._actions = torch.zeros(shape.transitions, dtype=torch.int64)
        self._log_prob, self._values = torch.zeros(2, shape.transitions)

    def rate(self, iterations: int) -> float:
        """Transitions per second."""
        with _one_core_each(len(self._workers)):
            begin = time.perf_counter()
            for _ in range(iterations):
                self._iterate()
            return iterations * self.shape.transitions / (time.perf_counter() - begin)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _iterate(self) -> None:
        with torch.no_grad():
            for step in range(self.shape.horizon):
                first = step * self.shape.n_envs
                self._each(_Worker.act, self._shares(slice(first, first + self.shape.n_envs)))
            self._each(_Worker.value, self._shares(slice(None)))
        for _ in range(self.shape.epochs):
            self._each(_Worker.add_gradients, self._shares(slice(None)), self.shape.transitions)
            mine, *others = (worker.gradients for worker in self._workers)
            for theirs in others:
                torch._foreach_add_(mine, theirs)
                torch._foreach_zero_(theirs)
            self._optimizer.step()
            torch._foreach_zero_(mine)

    def _shares(self, rows: slice) -> list[Columns]:
        """Rows of all columns, divided among the workers; in one piece where they are few."""
        columns = (self._observations, self._actions, self._log_prob, self._values, self._advantages, self._returns)
        chosen = tuple(column[rows] for column in columns)
        n = len(self._workers) if len(chosen[0]) >= 1024 else 1
        return list(zip(*(column.chunk(n) for column in chosen), strict=True))

    def _each(self, work: Callable[..., None], shares: Sequence[Columns], *arguments: Any) -> None:
        if self._pool is None or len(shares) == 1:
            work(self._workers[0], shares[0], *arguments)
            return
        tasks = [
            self._pool.submit(_on_one_core, work, worker, share, *arguments)
            for worker, share in zip(self._workers, shares, strict=True)
        ]
        for task in tasks:
            task.result()


class _Worker:
    """Both networks, with gradients of its own."""

    def __init__(self, nets: tuple[nn.Sequential, nn.Sequential], rows: int, blocking: Blocking) -> None:
        self.policy, self.critic = nets
        self.rows = rows
        self.by_hand = tuple(_ByHand(net, rows) for net in nets) if blocking.by_hand else None
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters()]
        for parameter, gradient in zip(self.parameters(), self.gradients, strict=True):
            parameter.grad = gradient

    def parameters(self) -> Iterator[nn.Parameter]:
        yield from self.policy.parameters()
        yield from self.critic.parameters()

    def act(self, columns: Columns) -> None:
        """Sample one action for each row."""
        observations, actions, log_prob, *_ = columns
        for seen, chosen, log in self._blocks(observations, actions, log_prob):
            logs = torch.log_softmax(self.policy(seen), 1)
            chosen.copy_(torch.rand(len(seen)) > logs[:, 0].exp())
            log.copy_(logs.gather(1, chosen.unsqueeze(1))[:, 0])

    def value(self, columns: Columns) -> None:
        """Value every row."""
        for seen, values in self._blocks(columns[0], columns[3]):
            values.copy_(self.critic(seen)[:, 0])

    def add_gradients(self, columns: Columns, total: int) -> None:
        """Add the gradients of the loss of these rows, which are part of `total`."""
        observations, actions, log_prob, _, advantages, returns = columns
        learn = self._learn if self.by_hand is None else self._learn_by_hand
        for block in self._blocks(observations, actions, log_prob, advantages, returns):
            learn(block, total)

    def _blocks(self, *columns: Tensor) -> Iterator[Columns]:
        return zip(*(torch.split(column, self.rows) for column in columns), strict=True)

    def _learn(self, block: Columns, total: int) -> None:
        seen, actions, old, advantages, returns = block
        new = torch.log_softmax(self.policy(seen), 1).gather(1, actions.unsqueeze(1))[:, 0]
        ratio = (new - old).exp()
        objective = torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE) * advantages)
        error = F.smooth_l1_loss(self.critic(seen)[:, 0], returns, reduction="sum")
        torch.autograd.backward((error - objective.sum()) / total)

    @torch.no_grad()
    def _learn_by_hand(self, block: Columns, total: int) -> None:
        assert self.by_hand is not None
        seen, actions, old, advantages, returns = block
        policy, critic = self.by_hand
        chosen = actions.unsqueeze(1)
        logs = torch.log_softmax(policy.forward(seen), 1)
        ratio = (logs.gather(1, chosen)[:, 0] - old).exp_()
        pays = torch.where(advantages >= 0, ratio <= 1 + CLIP_RANGE, ratio >= 1 - CLIP_RANGE)
        slope = ratio.mul_(advantages).mul_(pays).mul_(-1 / total).unsqueeze(1)
        policy.backward(seen, logs.exp_().mul_(-slope).scatter_add_(1, chosen, slope))
        critic.backward(seen, (critic.forward(seen) - returns.unsqueeze(1)).clamp_(-1, 1).mul_(1 / total))


class _ByHand:
    """Passes through a network in memory that is there already; gradients are added to those of its parameters."""

    def __init__(self, net: nn.Sequential, rows: int) -> None:
        self.layers = [layer for layer in net if isinstance(layer, nn.Linear)]
        self.is_tanh = isinstance(net[1], nn.Tanh)
        self.results = [torch.empty(rows, layer.out_features) for layer in self.layers]
        self.slopes = [torch.empty(rows, layer.in_features) for layer in self.layers]
        self.ones = torch.ones(rows)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer, result in zip(self.layers, self.results, strict=True):
            outputs = torch.addmm(layer.bias, inputs, layer.weight.t(), out=result[: len(inputs)])
            if layer is not self.layers[-1]:
                outputs = outputs.tanh_() if self.is_tanh else outputs.relu_()
            inputs = outputs
        return inputs

    def backward(self, inputs: Tensor, slope: Tensor) -> None:
        n = len(inputs)
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            below = self.results[index - 1][:n] if index else inputs
            assert layer.weight.grad is not None
            assert layer.bias.grad is not None
            layer.weight.grad.addmm_(slope.t(), below)
            layer.bias.grad.addmv_(slope.t(), self.ones[:n])
            if index:
                slope = self._through(below, torch.mm(slope, layer.weight, out=self.slopes[index][:n]))

    def _through(self, result: Tensor, slope: Tensor) -> Tensor:
        """The slope before an activation, from that behind it, in the same memory."""
        if self.is_tanh:
            torch.ops.aten.tanh_backward.grad_input(slope, result, grad_input=slope)
        else:
            torch.ops.aten.threshold_backward.grad_input(slope, result, 0, grad_input=slope)
        return slope


def fastest(shape: Shape, *, workers: int, by_hand: bool = False, seconds: float = 0.3) -> Blocking:
    """The best size of blocks, on this machine, now.

    Args:
        shape: What is computed.
        workers: Python threads with one core each; 1 for torch's own threads.
        by_hand: Which backward pass.
        seconds: For each candidate.
    """
    candidates = [
        Blocking(rows, workers, by_hand)
        for rows in BLOCK_ROWS
        if rows * workers <= shape.transitions or rows == BLOCK_ROWS[0]
    ]
    return max(candidates, key=lambda candidate: _tried(shape, candidate, seconds))


def _tried(shape: Shape, blocking: Blocking, seconds: float) -> float:
    """The better of two rates, after one iteration that warms up; of a part of the rows where those are very many."""
    n_envs = min(shape.n_envs, max(1, 2 * BLOCK_ROWS[-1] // shape.horizon))
    bare = BarePPO(Shape(n_envs, shape.horizon, shape.hidden, shape.n_observed, shape.activation), blocking)
    iterations = max(1, round(bare.rate(1) * seconds / bare.shape.transitions))
    found = max(bare.rate(iterations) for _ in range(2))
    bare.close()
    return found


def _network(shape: Shape, n_outputs: int) -> nn.Sequential:
    activation = ACTIVATIONS[shape.activation]
    first, second = nn.Linear(shape.n_observed, shape.hidden), nn.Linear(shape.hidden, shape.hidden)
    return nn.Sequential(first, activation(), second, activation(), nn.Linear(shape.hidden, n_outputs))


def _replica(nets: tuple[nn.Sequential, nn.Sequential]) -> tuple[nn.Sequential, nn.Sequential]:
    """The same weights, in the same memory, with gradients of their own."""
    copies = copy.deepcopy(nets)
    for net, twin in zip(nets, copies, strict=True):
        for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
            other.data, other.grad = mine.data, None
    return copies


def _on_one_core(work: Callable[..., None], *arguments: Any) -> None:
    """Torch's number of threads is a setting of each thread; so is whether gradients are recorded."""
    torch.set_num_threads(1)
    with torch.set_grad_enabled(work is _Worker.add_gradients):
        work(*arguments)


@contextmanager
def _one_core_each(workers: int) -> Iterator[None]:
    """Operations of the calling thread are not divided where there are several workers."""
    threads = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def main() -> None:
    hidden, n_envs, horizon = (int(word) for word in (*sys.argv[1:], *("256", "8192", "32")[len(sys.argv) - 1 :]))
    shape = Shape(n_envs, horizon, hidden)
    for by_hand in (False, True):
        for workers in (1, 2):
            for rows in BLOCK_ROWS:
                rate = _tried(shape, Blocking(rows, workers, by_hand), 0.3)
                who = f"{workers} Python threads" if workers > 1 else f"torch's {torch.get_num_threads()} threads"
                how = "by hand" if by_hand else "autograd"
                print(f"{shape}, {rows:>6} rows, {who}, {how}: {rate:,.0f} transitions/s", flush=True)


if __name__ == "__main__":
    main()
