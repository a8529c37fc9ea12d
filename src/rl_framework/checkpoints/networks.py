"""A torch network's parameters as one safetensors file under their own names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rl_framework.errors import CorruptArchiveError

ALIASES = "aliases"


def save_network(network: torch.nn.Module, path: Path) -> None:
    """Write a network's state.

    Tensors that several names share (the feature extractor of an actor and a critic) are written once; the file's
    metadata names the others.
    """
    state: dict[str, torch.Tensor] = dict(network.state_dict())
    first: dict[tuple[Any, ...], str] = {}
    aliases = {}
    for name, tensor in state.items():
        kept = first.setdefault(_identity(name, tensor), name)
        if kept != name:
            aliases[name] = kept
    kept_tensors = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items() if name not in aliases
    }
    path.write_bytes(save(kept_tensors, metadata={ALIASES: json.dumps(aliases)}))


def load_network(network: torch.nn.Module, path: Path) -> None:
    """Fill a network with what `save_network` wrote.

    Raises:
        CorruptArchiveError: The file is not such a file, or does not fit the network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            aliases = json.loads((file.metadata() or {}).get(ALIASES, "{}"))
        network.load_state_dict({**state, **{name: state[kept] for name, kept in aliases.items()}}, strict=True)
    except (SafetensorError, RuntimeError, OSError, KeyError, ValueError) as error:
        raise CorruptArchiveError(
            f"{path.name} does not fit the network that the manifest describes: {error}"
        ) from error


def _identity(name: str, tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for names of the same tensor; an empty tensor has no memory to tell it by."""
    if tensor.numel() == 0:
        return (name,)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
