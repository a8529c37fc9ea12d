"""The progress bar that imitation draws whenever a reward network is trained on preferences, and how to do without.

The library has no switch for it. https://github.com/HumanCompatibleAI/imitation/blob/v1.0.1/src/imitation/algorithms/preference_comparisons.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from imitation.algorithms import preference_comparisons

T = TypeVar("T")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Let the library's training of reward networks draw nothing while the block runs."""
    module: Any = preference_comparisons
    before = getattr(module, "tqdm", None)
    if before is None:
        yield
        return
    module.tqdm = _plain
    try:
        yield
    finally:
        module.tqdm = before


def _plain(iterable: Iterable[T], **_options: Any) -> Iterable[T]:
    return iterable
