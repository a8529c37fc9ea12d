"""The command line wins over the file, the file over the defaults; a sample file is the defaults."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rl_framework.errors import ArchiveError, InvalidInputError, MissingArchiveError, UnknownOptionError
from rl_framework.launch import tunable
from rl_framework.launch.config_fields import config_fields, described_attributes, names_within, nested_tree
from rl_framework.launch.config_files import dump_yaml, read_mapping, read_plain, sample_yaml, write_text
from rl_framework.launch.configuration import build_config, config_tree, tree_of_texts


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How weights change.

    Attributes:
        rate: Step size, of which this sentence goes on
            in a second line.
        kind: Its name.
    """

    rate: float = tunable(0.1, low=0.01, high=1.0, log=True)
    kind: str = "adam"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a test can be told.

    Attributes:
        steps: How many.
    """

    steps: int = 10
    name: str = "ünïcode: # yes"
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=0.5))
    second: Optimizer | None = None
    sizes: tuple[int, ...] = tunable((64, 64), choices=((64, 64), (32,)), description="Units.")


@dataclass(frozen=True, kw_only=True)
class Needy:
    """Something must be said."""

    steps: int
    optimizer: Optimizer = Optimizer()


def test_the_line_wins_over_the_file_and_the_file_over_the_defaults() -> None:
    file = {"steps": 20, "optimizer": {"kind": "sgd", "rate": 0.2}}
    line = tree_of_texts(Config, {"optimizer.rate": "0.3"})
    assert build_config(Config) == Config()
    assert build_config(Config, file, line) == Config(steps=20, optimizer=Optimizer(rate=0.3, kind="sgd"))
    assert build_config(Config, line) == Config(optimizer=Optimizer(rate=0.3))


def test_a_part_that_is_none_comes_to_be_with_the_first_thing_said_of_it() -> None:
    assert build_config(Config, {"second": None}).second is None
    assert build_config(Config, tree_of_texts(Config, {"second.kind": "sgd"})).second == Optimizer(kind="sgd")


def test_fields_are_flat_and_have_the_defaults_of_the_outermost_configuration() -> None:
    found = {each.name: each for each in config_fields(Config)}
    names = ["steps", "name", "optimizer.rate", "optimizer.kind", "second.rate", "second.kind", "sizes"]
    assert list(found) == names
    assert found["optimizer.rate"].default == 0.5
    assert found["second.rate"].default == 0.1
    assert [name for name, each in found.items() if each.absent] == ["second.rate", "second.kind"]
    assert found["sizes"].description == "Units."
    assert found["optimizer.kind"].description == "Its name."


def test_docstrings_describe_fields() -> None:
    assert described_attributes(Optimizer)["rate"] == "Step size, of which this sentence goes on in a second line."
    assert described_attributes(Needy) == {}


def test_a_sample_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    write_text(file, sample_yaml(Config))
    assert build_config(Config, read_mapping(file, Config)) == Config()
    text = file.read_text()
    assert text.startswith("# What a test can be told.\n# How many. (int)\nsteps: 10\n")
    assert "  # Its name. (str)\n  kind: adam\n" in text
    assert "# Units. (tuple[int, ...]) Tuned within [64, 64] | [32].\nsizes: [64, 64]\n" in text
    assert "# second:\n" in text


def test_what_must_be_said_is_commented_out_in_a_sample(tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    write_text(file, sample_yaml(Needy))
    with pytest.raises(InvalidInputError, match="need a value: steps"):
        build_config(Needy, read_mapping(file, Needy))
    write_text(file, sample_yaml(Needy).replace("# steps:", "steps: 3"))
    assert build_config(Needy, read_mapping(file, Needy)) == Needy(steps=3)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_files_are_yaml_or_json_and_may_have_names_with_dots(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"config{suffix}"
    tree = {"steps": 3, "optimizer.rate": 0.25, "optimizer": {"kind": "sgd"}}
    file.write_text(json.dumps(tree) if suffix == ".json" else dump_yaml(tree))
    assert build_config(Config, read_mapping(file, Config)) == Config(
        steps=3, optimizer=Optimizer(rate=0.25, kind="sgd")
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "ending in .yaml, .yml, .json"),
        ("a.yaml", "- 1", "holds list"),
        ("a.yaml", "a: [", "is not YAML"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "is not YAML that can be read safely"),
        ("a.yaml", "a: {b: 1}\na.b: 2", "a.b is set twice"),
        ("a.yaml", "a: 1\na.b: 2", "a.b cannot be set beside a"),
        ("a.json", "{", "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_mapping(tmp_path / name, Config)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="Cannot write"):
        write_text(tmp_path / "file" / "config.yaml", "")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match=r"nothing\.yaml cannot be read"):
        read_mapping(tmp_path / "nothing.yaml", Config)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert build_config(Config, read_mapping(tmp_path / "empty.yaml", Config)) == Config()


def test_a_field_that_does_not_exist_is_told_before_its_value_is_read() -> None:
    with pytest.raises(UnknownOptionError, match=r"Did you mean 'optimizer\.rate'"):
        tree_of_texts(Config, {"optimizer.rat": "x"})


def test_names_with_dots_are_nested() -> None:
    assert nested_tree({"a.b.c": 1, "a.d": 2, "e": {"f.g": 3}}) == {"a": {"b": {"c": 1}, "d": 2}, "e": {"f": {"g": 3}}}
    assert names_within({"a": {"b": 1}, "c": None}, ["a.b", "a.d", "c", "c.e", "x"]) == {"a.b", "c"}


@dataclass(frozen=True)
class Weighted:
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()


def test_the_keys_of_a_mapping_may_have_dots_of_their_own(tmp_path: Path) -> None:
    config = Weighted({"layer.0": 1.0, "layer.1": 2.0})
    write_text(tmp_path / "config.yaml", dump_yaml(config_tree(config)))
    assert build_config(Weighted, read_mapping(tmp_path / "config.yaml", Weighted)) == config
    assert build_config(Weighted, read_plain(tmp_path / "config.yaml")) == config
    line = tree_of_texts(Weighted, {"weights": "{'a.b': 3}"})
    assert line == {"weights": {"a.b": 3.0}}


def test_the_tree_of_a_configuration_is_the_configuration() -> None:
    config = Config(second=Optimizer(rate=1.0), sizes=(1,))
    assert build_config(Config, config_tree(config)) == config
