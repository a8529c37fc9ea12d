"""Public Stable-Baselines3 models of the Hugging Face Hub as agents, with nothing in them executed.

A repository holds a zip that `model.save` wrote, named after the algorithm and the environment. Which of both it is
stands in names and in the card (`hub_claims`). Statistics of `VecNormalize` stand beside it as a pickle, which is
never opened here.
"""

from __future__ import annotations

import inspect
import logging
import re
import reprlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

from rl_framework.agent.reinforcement.stable_baselines import sb3_archive
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement.stable_baselines.algorithms import algorithm_named
from rl_framework.agent.reinforcement.stable_baselines.hub_claims import (
    CLAIM_FILES,
    ModelClaims,
    is_versioned,
    read_claims,
)
from rl_framework.agent.reinforcement.stable_baselines.normalization import (
    Normalization,
    load_normalization_state,
    normalization_state,
)
from rl_framework.errors import InvalidInputError, MissingArchiveError, SpaceError

STATISTICS = "vec_normalize.pkl"
OTHER_ZIPS = ("train_eval_metrics.zip",)
STOCK_NAME = "model.zip"
WRAPPERS = ("env_wrapper", "frame_stack", "vec_env_wrapper")
LINEAR = re.compile(r"lin_([\d.]+(?:e-?\d+)?)")

_log = logging.getLogger(__name__)

AnyNormalization = bool | Normalization | VecNormalize | None


class ModelRepository(Protocol):
    """The least that is asked of a repository; `HuggingFaceConnector` has it."""

    repository_id: str

    def commit_of(self, revision: str | None = None) -> str:
        """The commit that a branch, tag or hash means; its own branch for None."""
        ...

    def files(self, revision: str | None = None) -> list[str]:
        """The paths of all files of a commit."""
        ...

    def fetch_file(self, name: str, *, revision: str | None = None) -> Path:
        """One of the files, checked against its commit."""
        ...


def load_hub_model(
    connector: ModelRepository,
    *,
    environment: Any = None,
    algorithm_class: type[BaseAlgorithm] | None = None,
    algorithm_parameters: Mapping[str, Any] | None = None,
    filename: str | None = None,
    revision: str | None = None,
    normalization: AnyNormalization = None,
) -> StableBaselinesAgent:
    """Make an agent from a model that Stable-Baselines3 has saved, such as `sb3/ppo-CartPole-v1`.

    What the file holds as pickles is not read: the agent acts as the model did, and what it needs to go on training
    and is nowhere else is told in a warning, and has its default.

    Args:
        connector: The repository, `HuggingFaceConnector("sb3/ppo-CartPole-v1")`.
        environment: Whatever `train` takes, with the wrappers that the model was trained with; None for the id that
            the repository names, where it is registered here.
        algorithm_class: Which algorithm saved it; None for the one that the repository names.
        algorithm_parameters: Parameters to use instead of those in the file, and those that it hides in pickles.
        filename: The zip in the repository; None for the only one, or the one with the repository's name.
        revision: A commit, branch or tag; the connector's unless given.
        normalization: As for the class; or the `VecNormalize` that the model was trained with, loaded by somebody who
            trusts its author: its statistics are copied.

    Raises:
        ConnectorError: The repository or the file cannot be had.
        MissingArchiveError: There is no zip of a model in it.
        InvalidInputError: It does not tell the algorithm, the environment or the file, or what it tells is not known
            here; or the file hides a parameter of the policy in a pickle.
        SpaceError: The environment's spaces are not those of the model.
        CorruptArchiveError: The file is not what `model.save` writes, or its tensors do not fit.
        UnsafeArchiveError: The file would fill the memory, or something leads elsewhere.
    """
    commit = connector.commit_of(revision)
    files = connector.files(commit)
    name = _choose_zip(files, filename, connector.repository_id)
    claims = read_claims(
        (PurePosixPath(name).stem, connector.repository_id.rpartition("/")[2]),
        {each: connector.fetch_file(each, revision=commit) for each in CLAIM_FILES if each in files},
    )
    algorithm = algorithm_class or _choose_algorithm(claims, connector.repository_id)
    place = _choose_environment(claims, connector.repository_id) if environment is None else environment
    path = connector.fetch_file(name, revision=commit)
    given = algorithm_parameters or {}
    found, remarks = _complete(path, algorithm, claims, given)
    plan, statistics = _split_normalization(normalization)
    agent = StableBaselinesAgent.from_model_zip(path, place, algorithm, {**found, **given}, normalization=plan)
    if statistics is not None:
        _copy_statistics(statistics, agent.model)
    if environment is None:
        remarks += _remarks_on_environment(claims, str(place))
    if statistics is None and (STATISTICS in files or claims.settings.get("normalize")):
        remarks.append(_remark_on_statistics(found=STATISTICS in files))
    for remark in remarks:
        _log.warning("%s: %s", connector.repository_id, remark)
    return agent


