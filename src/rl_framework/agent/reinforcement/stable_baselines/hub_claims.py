"""What a repository of the Hugging Face Hub says about the Stable-Baselines3 model in it.

It says so in names (`ppo-CartPole-v1.zip`), in the head of its card, and, where RL Zoo has pushed it, in `args.yml`,
`config.yml` and `env_kwargs.yml`. All of it was written by strangers: it is read as plain text and numbers, nothing
that YAML can name is made or called, and a file that is not as expected says nothing.

Source: RL Zoo, rl_zoo3/push_to_hub.py; huggingface_sb3, naming_schemes.py and push_to_hub.py; the Hub's documentation
of model cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rl_framework.agent.reinforcement.stable_baselines.algorithms import ALGORITHMS

CARD, ARGUMENTS, SETTINGS, ENVIRONMENT_OPTIONS = "README.md", "args.yml", "config.yml", "env_kwargs.yml"
CLAIM_FILES = (CARD, ARGUMENTS, SETTINGS, ENVIRONMENT_OPTIONS)
LARGEST_FILE = 2**20
LONGEST_NAME = 200
FENCE = "---"
ORDERED_DICT = "tag:yaml.org,2002:python/object/apply:collections.OrderedDict"
PYTHON_TAGS = "tag:yaml.org,2002:python/"
VERSIONED = re.compile(r"[\w:./-]+-v\d+", re.ASCII)
WORD = re.compile(r"[^-_ ]+")
ALGORITHM_NAMES = {
    **{name.lower(): name for name in ALGORITHMS},
    **dict.fromkeys(("ppolstm", "lstmppo"), "RecurrentPPO"),
    **dict.fromkeys(("ppomask", "maskppo", "ppomaskable"), "MaskablePPO"),
}
"""The names that models are pushed under, without capitals, dashes and underscores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelClaims:
    """What is said about a model.

    Attributes:
        algorithms: Names of algorithms of the two libraries, the most reliable first.
        environments: What may be the id of its environment, the most reliable first.
        environment_options: What the environment was made with.
        settings: The hyper-parameters and wrappers that RL Zoo has trained it with.
    """

    algorithms: tuple[str, ...]
    environments: tuple[str, ...]
    environment_options: Mapping[str, Any]
    settings: Mapping[str, Any]


def read_claims(names: Iterable[str], files: Mapping[str, Path]) -> ModelClaims:
    """Gather what is said.

    Args:
        names: Of the model's file and of the repository, without owner and ending.
        files: Those of `CLAIM_FILES` that there are.
    """
    contents = {name: _read(path) for name, path in files.items()}
    card = _card_head(contents.get(CARD, ""))
    arguments, settings, options = (_mapping(contents.get(name, "")) for name in CLAIM_FILES[1:])
    titles, datasets, tags = _card_names(card)
    told = [name_parts(name) for name in names]
    algorithms = [arguments.get("algo"), *(algorithm for algorithm, _ in told), *titles, *tags]
    environments = [arguments.get("env"), *datasets, *filter(is_versioned, tags), *(rest for _, rest in told)]
    return ModelClaims(
        algorithms=tuple(dict.fromkeys(filter(None, map(_algorithm, algorithms)))),
        environments=tuple(dict.fromkeys(filter(None, map(_name, environments)))),
        environment_options=options or _as_mapping(arguments.get("env_kwargs")),
        settings=settings,
    )


def name_parts(name: str) -> tuple[str | None, str]:
    """The algorithm in a name such as `ppo_lstm-CartPole-v1`, None if there is none, and what remains."""
    words = list(WORD.finditer(name))
    spans = [words[:2], *([word] for word in words)]
    for span in filter(None, spans):
        algorithm = _algorithm("".join(word[0] for word in span))
        if algorithm is not None:
            return algorithm, (name[: span[0].start()] + name[span[-1].end() :]).strip("-_ ")
    return None, name


def is_versioned(name: str) -> bool:
    """Whether a name looks like the id of an environment, `...-v<number>`."""
    return VERSIONED.fullmatch(name) is not None


def _algorithm(name: Any) -> str | None:
    return ALGORITHM_NAMES.get(re.sub("[-_ ]", "", name).lower()) if _name(name) else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME else None


def _read(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _card_head(card: str) -> Mapping[str, Any]:
    lines = card.splitlines()
    if not lines or lines[0].strip() != FENCE:
        return {}
    end = next((row for row, line in enumerate(lines[1:], 1) if line.strip() == FENCE), 0)
    return _mapping("\n".join(lines[1:end]))


def _card_names(head: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Names of the model, of what it was evaluated on, and its tags."""
    models = [each for each in _as_list(head.get("model-index")) if isinstance(each, dict)]
    results = [each for model in models for each in _as_list(model.get("results")) if isinstance(each, dict)]
    datasets = [_as_mapping(each.get("dataset")) for each in results]
    return (
        list(_names(model.get("name") for model in models)),
        list(_names(dataset.get(key) for key in ("type", "name") for dataset in datasets)),
        list(_names(_as_list(head.get("tags")))),
    )


def _names(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if _name(value))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return {key: each for key, each in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}


def _mapping(text: str) -> Mapping[str, Any]:
    """The mapping that a YAML text holds; an empty one if it holds anything else."""
    try:
        # A subclass of SafeLoader: it makes plain values only.
        return _as_mapping(yaml.load(text, Loader=_PlainLoader))  # noqa: S506
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}


class _PlainLoader(yaml.SafeLoader):
    """Reads what is plain; of Python's own tags an ordered dictionary is a dictionary, and everything else None."""


def _ordered_pairs(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    """RL Zoo's ordered dictionaries: a list that holds a list of pairs."""
    if not isinstance(node, yaml.SequenceNode):
        return {}
    arguments = loader.construct_sequence(node, deep=True)
    pairs = _as_list(arguments[0]) if arguments else []
    return {pair[0]: pair[1] for pair in pairs if isinstance(pair, list) and len(pair) == 2 and _name(pair[0])}


def _nothing(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    """What would be made by calling something is not made."""


_PlainLoader.add_constructor(ORDERED_DICT, _ordered_pairs)
_PlainLoader.add_multi_constructor(PYTHON_TAGS, _nothing)
