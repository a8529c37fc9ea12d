"""NumPy trees to torch and back, without changing number types on the way but where a network needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rl_framework.core.trees import Tree, map_tree
from rl_framework.errors import InvalidInputError


def to_tensors(tree: Tree, device: torch.device) -> Tree:
    """Observations as tensors on a device: float64 becomes float32 first, every other type stays, bytes are bytes.

    Arrays on the CPU share their memory with the tensors where no conversion is needed and they can be written to.
    """
    return map_tree(lambda leaf: to_tensor(leaf, device), tree)


def to_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """One leaf of `to_tensors`."""
    numbers = np.asarray(array)
    if numbers.dtype == np.float64:
        numbers = numbers.astype(np.float32)
    return as_tensor(numbers).to(device)


def as_tensor(array: Any) -> torch.Tensor:
    """An array of any number type as a tensor on the CPU, of the same type."""
    numbers = np.asarray(array)
    if not numbers.flags.writeable or not numbers.dtype.isnative or any(step < 0 for step in numbers.strides):
        numbers = np.array(numbers, dtype=numbers.dtype.newbyteorder("="))
    return torch.from_numpy(numbers)


def to_arrays(tree: Tree) -> Tree:
    """Tensors as NumPy arrays."""
    return map_tree(lambda leaf: leaf.detach().cpu().numpy(), tree)


def choose_device(name: str) -> torch.device:
    """The device that is meant: exactly the one that is named, or for `auto` CUDA's where there is one.

    Raises:
        InvalidInputError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>', got {name!r}.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError(
            f"There is no device {name!r} here ({torch.cuda.device_count()} CUDA devices); use device='auto' or 'cpu'."
        )
    return device
