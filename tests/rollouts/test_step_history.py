"""What a row did since a step comes back, however the steps are cut into blocks; what nobody needs is let go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.rollouts import step_history
from rl_framework.rollouts.step_history import StepHistory


def batch_at(step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return {"a": np.array([[step, 0], [step, 1]], np.uint8)}, np.array([step / 2, step])


@given(
    block_steps=st.integers(1, 7),
    n_steps=st.integers(1, 30),
    start=st.integers(0, 29),
    forgotten=st.integers(0, 29),
    row=st.integers(0, 1),
)
def test_a_row_since_a_step(block_steps: int, n_steps: int, start: int, forgotten: int, row: int) -> None:
    history = StepHistory()
    history._block_steps = block_steps
    start = min(start, n_steps - 1)
    for step in range(n_steps):
        history.add(batch_at(step))
        history.forget(min(start, forgotten, step))
    observations, rewards = history.take(row, start)
    assert history.n_steps == n_steps
    assert observations["a"].tolist() == [[step, row] for step in range(start, n_steps)]
    assert observations["a"].dtype == np.uint8
    assert rewards.tolist() == [step if row else step / 2 for step in range(start, n_steps)]


def test_memory_is_that_of_the_steps_still_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_history, "BLOCK_BYTES", 4096)
    history = StepHistory()
    for step in range(1000):
        history.add(np.full((2, 256), step, np.float64))
        history.forget(max(0, step - 10))
    assert sum(block.nbytes for block in history._blocks) <= 12 * 4096
    assert history.take(1, 995)[:, 0].tolist() == [995, 996, 997, 998, 999]


def test_what_is_taken_is_a_copy() -> None:
    history = StepHistory()
    history.add(np.zeros((2, 3)))
    taken = history.take(0, 0)
    taken[:] = 5
    assert history.take(0, 0).tolist() == [[0.0, 0.0, 0.0]]