# Which file, algorithm and environment


def _choose_zip(files: Sequence[str], given: str | None, repository: str) -> str:
    zips = [name for name in files if name.endswith(".zip") and PurePosixPath(name).name not in OTHER_ZIPS]
    known = f"Its zip files are {', '.join(zips[:20])}." if zips else "It has no zip file of a model."
    if given is not None:
        if given not in files:
            raise MissingArchiveError(f"{repository} has no file {given!r}. {known}")
        return given
    top = [name for name in zips if "/" not in name]
    for name in (f"{repository.rpartition('/')[2]}.zip", STOCK_NAME):
        if name in top:
            return name
    candidates = top or zips
    if not candidates:
        raise MissingArchiveError(
            f"{repository} has no zip file of a model, as Stable-Baselines3's model.save writes it. Its files are "
            f"{', '.join(files[:20]) or 'none'}."
        )
    if len(candidates) > 1:
        raise InvalidInputError(f"{repository} has several zip files; choose one with filename=... {known}")
    return candidates[0]


def _choose_algorithm(claims: ModelClaims, repository: str) -> type[BaseAlgorithm]:
    if not claims.algorithms:
        raise InvalidInputError(
            f"Neither the names in {repository} nor its card tell an algorithm of Stable-Baselines3 or sb3-contrib. "
            "Give it as algorithm_class=..., for example algorithm_class=PPO."
        )
    return algorithm_named(claims.algorithms[0])


def _choose_environment(claims: ModelClaims, repository: str) -> str:
    """The id of the first environment that is named; one that only resembles it is not taken in its place."""
    for name in claims.environments:
        known = _registered(name)
        if len(known) == 1:
            return known[0]
        if known or is_versioned(name):
            close = ", ".join(map(repr, known or _similar(name)))
            raise InvalidInputError(
                f"{repository} says that its environment is {name!r}, which is {'not clear' if known else 'unknown'} "
                f"here.{f' Similar: {close}, which may differ from it.' if close else ''} Import the package that "
                "registers it, or give an environment or an id that you know to fit as environment=..."
            )
    raise InvalidInputError(
        f"Neither the names in {repository} nor its card tell the id of an environment that is registered here. Give "
        "environment=..., with the wrappers that the model was trained with."
    )


def _registered(name: str) -> list[str]:
    """The ids that a name may mean: names of files have `-` for `/`, and leave out what is before `:`.

    It only compares: asking Gymnasium for `module:id` would import the module.
    """
    return [name] if name in gym.registry else [known for known in gym.registry if _as_file_name(known) == name]


def _as_file_name(environment_id: str) -> str:
    return environment_id.rpartition(":")[2].replace("/", "-")


def _similar(name: str) -> list[str]:
    stem = _as_file_name(name).rpartition("-v")[0].lower()
    versions = [known for known in gym.registry if _as_file_name(known).rpartition("-v")[0].lower() == stem]
    return versions or get_close_matches(name, list(gym.registry), n=2)


# What the file does not tell


