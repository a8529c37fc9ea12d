"""d3rlpy beside current Gymnasium and torch: what its import lacks is lent to it, what it would flip stays as it is.

Written against d3rlpy 2.8.1. Each repair acts while `import d3rlpy` runs and at no other time:

- d3rlpy imports the old `gym`, which nobody maintains and which is not installed here; Gymnasium stands in for it.
  https://github.com/takuseno/d3rlpy/issues/461
- Where a GPU is at hand, it lowers the precision of float32 matrix products and turns on compiled autograd, for the
  whole process. https://github.com/takuseno/d3rlpy/pull/428
- It configures structlog for the whole process.
  https://github.com/takuseno/d3rlpy/blob/v2.8.1/d3rlpy/logging/logger.py
- It registers the environments of Shimmy, where that is installed.
  https://github.com/takuseno/d3rlpy/blob/v2.8.1/d3rlpy/__init__.py
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, TypeVar

import gymnasium

from rl_framework.compat.installation import missing

ObsType = TypeVar("ObsType")
ActType = TypeVar("ActType")

_importing = threading.RLock()


class TwoParameterWrapper(gymnasium.Wrapper[ObsType, ActType, ObsType, ActType]):
    """Gymnasium's wrapper with the two type parameters that the old gym's has."""


def import_d3rlpy() -> Any:
    """The module `d3rlpy`, imported with the repairs if it is not there yet.

    Raises:
        MissingExtraError: It, or something that it needs, is not installed.
    """
    with _importing:
        found = sys.modules.get("d3rlpy")
        if found is not None:
            return found
        with _repairs():
            try:
                return importlib.import_module("d3rlpy")
            except ImportError as error:
                raise missing("Offline reinforcement learning with d3rlpy", "d3rlpy") from error


@contextmanager
def _repairs() -> Iterator[None]:
    """Everything that stands around the import."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if "gym" not in sys.modules and importlib.util.find_spec("gym") is None:
            stack.enter_context(_lent_modules(_gym_from_gymnasium()))
        if "shimmy" not in sys.modules:
            stack.enter_context(_lent_modules({"shimmy": None}))
        stack.enter_context(_switches_held())
        yield


def _gym_from_gymnasium() -> dict[str, ModuleType]:
    """As much of gym as d3rlpy looks for, made of Gymnasium."""
    version = _module("gym.version", VERSION="0.26.2")
    time_limit = _module("gym.wrappers.time_limit", TimeLimit=gymnasium.wrappers.TimeLimit)
    transform = _module("gym.wrappers.transform_reward", TransformReward=gymnasium.wrappers.TransformReward)
    wrappers = _module("gym.wrappers", time_limit=time_limit, transform_reward=transform)
    gym = _module(
        "gym",
        Env=gymnasium.Env,
        Wrapper=TwoParameterWrapper,
        make=gymnasium.make,
        spaces=gymnasium.spaces,
        version=version,
        wrappers=wrappers,
    )
    return {each.__name__: each for each in (gym, version, wrappers, time_limit, transform)} | {
        "gym.spaces": gymnasium.spaces
    }


def _module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


@contextmanager
def _lent_modules(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Put modules where imports find them, and take them away afterwards; None makes an import fail."""
    sys.modules.update(modules)  # type: ignore[arg-type]  # None is how the import system is told "there is none"
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


@contextmanager
def _switches_held() -> Iterator[None]:
    """Keep torch and structlog as the process has them.

    torch refuses to tell the precision to a process that uses its newer settings, so it cannot be put back: it is not
    changed in the first place.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(_without_effect(torch, "set_float32_matmul_precision"))
        if importlib.util.find_spec("structlog") is not None:
            stack.enter_context(_without_effect(importlib.import_module("structlog"), "configure"))
        if torch.cuda.is_available():
            stack.enter_context(_kept(importlib.import_module("torch._dynamo").config, "compiled_autograd"))
        yield


@contextmanager
def _without_effect(module: Any, name: str) -> Iterator[None]:
    """Let calls of a module's function do nothing."""
    with _kept(module, name):
        setattr(module, name, lambda *_, **__: None)
        yield


@contextmanager
def _kept(holder: Any, name: str) -> Iterator[None]:
    """Put an attribute back to what it was."""
    before = getattr(holder, name)
    try:
        yield
    finally:
        setattr(holder, name, before)
