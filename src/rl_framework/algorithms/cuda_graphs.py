"""Work on tensors that is done over and over, captured in CUDA graphs: one launch instead of thousands.

A graph repeats the same kernels on the same memory with the same numbers. So a function of tensors is called as it is
a few times, which makes everything that is made once; then it is rehearsed under a watch for operations that a graph
could not hold; then it is captured. From then on its arguments are copied to where they were, and the graph writes
its results over those of the time before. Where that cannot be, the function is called as it is for good, one warning
says why, and everything that the attempts changed is put back.

What cannot be captured:

- Models that look at values on the host: `if tensor`, `float(tensor)`, `tensor.item()`, `tensor[mask]`, `nonzero`,
  `torch.tensor([...])`, `.cpu()`. They are found by the rehearsal.
- Models and environments that keep what changes between calls in numbers of Python, or in attributes that are given
  new tensors. They would go on with what they were when they were captured, and nothing can find that out: a `Model`
  keeps nothing between steps, and a `TensorEnv` whose `is_capturable` is True writes its state into fixed memory.
- Environments whose `is_capturable` is False, such as those that run in Python: then only the update is captured.
- Optimisers without the option `capturable`, SGD apart: then only the rollout is captured.

Results of a captured function are valid until it is called again.

Source: CUDA Graphs in the notes on CUDA semantics of PyTorch (https://pytorch.org/docs/stable/notes/cuda.html).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.algorithms.learner_snapshot import LearnerSnapshot
from rl_framework.algorithms.tensor_records import map_tensors, tensors_in

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WARM_UP_CALLS = 2
REGISTERS_BY_ITSELF = "2.14"
"""From this version of PyTorch on, graphs find out themselves which generators they draw from."""


class GraphBackend(Protocol):
    """What captures and replays.

    Attributes:
        device: Where the work is done.
    """

    device: torch.device

    def warm_up(self, function: Callable[[], Result]) -> Result:
        """Call a function that is to be captured later, in the way that captures need."""
        ...

    def capture(self, function: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
        """Note what a function does, without doing it.

        Args:
            function: All tensors that it reads and does not make stay where they are from now on.
            generators: What it draws from.

        Returns:
            Does it, and gives results that are always in the same memory.

        Raises:
            Exception: It cannot be captured.
        """
        ...


class CudaGraphBackend:
    """Captures CUDA graphs. Those that are alive share their memory for what is needed only while they run.

    Sharing it is safe as long as nobody replays two of them at once, and results are used before the next one runs or
    are held by whoever captured them, as `CapturedFunction` does.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        number = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", number)
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch leaves it without types
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def warm_up(self, function: Callable[[], Result]) -> Result:
        """Call a function on the stream on which it will be captured."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = function()
        current.wait_stream(self._stream)
        return result

    def capture(self, function: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
        """Capture a function; see `GraphBackend.capture`."""
        graph = torch.cuda.CUDAGraph()
        if torch.__version__ < REGISTERS_BY_ITSELF:
            for generator in generators:
                graph.register_generator_state(generator)
        pool = next((other.pool() for other in self._graphs), None)
        capturing = torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local")
        try:
            # A capture that fails leaves its own stream as the current one: the outer context goes back.
            with torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream(self.device)), capturing:
                result = function()
        except BaseException:
            self._release(generators)
            raise
        self._graphs.add(graph)
        return partial(_replay, graph, result)

    def _release(self, generators: Sequence[torch.Generator]) -> None:
        """Give generators new states: after a capture that failed, they would wait for its end for ever."""
        for generator in (*generators, torch.cuda.default_generators[self.device.index]):
            generator.graphsafe_set_state(torch.Generator(self.device))


class CapturedFunction(Generic[Result]):
    """A function of tensors that is captured after it has been called a few times.

    Arguments and results are records of tensors, see `map_tensors`; anything else in them stays as it was when the
    function was captured. Arguments of other shapes begin anew.

    Args:
        function: What is called.
        name: What to call it in the warning: the beginning of a sentence.
        backend: What captures and replays.
        generators: What the function draws from.
        snapshot: Takes a picture of everything that the function changes.
        adopts: Whether the arguments of the call that captures become the graph's own, so that whoever writes the next
            ones into the same memory saves a copy. They are copied once otherwise, and nobody else's.
    """

    def __init__(
        self,
        function: Callable[..., Result],
        name: str,
        backend: GraphBackend,
        *,
        generators: Sequence[torch.Generator],
        snapshot: Callable[[], LearnerSnapshot],
        adopts: bool = False,
    ) -> None:
        self._function = function
        self._name = name
        self._backend = backend
        self._generators = generators
        self._snapshot = snapshot
        self._adopts = adopts
        self._is_hopeless = False
        self.forget()

    @property
    def is_captured(self) -> bool:
        """Whether calls replay a graph."""
        return self._replay is not None

    def forget(self) -> None:
        """Begin anew: tensors that the function reads have moved."""
        self._calls = 0
        self._places: list[Tensor] = []
        self._replay: Callable[[], Result] | None = None

    def __call__(self, *inputs: Any) -> Result:
        """What the function gives for some arguments."""
        if self._is_hopeless:
            return self._function(*inputs)
        if self._replay is not None and not self._take(inputs):
            self.forget()
        if self._calls < WARM_UP_CALLS:
            self._calls += 1
            return self._backend.warm_up(partial(self._function, *inputs))
        if self._replay is None:
            self._capture(inputs)
        return self._function(*inputs) if self._replay is None else self._replay()

    def _capture(self, inputs: tuple[Any, ...]) -> None:
        before = self._snapshot()
        try:
            with HostAccessRefused(self._backend.device):
                self._backend.warm_up(partial(self._function, *inputs))
            before.put_back()
            own = inputs if self._adopts else map_tensors(torch.clone, inputs)
            self._replay = self._backend.capture(partial(self._function, *own), self._generators)
            self._places = tensors_in(own)
        except Exception as error:  # noqa: BLE001  (whatever it is that a graph cannot do, work goes on without)
            before.put_back()
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.forget()
        self._is_hopeless = True
        reason = str(error).partition("\n")[0] or "no reason was given."
        logger.warning(
            "%s runs without a CUDA graph, which is slower: it could not be captured (%s: %s)",
            self._name,
            type(error).__name__,
            reason,
        )

    def _take(self, inputs: tuple[Any, ...]) -> bool:
        """Write arguments to where the graph reads them, if they have the form that it knows."""
        given = tensors_in(inputs)
        if [_form(tensor) for tensor in self._places] != [_form(tensor) for tensor in given]:
            return False
        for place, tensor in zip(self._places, given, strict=True):
            if place.data_ptr() != tensor.data_ptr() or place.stride() != tensor.stride():
                place.copy_(tensor)
        return True


def _replay(graph: torch.cuda.CUDAGraph, result: Result) -> Result:
    graph.replay()
    return result


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype
