"""At which steps trials are compared.

Runs report at steps that depend on what is tuned: a longer rollout, fewer reports. So that they meet, each report
counts for the step below it that has a single digit: 1, 2, ..., 9, 10, 20, ..., 90, 100, 200, ...
"""

from __future__ import annotations

RUNGS_PER_RUN = 200


def rung_of(step: int) -> int:
    """Number of the last rung at or below a step: 0 for step 0, then nine for each power of ten."""
    if step <= 0:
        return 0
    digits = str(step)
    return 9 * (len(digits) - 1) + int(digits[0])


def comparison_step(step: int, run_index: int) -> int:
    """What a study knows a report by: runs of the same number are compared at the same rung."""
    return run_index * RUNGS_PER_RUN + rung_of(step)
