"""Refuses a model whose outputs do not fit the action space, in the first step that it takes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from torch import Tensor

from rl_framework.core.spaces import leaf_shape, leaf_spaces
from rl_framework.core.trees import Tree, leaves_with_paths, path_name
from rl_framework.errors import SpaceError
from rl_framework.nn.model import Model, ModelOutput


def check_output(policy: Model, output: ModelOutput, log_prob: Tensor, n_rows: int) -> None:
    """Refuse quantities that are not one per row.

    Args:
        policy: Whose they are.
        output: Of one step.
        log_prob: Of the actions that were chosen.
        n_rows: Number of environments, B.

    Raises:
        SpaceError: The message names the quantity and its shape.
    """
    name = type(policy).__name__
    for what, numbers in (("log-probabilities of actions", log_prob), ("values", output.value)):
        if numbers is not None and tuple(numbers.shape) != (n_rows,):
            raise SpaceError(
                f"{name} gave {what} of shape {list(numbers.shape)} for {n_rows} observations, where [{n_rows}] was "
                "expected: one number per row, over all parts of an action."
            )
    for extra, numbers in output.extras.items():
        if tuple(numbers.shape[:1]) != (n_rows,):
            raise SpaceError(
                f"{name} gave {extra!r} of shape {list(numbers.shape)} among its extras for {n_rows} observations, "
                f"where [{n_rows}, ...] was expected."
            )


def checked_actions(policy: Model, targets: Tree, space: gym.Space[Any], n_rows: int) -> Tree:
    """The environment's actions of targets, if they are ones. `[B, ...]` per leaf

    Args:
        policy: What turns targets into actions.
        targets: What it chose. `[B, ...]` per leaf
        space: Of the environment's actions.
        n_rows: Number of environments, B.

    Raises:
        SpaceError: They do not fit the space; the message names both shapes.
    """
    name = type(policy).__name__
    try:
        actions = policy.environment_actions(targets)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise SpaceError(
            f"{name} chose {_shapes(targets)}, which cannot be turned into {n_rows} actions of {space}: {error}"
        ) from error
    expected = {path_name(path): [n_rows, *leaf_shape(leaf)] for path, leaf in leaf_spaces(space)}
    if _shapes(actions) != expected:
        raise SpaceError(
            f"{name} gave actions of the shapes {_shapes(actions)} to {n_rows} environments with {space}, where "
            f"{expected} was expected."
        )
    return actions


def _shapes(tree: Tree) -> dict[str, list[int]]:
    return {path_name(path): list(leaf.shape) for path, leaf in leaves_with_paths(tree)}
