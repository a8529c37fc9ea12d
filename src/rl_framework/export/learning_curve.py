"""A picture of how the return grew over the steps of training."""

from __future__ import annotations

from pathlib import Path

from rl_framework.core.training_history import TrainingHistory
from rl_framework.errors import MissingExtraError

INCHES = (7.0, 3.5)
DOTS_PER_INCH = 120


def draw_learning_curve(history: TrainingHistory, path: str | Path) -> Path | None:
    """Draw the mean return of the latest episodes over the steps of training, as a PNG.

    Args:
        history: How the agent was trained.
        path: The file.

    Returns:
        The file; None if there are fewer than two points to draw.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    points = [(point.timesteps, point.mean_return) for point in history.curve if point.mean_return is not None]
    if len(points) < 2:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing a learning curve", "plots") from error
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), color="tab:blue")
    for call in history.calls[1:]:
        axes.axvline(call.first_timesteps, color="lightgrey", linestyle=":", zorder=0)
    axes.set_xlabel("steps")
    axes.set_ylabel("mean return of the latest episodes")
    axes.grid(alpha=0.3)
    figure.savefig(path)
    return Path(path)
