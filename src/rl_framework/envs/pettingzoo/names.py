"""PettingZoo's games by name: `mpe/simple_spread`, `classic/connect_four_v3`, `sisl/pursuit?max_cycles=100`."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

from rl_framework.envs.pettingzoo.turns import Game, as_parallel
from rl_framework.errors import InvalidInputError, MissingExtraError, UnknownOptionError

FAMILIES = {
    "atari": "pettingzoo.atari",
    "butterfly": "pettingzoo.butterfly",
    "classic": "pettingzoo.classic",
    "mpe": "mpe2",
    "sisl": "pettingzoo.sisl",
}
"""Families of games, each with the package whose modules `<game>_v<version>` are its games."""

_VERSIONED = re.compile(r"(?P<name>[a-z0-9_]+?)_v(?P<version>\d+)")
_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class NamedGame:
    """A factory of games from a name; it travels to other processes as that name.

    Args:
        family: One of `FAMILIES`.
        module: The game's module in its family, e.g. `simple_spread_v3`.
        options: Keyword arguments for the game.
    """

    family: str
    module: str
    options: Mapping[str, Any]

    def __call__(self) -> Game:
        """A new game, its agents moving at once.

        Raises:
            MissingExtraError: A package that the game needs is not installed.
            UnknownOptionError: The game has no such option.
            InvalidInputError: The game refuses the options.
        """
        try:
            return as_parallel(self._make(**self._pictures, **self.options))
        except ImportError as error:
            raise self._missing(error) from error
        except (TypeError, ValueError, AssertionError) as error:
            self._explain(error)
            raise InvalidInputError(
                f"The game {self.family}/{self.module} cannot be made with {dict(self.options)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """Pictures in memory cost nothing until somebody asks for one."""
        return {} if "render_mode" in self.options else {"render_mode": "rgb_array"}

    def _make(self, **options: Any) -> Any:
        module = self._load()
        make = getattr(module, "parallel_env", None) or module.env
        return make(**options)

    def _load(self) -> ModuleType:
        with warnings.catch_warnings():
            # It points to a registry of PettingZoo's own, which has none of the games of mpe2.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(f"{FAMILIES[self.family]}.{self.module}")

    def _missing(self, error: ImportError) -> MissingExtraError:
        return MissingExtraError(
            f"The game {self.family}/{self.module} ({error})",
            f"pettingzoo[{self.family}]",
            command=f"pip install 'pettingzoo[{self.family}]'",
        )

    def _explain(self, error: Exception) -> None:
        found = _UNKNOWN_OPTION.search(str(error))
        if found is not None and found[1] in self.options:
            raise UnknownOptionError.of(f"option of {self.family}/{self.module}", found[1], self._known()) from error

    def _known(self) -> list[str]:
        parameters = inspect.signature(self._load().raw_env.__init__).parameters
        return [name for name in parameters if name not in ("self", "args", "kwargs")]


def named_game(text: str) -> NamedGame:
    """The factory that a name stands for; without a version, of the newest one.

    Args:
        text: `family/game`, `family/game_v3`, either with options behind a question mark, `?N=5&max_cycles=50`, whose
            values are Python literals or else plain text.

    Raises:
        MissingExtraError: The family's package is not installed.
        UnknownOptionError: There is no such family or game; the message has the nearest name.
        InvalidInputError: The text is not of that form.
    """
    path, _, query = text.partition("?")
    family, slash, name = path.partition("/")
    if not slash or not name:
        raise InvalidInputError(
            f"Expected a game as family/name, such as mpe/simple_spread, got {text!r}. Families: {', '.join(FAMILIES)}."
        )
    if family not in FAMILIES:
        raise UnknownOptionError.of("family of PettingZoo's games", family, FAMILIES)
    newest = games_of(family)
    versioned = _VERSIONED.fullmatch(name)
    bare = versioned["name"] if versioned else name
    if bare not in newest or (versioned and name not in _modules(family)):
        known = _modules(family) if bare in newest else newest
        raise UnknownOptionError.of(f"game of {family}", name, known)
    return NamedGame(family, name if versioned else newest[bare], _options_of(query))


def games_of(family: str) -> dict[str, str]:
    """The games of a family by name, each with its newest module.

    Raises:
        MissingExtraError: The family's package is not installed.
    """
    newest: dict[str, tuple[int, str]] = {}
    for module in _modules(family):
        match = _VERSIONED.fullmatch(module)
        if match is not None:
            newest[match["name"]] = max(newest.get(match["name"], (-1, "")), (int(match["version"]), module))
    return {name: module for name, (_, module) in sorted(newest.items())}


def installed_games() -> list[str]:
    """The games of all installed families, e.g. `mpe/simple_spread_v3`; some may need further packages."""
    families = [family for family, package in FAMILIES.items() if find_spec(package.partition(".")[0]) is not None]
    return [f"{family}/{module}" for family in families for module in games_of(family).values()]


def _modules(family: str) -> list[str]:
    package = find_spec(FAMILIES[family]) if find_spec(FAMILIES[family].partition(".")[0]) is not None else None
    if package is None:
        raise MissingExtraError(f"Playing the games of {family}", "pettingzoo")
    found = pkgutil.iter_modules(package.submodule_search_locations)
    return sorted(module.name for module in found if _VERSIONED.fullmatch(module.name))


def _options_of(query: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidInputError(f"Expected options as name=value, joined by &, got {query!r}.") from error
    return {name: _literal(value) for name, value in pairs}


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
