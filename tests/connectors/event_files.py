"""Reads TensorBoard's event files back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import (
    EventFileLoader,
)
from tensorboard.util import tensor_util

from rl_framework.testing.connectors import History


def read_scalars(folder: Path) -> History:
    history: History = {}
    for step, value in _summaries(folder):
        if value.metadata.plugin_data.plugin_name == "scalars":
            history.setdefault(value.tag, []).append((step, float(tensor_util.make_ndarray(value.tensor))))
    return history


def read_texts(folder: Path) -> dict[str, str]:
    return {
        value.tag.removesuffix("/text_summary"): value.tensor.string_val[0].decode()
        for _, value in _summaries(folder)
        if value.metadata.plugin_data.plugin_name == "text"
    }


def _summaries(folder: Path) -> Iterator[tuple[int, Any]]:
    for path in sorted(folder.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                yield event.step, value
