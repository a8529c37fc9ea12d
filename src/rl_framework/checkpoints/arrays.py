"""NumPy arrays and torch tensors as raw bytes with a description, and back: same numbers, type and memory order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_framework.checkpoints.plain_values import SCALAR_KINDS, TAG, checked_dtype
from rl_framework.checkpoints.tensor_file import ByteArray, RawTensor
from rl_framework.core.trees import Path, path_name
from rl_framework.errors import ArchiveError

FORMAT_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor)


def identity(value: Any) -> tuple[Any, ...]:
    """Equal for two arrays or tensors that are the same view of the same memory, and so always equal."""
    if is_tensor(value):
        if value.layout != sys.modules["torch"].strided or not value.numel():
            return ("object", id(value))
        return ("tensor", value.device, value.dtype, value.data_ptr(), *value.shape, *value.stride())
    if not value.size:
        return ("object", id(value))
    return ("array", value.dtype.str, value.__array_interface__["data"][0], *value.shape, *value.strides)


def describe_array(array: np.ndarray, path: Path) -> tuple[dict[str, Any], RawTensor]:
    """The description and the bytes of a NumPy array; only an array with gaps in memory is copied.

    Raises:
        ArchiveError: Its elements are not numbers: objects, text or records.
    """
    if array.dtype.kind not in SCALAR_KINDS or array.dtype.itemsize == 0:
        raise ArchiveError(
            f"The state at {path_name(path)!r} is an array of {array.dtype}, which cannot be written without running "
            "code on reading. Give arrays of numbers."
        )
    order = memory_order(array.strides)
    if order is not None and not array.transpose(order).flags.c_contiguous:
        order = None
    dense = np.ascontiguousarray(array if order is None else array.transpose(order))
    node = {TAG: "array", "dtype": array.dtype.str, "shape": list(array.shape), "order": order}
    native = array.dtype.newbyteorder("<") == array.dtype
    name = FORMAT_NAMES.get(array.dtype.name) if native else None
    shape = array.shape if order is None else tuple(array.shape[axis] for axis in order)
    return node, _raw(name, shape, dense.reshape(-1).view(np.uint8))


def describe_tensor(tensor: Any, path: Path) -> tuple[dict[str, Any], RawTensor]:
    """The description and the bytes of a torch tensor; copied only from another device or out of gaps in memory.

    Raises:
        ArchiveError: It is sparse, quantised, or has no memory of its own.
    """
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ArchiveError(
            f"The state at {path_name(path)!r} is a sparse, quantised or meta tensor ({tensor.dtype}, "
            f"{tensor.layout}, on {tensor.device}); give a dense one."
        )
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
    order = memory_order(tensor.stride())
    if order is not None and not tensor.permute(order).is_contiguous():
        order = None
    dense = (tensor if order is None else tensor.permute(order)).contiguous()
    dtype = str(tensor.dtype).removeprefix("torch.")
    node = {TAG: "tensor", "dtype": dtype, "shape": list(tensor.shape), "order": order}
    data = dense.reshape(-1).view(torch.uint8).numpy() if dense.numel() else np.empty(0, dtype=np.uint8)
    return node, _raw(FORMAT_NAMES.get(dtype), tuple(dense.shape), data)


def restore_array(node: dict[str, Any], data: ByteArray) -> np.ndarray:
    """The array of a description and bytes, which it keeps as its memory.

    Raises:
        ValueError: They do not fit each other.
    """
    dtype, shape, order = checked_dtype(node["dtype"]), node["shape"], node["order"]
    axes = list(range(len(shape))) if order is None else order
    _check_order(axes, shape)
    array: np.ndarray = data.view(dtype).reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes).tolist())
    return array


def restore_tensor(node: dict[str, Any], data: ByteArray) -> Any:
    """The torch tensor of a description and bytes, on the CPU; imports torch.

    Raises:
        ValueError: They do not fit each other.
    """
    import torch

    dtype, shape, order = getattr(torch, str(node["dtype"]), None), node["shape"], node["order"]
    if not isinstance(dtype, torch.dtype) or len(data) % dtype.itemsize:
        raise ValueError(f"{len(data)} bytes of {node['dtype']!r}")
    axes = list(range(len(shape))) if order is None else order
    _check_order(axes, shape)
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    sizes = [shape[axis] for axis in axes]
    if int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for shape {shape} of {dtype}")
    return torch.from_numpy(data).view(dtype).reshape(sizes).permute(np.argsort(axes).tolist())


def memory_order(strides: Sequence[int]) -> list[int] | None:
    """The axes from the slowest to the fastest in memory; None where that is their own order, or has no meaning."""
    if any(stride <= 0 for stride in strides):
        return None
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return None if order == list(range(len(strides))) else order


def _raw(name: str | None, shape: tuple[int, ...], data: ByteArray) -> RawTensor:
    """Number types that the file format lacks are written as bytes."""
    return RawTensor("U8", (data.nbytes,), data) if name is None else RawTensor(name, shape, data)


def _check_order(order: Any, shape: Sequence[int]) -> None:
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"axes {order} for shape {shape}")
