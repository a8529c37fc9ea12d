"""The memories of several callbacks as one plain tree, found again by class and order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rl_framework.callbacks.base import Callback


def collect_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """What the callbacks remember; those that remember nothing are left out."""
    states = []
    for name, order, callback in _named(callbacks):
        state = callback.state_dict()
        if state:
            states.append({"class": name, "order": order, "state": state})
    return states


def restore_states(callbacks: Sequence[Callback], states: Sequence[dict[str, Any]]) -> list[str]:
    """Give each callback its memory back, the first of a class the first one's, and so on.

    Returns:
        The classes of those that are not there any more.
    """
    present = {(name, order): callback for name, order, callback in _named(callbacks)}
    missing = []
    for entry in states:
        callback = present.get((entry["class"], int(entry["order"])))
        if callback is None:
            missing.append(entry["class"])
        else:
            callback.load_state_dict(entry["state"])
    return missing


def _named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, int, Callback]]:
    seen: Counter[str] = Counter()
    for callback in callbacks:
        name = type(callback).__qualname__
        yield name, seen[name], callback
        seen[name] += 1
