"""Refuses operations for which the host would wait for a device, or send it data: a CUDA graph cannot hold them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

WAITING = frozenset(
    {
        aten._local_scalar_dense,
        aten.bincount,
        aten.equal,
        aten.masked_select,
        aten.multinomial,
        aten.nonzero,
        aten.unique_consecutive,
        aten.unique_dim,
        aten._unique2,
    }
)
"""Operations whose result, or its shape, the host has to know."""
COPYING = frozenset({aten.copy_, aten._to_copy})
INDEXED = frozenset({aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_})
LIFTED = frozenset({aten.lift_fresh, aten.lift_fresh_copy})
_TORCH = Path(torch.__file__).parent


class HostAccess(RuntimeError):
    """An operation for which the host waits for the device, or sends it data."""


class HostAccessRefused(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Within this context, what a CUDA graph could not hold raises `HostAccess`, on any device and backwards too.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Look at an operation before it is carried out."""
        kwargs = kwargs or {}
        reason = self._refused(func, args, kwargs)
        if reason is not None:
            name = str(func).rpartition(".")[0].replace(".", "::")
            raise HostAccess(f"{name} {reason}{_where()}")
        return func(*args, **kwargs)

    def _refused(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        operation = getattr(func, "overloadpacket", None)
        if operation in WAITING:
            return "waits for the device"
        if operation in COPYING and _changes_sides(operation, args, kwargs):
            return "copies between host and device"
        if operation in LIFTED and _is_on(self._device, args[0]):
            return "sends numbers of the host to the device"
        if operation in INDEXED and _counts_mask(args):
            return "picks entries by a mask, whose number the host has to know; use torch.where or masked_fill"
        if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
            return "waits for the device; give it an output_size"
        return None


def _changes_sides(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy goes from the host's memory to a device's, or back."""
    target = args[0].device if operation is aten.copy_ else torch.device(kwargs.get("device") or args[0].device)
    source = args[1].device if operation is aten.copy_ else args[0].device
    return (target.type == "cpu") is not (source.type == "cpu")


def _is_on(device: torch.device, tensor: Tensor) -> bool:
    """Whether a tensor that the host has made is on the device; single numbers are welcome in the host's memory."""
    return tensor.device.type == device.type and (tensor.dim() > 0 or device.type != "cpu")


def _counts_mask(arguments: Sequence[Any]) -> bool:
    """Whether entries are picked by a mask; to fill them with one number of the host is masked_fill."""
    is_filled = len(arguments) > 2 and arguments[2].dim() == 0 and arguments[2].device.type == "cpu"
    return not is_filled and any(index is not None and index.dtype == torch.bool for index in arguments[1])


def _where() -> str:
    """The line that asked for the operation; nothing for operations of a backward pass, which stand on no line."""
    frame = next(_own_frames(), None)
    return "." if frame is None else f", at {frame.filename}:{frame.lineno} ({frame.line})."


def _own_frames() -> Iterator[traceback.FrameSummary]:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path != Path(__file__) and _TORCH not in path.parents:
            yield frame
