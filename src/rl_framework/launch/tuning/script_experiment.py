"""A launch script as something that a study tunes."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rl_framework.errors import InvalidInputError
from rl_framework.launch.config_fields import names_within, nested_tree, searched_fields
from rl_framework.launch.configuration import build_config, config_tree
from rl_framework.launch.run_directory import RunDirectory
from rl_framework.launch.script import Direction, Script, Start, execute
from rl_framework.launch.search_space import SearchSpace
from rl_framework.launch.tuning.experiment import TrialRun
from rl_framework.launch.value_types import to_plain


class ScriptExperiment:
    """Runs a script's function with chosen values over fixed ones.

    Args:
        script: The script.
        fixed: Values that are not chosen, by name.
        space: What may be chosen, by name with dots; the script's tunable fields unless given.
        worker_command: The program and the words that start a worker; not needed in one.

    Raises:
        InvalidInputError: A fixed value does not fit, or one without default is missing.
    """

    def __init__(
        self,
        script: Script[Any],
        fixed: Mapping[str, Any],
        *,
        space: Mapping[str, SearchSpace] | None = None,
        worker_command: Sequence[str] = (),
    ) -> None:
        self._script = script
        self._worker_command = tuple(worker_command)
        self._fixed = config_tree(build_config(script.config_class, fixed))
        self._space = dict(_tunable(script, fixed, self._fixed) if space is None else space)

    @property
    def direction(self) -> Direction:
        """That of the script."""
        return self._script.direction

    def search_space(self) -> Mapping[str, SearchSpace]:
        """What may be chosen, by name with dots."""
        return self._space

    def description(self) -> dict[str, Any]:
        """Every value that is not chosen, and what is."""
        return {"fixed": self.fixed_tree, "space": {name: each.to_json() for name, each in self._space.items()}}

    def execute(self, chosen: Mapping[str, Any], run: TrialRun) -> float:
        """Train in a folder of the trial's own, with the seed that belongs to the run.

        Raises:
            InvalidInputError: The function neither returned a score nor reported the primary statistic.
        """
        tree = self.whole_tree(chosen)
        if run.index:
            tree[self._seed_field] = int(tree[self._seed_field] or 0) + run.index
        start = Start(directory=RunDirectory(run.folder), trial=run.number, listener=run.listener)
        score = execute(self._script, build_config(self._script.config_class, tree), start)
        if score is None:
            raise InvalidInputError(
                f"There is no score: train returned None and never reported {self._script.primary!r}. Return a number, "
                "report that statistic, or name another one by run(..., primary=...)."
            )
        return score

    def whole_tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with the chosen values."""
        values = nested_tree({name: to_plain(value) for name, value in chosen.items()}, chosen)
        return config_tree(build_config(self._script.config_class, self.fixed_tree, values))

    def best_tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with the chosen values, for the command `train`."""
        return self.whole_tree(chosen)

    def how_to_train(self, best_file: Path) -> str:
        """The command `train` of the same script."""
        return shlex.join(["python", *own_command()[1:], "train", "--config", str(best_file)])

    def worker_command(self) -> Sequence[str]:
        """The same script, with the command that only this library calls."""
        return self._worker_command

    def check_seeds(self, seeds_per_trial: int) -> None:
        """Refuse several runs that would all be the same.

        Raises:
            InvalidInputError: The configuration has no field for the seed.
        """
        if seeds_per_trial > 1 and self._seed_field not in self._fixed:
            raise InvalidInputError(
                f"Several seeds per trial need a field {self._seed_field!r} in {self._script.config_class.__name__}; "
                "add it, or name another one by run(..., seed_field=...)."
            )

    @property
    def _seed_field(self) -> str:
        return self._script.seed_field

    @cached_property
    def fixed_tree(self) -> dict[str, Any]:
        """The values that are not chosen."""
        return _without(self._fixed, set(self._space))


def experiment_of(script: Script[Any], description: Mapping[str, Any]) -> ScriptExperiment:
    """The experiment with a `description()`, in a worker.

    Raises:
        InvalidInputError: The script is not the one that was started any more.
    """
    found = ScriptExperiment(script, description["fixed"])
    if json.loads(json.dumps(found.description())) != description:
        raise InvalidInputError("The script was changed while it was tuned; start the line anew.")
    return found


def own_command() -> list[str]:
    """The program and the words by which this process's script is started again.

    Raises:
        InvalidInputError: This is a session without a script.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return [sys.executable, "-m", spec.name.removesuffix(".__main__")]
    if file is None:
        raise InvalidInputError("Tuning starts the script again for its trials; save this session as a script first.")
    return [sys.executable, str(Path(file).resolve())]


def _tunable(script: Script[Any], given: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, SearchSpace]:
    """The tunable fields that are not given, and do not lie in a configuration that is None."""
    known = searched_fields(script.config_class)
    searched = names_within(whole, known) - names_within(given, known)
    return {name: space for name, space in known.items() if name in searched}


def _without(tree: Mapping[str, Any], names: set[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(value, names, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if prefix + key not in names
    }
