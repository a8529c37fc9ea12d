"""Observations several times over, one behind the other, to ask critics about several actions."""

from __future__ import annotations

from rl_framework.nn.control_features import Prepared


def repeated(observations: Prepared, n: int) -> Prepared:
    """Each row so many times in a row. `[N, ...]` to `[N n, ...]`"""
    return Prepared(
        observations.numbers.repeat_interleave(n, 0),
        tuple(picture.repeat_interleave(n, 0) for picture in observations.pictures),
    )
