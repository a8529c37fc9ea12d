"""Classes and functions by name, `module:name`, from modules that are known to be safe to import.

A saved agent names its parts this way. Only names below an allow-listed package are looked up; anything else
needs the reader's explicit trust, because importing a module runs its code.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from rl_framework.errors import InvalidInputError, RLFrameworkError, UnsafeArchiveError

TRUSTED_MODULES = (
    "rl_framework",
    "torch.nn",
    "torch.optim",
    "stable_baselines3",
    "sb3_contrib",
    "imitation",
    "gymnasium",
)
CLASS_TAG = "@class"


def reference_to(thing: Any) -> str:
    """The `module:name` of a class or function.

    Raises:
        InvalidInputError: It has none (a lambda, or something defined inside a function).
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or name is None or "<" in name:
        raise InvalidInputError(f"{thing!r} has no name that another process could look up; define it in a module.")
    return f"{module}:{name}"


def resolve(reference: str, *, trust: Sequence[str] = ()) -> Any:
    """The class or function that a `module:name` means.

    Args:
        reference: The name, as `reference_to` gives it.
        trust: Further modules to import from, each with everything below it.

    Raises:
        UnsafeArchiveError: The module is neither allow-listed nor trusted. Nothing was imported.
        RLFrameworkError: The module or the name does not exist.
    """
    module, _, name = reference.partition(":")
    if not is_trusted(module, trust):
        raise UnsafeArchiveError(
            f"{reference!r} is outside the modules that are imported when a file is read "
            f"({', '.join((*TRUSTED_MODULES, *trust))}). If you trust it, pass trust=[{module!r}]."
        )
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = _public_part(found, part)
    except (ImportError, AttributeError) as error:
        raise RLFrameworkError(f"{reference!r} does not exist here: {error}") from error
    if not (isinstance(found, type) or callable(found)) or not _belongs(found, module, trust):
        raise UnsafeArchiveError(f"{reference!r} is not a class or function of that module.")
    return found


def with_references(value: Any) -> Any:
    """Dicts, lists and tuples with classes in them, each replaced by `{"@class": "module:name"}`, for JSON.

    Raises:
        InvalidInputError: A class has no name that another process could look up.
    """
    if isinstance(value, type):
        return {CLASS_TAG: reference_to(value)}
    if isinstance(value, Mapping):
        return {name: with_references(part) for name, part in value.items()}
    return [with_references(part) for part in value] if isinstance(value, list | tuple) else value


def without_references(value: Any, *, trust: Sequence[str] = ()) -> Any:
    """What `with_references` was given, but for tuples, which are lists now.

    Raises:
        UnsafeArchiveError: A class is outside the modules that are allow-listed or trusted. Nothing was imported.
        RLFrameworkError: It does not exist.
    """
    if isinstance(value, Mapping):
        if set(value) == {CLASS_TAG}:
            return resolve(value[CLASS_TAG], trust=trust)
        return {name: without_references(part, trust=trust) for name, part in value.items()}
    return [without_references(part, trust=trust) for part in value] if isinstance(value, list) else value


def is_trusted(module: str, trust: Sequence[str] = ()) -> bool:
    """Whether `module` is one of the allow-listed or trusted modules, or below one."""
    return any(module == root or module.startswith(root + ".") for root in (*TRUSTED_MODULES, *trust))


def _public_part(holder: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"{name!r} is not a public name")
    return getattr(holder, name)


def _belongs(found: Any, module: str, trust: Sequence[str]) -> bool:
    """A trusted module that imports `os.system` must not hand it out."""
    home = getattr(found, "__module__", None)
    return isinstance(home, str) and (is_trusted(home, trust) or home.partition(".")[0] == module.partition(".")[0])
