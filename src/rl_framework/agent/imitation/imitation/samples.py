"""The library's buffer of what a generator did, as a plain tree. Remarks of environments are left out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from imitation.data.buffer import ReplayBuffer

REMARKS = "infos"


def samples_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of the ring, and where the next sample goes."""
    ring = buffer._buffer
    columns = {name: column[: ring._n_data] for name, column in ring._arrays.items() if name != REMARKS}
    return {"capacity": ring.capacity, "next": ring._idx, "columns": columns}


def load_samples_state(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    """Fill a buffer with what `samples_state` gave; one of another size with the newest samples."""
    ring, columns = buffer._buffer, state["columns"]
    filled = len(columns["dones"])
    if filled == 0:
        return
    remarks = np.array([{} for _ in range(filled)], dtype=object)
    if ring.capacity == state["capacity"]:
        ring.store({**columns, REMARKS: remarks})
        ring._idx = state["next"]
        return
    order = (np.arange(filled) + (state["next"] if filled == state["capacity"] else 0)) % filled
    ring.store({**{name: column[order] for name, column in columns.items()}, REMARKS: remarks}, truncate_ok=True)
