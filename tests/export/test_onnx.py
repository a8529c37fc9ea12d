"""Any torch module as an .onnx file: names, description, comparison, and what happens when something fails."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rl_framework.errors import ArchiveError, InvalidInputError, MissingExtraError, RLFrameworkError
from rl_framework.export.onnx import OnnxNetwork, export_network, verify


class Doubling(torch.nn.Module):
    """Twice its input, by way of a parameter that exporters call `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0]))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.dropout(numbers * self.weight),)


class Inexpressible(torch.nn.Module):
    """Depends on numbers in a way that no graph can follow."""

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor]:
        return (numbers * float(numbers.sum().item() > 0) if numbers.max() > 0 else -numbers,)


def doubling(name: str = "numbers", **changes: Any) -> OnnxNetwork:
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    parts: dict[str, Any] = {"module": Doubling(), "inputs": {name: numbers}, "outputs": {"doubled": 2 * numbers}}
    return OnnxNetwork(**{**parts, **changes})


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_network(doubling(), tmp_path_factory.mktemp("exported") / "doubling", {"maker": "a test"})


def test_suffix_is_added_and_nothing_else_is_left(exported: Path) -> None:
    assert exported.name == "doubling.onnx"
    assert [file.name for file in exported.parent.iterdir()] == ["doubling.onnx"]


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_batches_have_any_length(exported: Path, rows: int) -> None:
    numbers = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    (doubled,) = session(exported).run(None, {"numbers": numbers})
    assert np.array_equal(doubled, 2 * numbers)


def test_description_is_in_the_metadata(exported: Path) -> None:
    assert session(exported).get_modelmeta().custom_metadata_map == {"maker": "a test"}


def test_file_is_valid_and_says_nothing_of_the_machine(exported: Path) -> None:
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    content = exported.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"forward" not in content


@pytest.mark.parametrize("name", ["mul", "weight"])
def test_inputs_may_have_names_that_inner_values_have(name: str, tmp_path: Path) -> None:
    path = export_network(doubling(name), tmp_path / "network.onnx", {})
    assert [each.name for each in session(path).get_inputs()] == [name]


def test_an_input_called_like_an_output_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'doubled'"):
        doubling("doubled")


def test_module_and_surroundings_stay_as_they_are(tmp_path: Path) -> None:
    network = doubling()
    network.module.train()
    network.module.get_submodule("dropout").eval()
    level, random = logging.getLogger("torch.onnx").level, torch.get_rng_state()
    export_network(network, tmp_path / "network.onnx", {})
    assert network.module.training
    assert not network.module.get_submodule("dropout").training
    assert logging.getLogger("torch.onnx").level == level
    assert torch.equal(torch.get_rng_state(), random)


def test_a_file_that_acts_differently_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"what was there before")
    with pytest.raises(RLFrameworkError, match="other doubled than the agent"):
        export_network(doubling(outputs={"doubled": np.ones((3, 2), np.float32)}), path, {})
    assert path.read_bytes() == b"what was there before"
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


def test_a_network_that_cannot_be_exported_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"what was there before")
    with pytest.raises(RLFrameworkError, match="cannot be exported"):
        export_network(doubling(module=Inexpressible()), path, {})
    assert path.read_bytes() == b"what was there before"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").mkdir()
    with pytest.raises(ArchiveError, match="could not be written"):
        export_network(doubling(), tmp_path / "network.onnx", {})
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


def test_a_file_that_is_not_onnx_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"not a network")
    with pytest.raises(RLFrameworkError, match="cannot run"):
        verify(tmp_path / "network.onnx", doubling())


@pytest.mark.parametrize("module", ["onnx", "onnxscript"])
def test_missing_extra_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[onnx\]"):
        export_network(doubling(), tmp_path / "network.onnx", {})
    assert list(tmp_path.iterdir()) == []


def test_without_onnxruntime_the_file_is_written_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = export_network(doubling(), tmp_path / "network.onnx", {})
    assert not verify(path, doubling())


def test_rounding_may_decide_between_two_choices_in_a_few_rows(exported: Path) -> None:
    logits = np.tile(np.array([[0.1, 0.2]], np.float32), (20, 1))
    network = OnnxNetwork(module=Choosing(), inputs={"logits": logits}, outputs={"choice": np.ones(20, np.int64)})
    path = export_network(network, exported.parent / "choosing.onnx", {})
    for wrong, agrees in ((2, True), (3, False)):
        expected = np.where(np.arange(20) >= 20 - wrong, 0, 1)
        doubtful = OnnxNetwork(module=Choosing(), inputs={"logits": logits}, outputs={"choice": expected})
        if agrees:
            assert verify(path, doubtful)
        else:
            with pytest.raises(RLFrameworkError, match="other choice"):
                verify(path, doubtful)


class Choosing(torch.nn.Module):
    """The greatest of its inputs."""

    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor]:
        return (logits.argmax(dim=1),)