def _complete(
    path: Path, algorithm: type[BaseAlgorithm], claims: ModelClaims, given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Parameters that the file hides, as far as RL Zoo's settings tell them, and what to say about the others.

    RL Zoo loads a model with a replay buffer of one entry before it pushes it, and that is what the file then says.
    """
    told = sb3_archive.read_parameters(path, algorithm, given=given)
    wanted = set(sb3_archive.hidden_parameters(path, algorithm))
    if isinstance(told.get("buffer_size"), int) and told["buffer_size"] < told.get("batch_size", 1):
        wanted.add("buffer_size")
    wanted -= set(given)
    found = {name: _plain_setting(claims.settings.get(name)) for name in sorted(wanted)}
    known = {name: value for name, value in found.items() if value is not None}
    missing = [name for name in found if name not in known]
    if "buffer_size" in missing:
        known["buffer_size"] = inspect.signature(algorithm).parameters["buffer_size"].default
    remark = (
        f"the file holds no more than a pickle or a placeholder of {', '.join(missing)}. Acting does not depend on it; "
        "training does, and takes the default. Give it in algorithm_parameters={...}."
    )
    return known, [remark] if missing else []


def _plain_setting(value: Any) -> Any:
    """A hyper-parameter as RL Zoo writes it; None if it is not plain."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], str):
        return tuple(value)  # train_freq
    linear = LINEAR.fullmatch(value) if isinstance(value, str) else None
    return None if linear is None else LinearSchedule(float(linear[1]), 0.0, 1.0)


def _remarks_on_environment(claims: ModelClaims, environment_id: str) -> list[str]:
    wrappers = {name: claims.settings[name] for name in WRAPPERS if claims.settings.get(name)}
    options = {key: value for key, value in claims.environment_options.items() if key != "render_mode"}
    return [
        f"the model was trained with {what} {reprlib.repr(value)}, which {environment_id!r} is now made without. Give "
        "environment=..., a function that makes it so."
        for what, value in (("the wrappers", wrappers), ("the environment's options", options))
        if value
    ]


# Normalisation


def _split_normalization(given: AnyNormalization) -> tuple[bool | Normalization | None, VecNormalize | None]:
    """What the agent gets, and the wrapper whose statistics it gets."""
    if not isinstance(given, VecNormalize):
        return given, None
    keys = given.norm_obs_keys
    plan = Normalization(
        observations=given.norm_obs,
        rewards=given.norm_reward,
        clip_observations=given.clip_obs,
        clip_rewards=given.clip_reward,
        gamma=given.gamma,
        epsilon=given.epsilon,
        observation_keys=tuple(keys) if keys else None,
    )
    return plan, given


def _copy_statistics(source: VecNormalize, model: BaseAlgorithm) -> None:
    target = model.get_vec_normalize_env()
    if target is None:
        return
    state = normalization_state(source)
    own, theirs = normalization_state(target)["observations"], state["observations"]
    if own is not None and (theirs is None or _shapes(own) != _shapes(theirs)):
        raise SpaceError(
            f"The given VecNormalize holds statistics of {source.observation_space}, which are not those of the "
            f"environment, {target.observation_space}."
        )
    load_normalization_state(target, {**state, "returns": ()})


def _shapes(statistics: Mapping[str, Any]) -> Any:
    parts = statistics if "mean" not in statistics else {"": statistics}
    return {key: np.shape(part["mean"]) for key, part in parts.items()}


def _remark_on_statistics(*, found: bool) -> str:
    if found:
        where = f"{STATISTICS} is a pickle and was not opened"
        how = (
            "If you trust its author, load them yourself and give them: normalization=VecNormalize.load("
            f"connector.fetch_file({STATISTICS!r}), DummyVecEnv([make_environment]))."
        )
    else:
        where = "their statistics are not in the repository"
        how = "With normalization=True it starts new ones, which training fills."
    return (
        f"the model was trained on normalised observations or rewards, and {where}. Without the statistics it acts "
        f"differently, and worse. {how}"
    )
