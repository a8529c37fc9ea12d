"""Self-play: an agent learns against its own past, which grows while it learns."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from typing_extensions import override

from rl_framework.agent.catalog import load_agent
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.locate import complete_steps, step_folder
from rl_framework.checkpoints.retention import remove_checkpoint
from rl_framework.core.policy import Policy
from rl_framework.core.reports import Report
from rl_framework.errors import ArchiveError, InvalidInputError, UnknownOptionError

logger = logging.getLogger(__name__)

Sampling = Literal["uniform", "latest", "mixed"]


class SelfPlay(Callback):
    """Keeps past states of the agent in a folder, and lends them as opponents to an `OpponentGame`.

    It is both the callback of a run and the pool of its opponents:

        pool = SelfPlay("opponents", every_timesteps=20_000)
        game = OpponentGame("pettingzoo:classic/tictactoe", opponents=pool, n_games=8)
        agent.train(game, 200_000, callbacks=[pool])

    The folder is all that it remembers. What a saved state of the run may need stays in it until the next one is
    saved, so a resumed run has the same opponents. As long as it is empty, opponents act by chance.

    Args:
        folder: Where the past states lie, one saved agent each.
        every_timesteps: Environment steps between two of them.
        size: How many can be drawn: the newest.
        sampling: Which is drawn: any with the same probability (`"uniform"`), the newest (`"latest"`), or the newest
            in half of the games and any in the others (`"mixed"`).
        trust: Modules besides the allow-listed ones from which classes named in the saved agents may be imported.

    Raises:
        InvalidInputError: A number is not positive, or the folder is a file.
        UnknownOptionError: There is no such sampling.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_timesteps: int = 10_000,
        size: int = 10,
        sampling: Sampling = "uniform",
        trust: tuple[str, ...] = (),
    ) -> None:
        for name, value in (("every_timesteps", every_timesteps), ("size", size)):
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {value}.")
        if sampling not in get_args(Sampling):
            raise UnknownOptionError.of("sampling of opponents", str(sampling), get_args(Sampling))
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidInputError(f"Opponents need a folder, but {self.folder} is a file.")
        self.every_timesteps = self._period = every_timesteps
        self._size = size
        self._sampling = sampling
        self._trust = trust
        self._seen: int | None = None
        self._needed: set[str] = set()
        self._names = self._found()
        self._loaded: OrderedDict[str, Policy] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """The opponents that can be drawn, the oldest first."""
        return tuple(self._names)

    def draw(self, generator: np.random.Generator) -> str | None:
        """Name of an opponent for one game; None, who plays by chance, as long as there is none."""
        if not self._names:
            return None
        newest = self._sampling == "latest" or (self._sampling == "mixed" and generator.random() < 0.5)
        return self._names[-1] if newest else self._names[int(generator.integers(len(self._names)))]

    def policy(self, name: str) -> Policy:
        """The opponent of that name, loaded when it is first asked for.

        Raises:
            MissingArchiveError: It is not in the folder any more.
            CorruptArchiveError: It is damaged.
        """
        if name not in self._loaded:
            self._loaded[name] = load_agent(self.folder / name, trust=self._trust).policy
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._size:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def on_training_start(self, run: RunHandle) -> None:
        """Take up the pool where the run is; what lies beyond it was made by a run that was cut off.

        Raises:
            InvalidInputError: A new run begins before what the folder holds.
        """
        beyond = [steps for steps in complete_steps(self.folder) if steps > run.timesteps]
        if beyond and self._seen is None:
            raise InvalidInputError(
                f"{self.folder} holds opponents of another run, up to step {max(beyond)}, and this run begins at step "
                f"{run.timesteps}. Resume that run, give another folder, or remove this one."
            )
        for steps in beyond:
            remove_checkpoint(step_folder(self.folder, steps))
        self._names = self._found()
        self._needed = set(self._names)
        self._seen = run.timesteps if self._seen is None else self._seen

    @override
    def on_report(self, run: RunHandle, report: Report) -> None:
        """Keep the agent as it is now, if it is time."""
        seen, self._seen = self._seen or 0, report.timesteps
        if report.timesteps // self._period > seen // self._period:
            self._keep(run)

    def close(self) -> None:
        """Be ready for another run."""
        self._seen = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """How far the run had come; who can be drawn now stays until the next call."""
        self._needed = set(self._names)
        return {"seen": self._seen}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._seen = None if state["seen"] is None else int(state["seen"])

    def _keep(self, run: RunHandle) -> None:
        place, needed = step_folder(self.folder, run.timesteps), self._needed
        try:
            save_archive(place, run.save_agent)
        except ArchiveError as error:
            run.warn(f"The opponent of step {run.timesteps} could not be kept: {error}")
            return
        finally:
            self._needed = needed  # An opponent is no state that the run is resumed from.
        self._loaded.pop(place.name, None)
        self._names = self._found()
        self._prune()

    def _prune(self) -> None:
        """Remove those that neither can be drawn nor are needed by the state of the run that was saved last."""
        for place in complete_steps(self.folder).values():
            if place.name not in {*self._names, *self._needed}:
                remove_checkpoint(place)
                self._loaded.pop(place.name, None)

    def _found(self) -> list[str]:
        return [place.name for place in complete_steps(self.folder).values()][-self._size :]
