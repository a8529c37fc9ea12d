"""A network as one .onnx file: written in one step, described by its metadata, compared with what it was made from.

Format: https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rl_framework.checkpoints.file_system import flush
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.plain_values import dump_json, encode
from rl_framework.core.trees import select
from rl_framework.errors import ArchiveError, InvalidInputError, MissingExtraError, RLFrameworkError

if TYPE_CHECKING:
    import torch
    from torch.onnx import ONNXProgram

Arrays = Mapping[str, npt.NDArray[Any]]

OPSET = 18
TOLERANCE = 1e-4
TIED_ROWS = 0.1
EXPORTER_LOGGER = "torch.onnx"


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxNetwork:
    """What becomes an .onnx file.

    Attributes:
        module: Takes the inputs in their order as tensors `[B, ...]`, and gives a tuple of the outputs in theirs.
        inputs: An example of each input by its name, with at least two rows. `[B, ...]`
        outputs: What is right for these examples, by the output's name, from another source than `module`: the file
            is compared with it. `[B, ...]`
    """

    module: torch.nn.Module
    inputs: Arrays
    outputs: Arrays

    def __post_init__(self) -> None:
        both = sorted(set(self.inputs) & set(self.outputs))
        if both:
            raise InvalidInputError(
                f"The observations have entries called {both}, as outputs of the exported network are called, too. "
                "Wrap the environment to rename them."
            )


def export_network(network: OnnxNetwork, path: Path, description: Mapping[str, str]) -> Path:
    """Write a network to an .onnx file; what was there before is replaced once the new file is complete and right.

    Args:
        network: The network; its first axis becomes `batch`, of any length.
        path: The file; `.onnx` is added where it is missing.
        description: What the file's metadata say.

    Returns:
        Where the file is.

    Raises:
        MissingExtraError: The extra `onnx` is not installed.
        RLFrameworkError: The network holds something that ONNX cannot express, or the file acts differently.
        ArchiveError: The file could not be written.
    """
    _check_installed()
    path = path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx")
    program = _translate(network)
    _forget_origin(program)
    _name_values(program, list(network.inputs), list(network.outputs))
    program.model.metadata_props.update(description)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        program.save(partial, external_data=False)
        verify(partial, network)
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    except OSError as error:
        raise ArchiveError(f"{path} could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def describe(manifest: Manifest) -> dict[str, str]:
    """What an exported agent's file says of it: texts, of which spaces and versions are the JSON of its manifest."""
    return {
        "kind": manifest.kind,
        "algorithm": manifest.algorithm,
        "timesteps": str(manifest.timesteps),
        "observation_space": _to_json(manifest.observation_space),
        "action_space": _to_json(manifest.action_space),
        "library_versions": _to_json(manifest.library_versions),
    }


def verify(path: Path, network: OnnxNetwork) -> bool:
    """Run a file with onnxruntime on all example rows and on one of them, and compare with what is right.

    Returns:
        False where onnxruntime is not installed; nothing was compared then.

    Raises:
        RLFrameworkError: It does not run, or gives something else.
    """
    try:
        import onnxruntime
    except ImportError:
        return False
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for rows in (slice(None), slice(0, 1)):
            given = session.run(list(network.outputs), select(dict(network.inputs), rows))
            _compare(dict(zip(network.outputs, given, strict=True)), select(dict(network.outputs), rows))
    except RLFrameworkError:
        raise
    except Exception as error:  # onnxruntime's own exceptions share no base of their own
        raise RLFrameworkError(f"onnxruntime cannot run the exported network: {error}") from error
    return True


def _to_json(value: Any) -> str:
    return dump_json(encode(value))


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Exporting to ONNX", "onnx") from error


def _translate(network: OnnxNetwork) -> ONNXProgram:
    import torch

    module = network.module
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    examples = tuple(torch.as_tensor(array, device=device) for array in network.inputs.values())
    try:
        with _evaluating(module), torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module, examples, dynamic_shapes=_batched(module, examples), opset_version=OPSET, verbose=False
            )
    except torch.onnx.OnnxExporterError as error:
        raise RLFrameworkError(
            "This network cannot be exported to ONNX, which has no counterpart for a part of it, such as a branch "
            f"taken by the numbers that it sees, or an operation of its own: {error.__cause__ or error}"
        ) from error
    if program is None:
        raise RLFrameworkError("torch gave no exported network.")
    return program


def _batched(module: torch.nn.Module, examples: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """The first axis of each argument as one axis of any length, laid out like the arguments of `forward`."""
    import torch

    axes = {0: torch.export.Dim("batch")}
    bound = inspect.signature(module.forward).bind(*examples)
    return {
        name: tuple(axes for _ in value) if isinstance(value, tuple) else axes
        for name, value in bound.arguments.items()
    }


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module and all of its parts into evaluation mode during a block."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on its own workings; what it produced is compared afterwards."""
    logger = logging.getLogger(EXPORTER_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget_origin(program: ONNXProgram) -> None:
    """Drop the exporter's notes, which hold the source code and the paths of the machine that exported."""
    graph = program.model.graph
    nodes = list(graph.all_nodes())
    results = [value for node in nodes for value in node.outputs]
    parts: list[Any] = [graph, *nodes, *results, *graph.inputs, *graph.initializers.values()]
    for part in parts:
        part.metadata_props.clear()


def _name_values(program: ONNXProgram, inputs: list[str], outputs: list[str]) -> None:
    """Name inputs and outputs. Names are unique in a graph: inner values that have one of these get another."""
    graph = program.model.graph
    inner = [*(value for node in graph.all_nodes() for value in node.outputs), *graph.initializers.values()]
    taken = {*inputs, *outputs, *(value.name for value in inner)}
    for value in inner:
        if value.name in {*inputs, *outputs}:
            name = f"{value.name}_"
            while name in taken:
                name += "_"
            value.name = name
            taken.add(name)
    for value, name in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
        value.name = name


def _compare(given: Arrays, expected: Arrays) -> None:
    for name, right in expected.items():
        if given[name].shape != right.shape or not _agree(given[name], right):
            raise RLFrameworkError(
                f"The exported network gives other {name} than the agent: {_excerpt(given[name])} where "
                f"{_excerpt(right)} was expected. A part of its policy is not known here; nothing was written."
            )


def _agree(given: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    """Equal up to rounding; where rounding decides between two choices, in all but a few rows."""
    bound = TOLERANCE * max(1.0, float(np.abs(right).max(initial=0.0)))
    if given.dtype.kind == "f":
        return bool(np.allclose(given, right, rtol=TOLERANCE, atol=bound))
    rows = (given != right).reshape(len(right), -1).any(axis=1)
    return bool(rows.mean() <= TIED_ROWS)


def _excerpt(array: npt.NDArray[Any]) -> str:
    return f"{np.array2string(array[:3], precision=4, threshold=8)} (shape {array.shape})"
