"""Two ways to do the same thing, timed side by side: alternating order, medians of ratios, the machine described."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("rl_framework", "stable_baselines3", "sb3_contrib", "gymnasium", "torch", "numpy", "imitation", "datasets")


@dataclass(frozen=True)
class Comparison:
    """What a side-by-side measurement gave.

    Attributes:
        name: What was compared.
        ours: Rate of each run of ours, higher is better.
        theirs: Rate of each run of the other, in the order of the pairs.
        unit: Unit of the rates.
        required_ratio: Ratio that was promised.
    """

    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    unit: str
    required_ratio: float

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """Median over the pairs."""
        return statistics.median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """For the results file."""
        summary = {"ratio_median": self.ratio, "ratios": self.ratios, "met": self.ratio >= self.required_ratio}
        medians = {"ours_median": statistics.median(self.ours), "theirs_median": statistics.median(self.theirs)}
        return {**asdict(self), **summary, **medians}

    def __str__(self) -> str:
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        verdict = "met" if self.ratio >= self.required_ratio else "MISSED"
        return (
            f"{self.name}: {statistics.median(self.ours):,.0f} against {statistics.median(self.theirs):,.0f} "
            f"{self.unit}, ratio {self.ratio:.2f} ({spread}), required {self.required_ratio}: {verdict}"
        )


@dataclass(frozen=True)
class Limit:
    """A figure that must stay below a bound.

    Attributes:
        name: What was measured.
        values: One figure per run.
        unit: Their unit.
        bound: What the median must not exceed.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    bound: float

    @property
    def median(self) -> float:
        """Median over the runs."""
        return statistics.median(self.values)

    def to_dict(self) -> dict[str, Any]:
        """For the results file."""
        return {**asdict(self), "median": self.median, "met": self.median <= self.bound}

    def __str__(self) -> str:
        verdict = "met" if self.median <= self.bound else "MISSED"
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}"
        return f"{self.name}: {self.median:.3g} {self.unit} ({spread}), at most {self.bound}: {verdict}"


def compare(
    name: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    *,
    unit: str,
    required_ratio: float,
    pairs: int = 7,
) -> Comparison:
    """Time both in turns, A B, B A, A B, ...

    Args:
        name: What is compared.
        ours: Does the work once and gives its rate.
        theirs: Likewise for the other.
        unit: Unit of the rates.
        required_ratio: Ratio that was promised.
        pairs: Number of pairs after one that warms up.
    """
    ours()
    theirs()
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(pairs):
        order = ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours")
        for who in order:
            rates[who].append(ours() if who == "ours" else theirs())
    comparison = Comparison(name, tuple(rates["ours"]), tuple(rates["theirs"]), unit, required_ratio)
    print(comparison, flush=True)
    return comparison


def write_results(name: str, comparisons: list[Comparison], limits: Sequence[Limit] = ()) -> Path:
    """Write the figures with the machine's description to `benchmarks/results/<name>.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = {"machine": machine(), "comparisons": [each.to_dict() for each in comparisons]}
    if limits:
        content["limits"] = [each.to_dict() for each in limits]
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {path}")
    return path


def leave_open(name: str, required: Mapping[str, float], reason: str) -> None:
    """Say in a results file that nothing was measured, unless something was before.

    Args:
        name: Of the file.
        required: What was promised.
        reason: Why it could not be measured.
    """
    path = RESULTS / f"{name}.json"
    if path.exists() and json.loads(path.read_text()).get("limits"):
        print(f"Open: {reason}. The figures in {path} were taken before and stay.")
        return
    content = {"machine": machine(), "open": reason, "required": dict(required)}
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Open: {reason}. Written to {path}")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import torch

    return {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_at_start": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
