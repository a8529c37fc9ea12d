"""State trees come back bit for bit, execute nothing, and refuse what they could not bring back."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.errors import ArchiveError

DTYPES = ["?", "i1", "<i2", ">i4", "<i8", "u1", "<u2", "<u4", ">u8", "<f2", "<f4", ">f8", "<f8", "<c8", "<c16"]
Point = namedtuple("Point", "x y")


def round_trip(folder: Path, tree: Any) -> Any:
    write_state(folder, "state", tree)
    return read_state(folder, "state")


def same(first: Any, second: Any) -> bool:
    """Equal in type and bits, NaN payloads included."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return same(list(first), list(second)) and same(list(first.values()), list(second.values()))
    if isinstance(first, (np.ndarray, np.generic)):
        same_form = first.dtype.str == second.dtype.str and first.shape == second.shape
        return bool(same_form and first.tobytes() == second.tobytes())
    if isinstance(first, torch.Tensor):
        same_form = first.dtype == second.dtype and first.shape == second.shape
        return same_form and torch.equal(_bits(first), _bits(second))
    if isinstance(first, float):
        return struct.pack("d", first) == struct.pack("d", second)
    return bool(first == second)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def numbers() -> st.SearchStrategy[Any]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))


def scalars() -> st.SearchStrategy[Any]:
    return (
        st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype.lstrip("<>"), ())).map(lambda array: array[()])
    )


def plain() -> st.SearchStrategy[Any]:
    any_text = st.text(st.characters())
    return st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary() | scalars()


def keys() -> st.SearchStrategy[Any]:
    return st.text() | st.integers() | st.booleans() | st.tuples(st.integers(), st.text()) | st.sampled_from(["$", ""])


def trees() -> st.SearchStrategy[Any]:
    return st.recursive(
        plain() | numbers(),
        lambda part: (
            st.lists(part, max_size=4)
            | st.lists(part, max_size=4).map(tuple)
            | st.dictionaries(keys(), part, max_size=4)
        ),
        max_leaves=12,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees())
def test_every_tree_comes_back_bit_for_bit(tmp_path: Path, tree: Any) -> None:
    assert same(tree, round_trip(tmp_path, tree))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=numbers(), data=st.data())
def test_views_of_any_memory_order_come_back(tmp_path: Path, array: np.ndarray, data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(array.ndim)))
    view = array.transpose(axes)[..., ::-1] if array.ndim and data.draw(st.booleans()) else array.transpose(axes)
    assert same(view, round_trip(tmp_path, view))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1])
def test_floats_at_the_edges(tmp_path: Path, value: float) -> None:
    assert same(value, round_trip(tmp_path, value))


def test_nan_payload_survives(tmp_path: Path) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex("fff8000000abcdef"))
    assert same(value, round_trip(tmp_path, value))


@pytest.mark.parametrize("value", [2**64, -(2**127), 10**6000], ids=["65 bits", "negative", "6000 digits"])
def test_integers_of_any_size(tmp_path: Path, value: int) -> None:
    assert round_trip(tmp_path, value) == value


def test_lone_surrogates_survive_in_text_and_keys(tmp_path: Path) -> None:
    tree = {"\ud83d\ude00": "\udcff", "\udcff": np.ones(2)}
    assert same(tree, round_trip(tmp_path, tree))


def test_an_ordered_dict_becomes_a_dict(tmp_path: Path) -> None:
    assert same({"b": 1, "a": 2}, round_trip(tmp_path, OrderedDict(b=1, a=2)))


def test_arrays_are_writable_and_keep_fortran_order(tmp_path: Path) -> None:
    read = round_trip(tmp_path, np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    read[0, 0] = 7.0
    assert read.flags.f_contiguous
    assert read[0, 0] == 7.0


def test_the_same_array_twice_is_one_array_again(tmp_path: Path) -> None:
    shared = np.ones(3)
    read = round_trip(tmp_path, {"a": shared, "b": [shared], "c": np.ones(3)})
    assert read["a"] is read["b"][0]
    assert read["c"] is not read["a"]


def test_views_that_overlap_come_back_with_their_own_numbers(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tree = {"all": base, "head": base[:3], "matrix": base.view(2, 3), "odd": base[1::2]}
    assert same(tree, round_trip(tmp_path, tree))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool,
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3)])
def test_tensors_of_every_type(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype)
    assert same(tensor, round_trip(tmp_path, tensor))


def test_tensor_views_parameters_and_conjugates(tmp_path: Path) -> None:
    tree = {
        "slice": torch.arange(10)[::3],
        "expanded": torch.ones(1).expand(4),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
        "grad": torch.randn(2, requires_grad=True).detach(),
    }
    assert same(tree, round_trip(tmp_path, tree))
    parameter = round_trip(tmp_path, torch.nn.Parameter(torch.ones(2)))
    assert type(parameter) is torch.Tensor
    assert torch.equal(parameter, torch.ones(2))


def test_channels_last_tensors_keep_their_memory_order(tmp_path: Path) -> None:
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    read = round_trip(tmp_path, tensor)
    assert read.stride() == tensor.stride()
    assert torch.equal(read, tensor)


def test_state_of_a_module_with_shared_parts_and_its_optimiser_resumes(tmp_path: Path) -> None:
    part = torch.nn.Linear(3, 3)
    module = torch.nn.Sequential(part, torch.nn.BatchNorm1d(3), part)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    module(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    tree = {"module": module.state_dict(), "optimiser": optimiser.state_dict()}
    read = round_trip(tmp_path, tree)
    assert same(dict(tree["module"]), read["module"])
    assert same(tree["optimiser"], read["optimiser"])
    assert read["module"]["0.weight"] is read["module"]["2.weight"]
    fresh = torch.optim.Adam(module.parameters(), lr=0.5)
    fresh.load_state_dict(read["optimiser"])
    assert fresh.param_groups[0]["lr"] == 0.1


def test_generator_states_restore_the_same_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    generator.normal(size=5)
    read = round_trip(tmp_path, generator.bit_generator.state)
    expected = generator.normal(size=4)
    generator.bit_generator.state = read
    assert np.array_equal(generator.normal(size=4), expected)


def test_the_safetensors_package_reads_our_files(tmp_path: Path) -> None:
    tree = {"net.weight": torch.randn(3, 2), "half": torch.ones(4).bfloat16(), "empty": torch.empty(0, 2)}
    write_state(tmp_path, "policy", tree)
    read = safetensors.torch.load_file(tmp_path / "policy.safetensors")
    assert same({name: tree[name] for name in sorted(tree)}, {name: read[name] for name in sorted(read)})


def test_equal_trees_give_equal_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        write_state(tmp_path / name, "s", {"x": np.arange(3), "y": np.ones(2, np.uint8), "z": 1})
    for file in ("s.json", "s.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_keys_that_give_the_same_name_do_not_collide(tmp_path: Path) -> None:
    tree = {"a": {"b": np.ones(1)}, "a.b": np.zeros(1), "__metadata__": np.full(1, 2.0), 1: np.ones(2), "1": np.ones(3)}
    assert same(tree, round_trip(tmp_path, tree))


def test_a_tree_without_arrays_leaves_no_tensor_file_of_an_earlier_one(tmp_path: Path) -> None:
    write_state(tmp_path, "s", {"x": np.ones(2)})
    write_state(tmp_path, "s", {"x": 1})
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


class Custom:
    """Something with a type of its own."""


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (Custom(), "Custom"),
        (np.array([None]), "object"),
        (np.array(["text"]), "<U4"),
        (np.zeros(2, dtype=[("a", "f4")]), "'a'"),
        (Point(1, 2), "Point"),
        ({1, 2}, "set"),
        (len, "builtin_function_or_method"),
        (torch.ones(2).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
        (torch.float32, "torch.dtype"),
    ],
)
def test_foreign_types_are_refused_by_path_before_anything_is_written(tmp_path: Path, bad: Any, named: str) -> None:
    with pytest.raises(ArchiveError, match=r"optimiser\.groups\.1\.thing") as caught:
        write_state(tmp_path, "state", {"first": np.ones(3), "optimiser": {"groups": [1, {"thing": bad}]}})
    assert named in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_contains_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="contains itself"):
        write_state(tmp_path, "state", {"loop": _cycle()})


def test_files_of_the_safetensors_package_are_read(tmp_path: Path) -> None:
    write_state(tmp_path, "s", {"x": np.arange(3.0)})
    safetensors.numpy.save_file({"x": np.arange(3.0) + 1}, tmp_path / "s.safetensors", metadata={"format": "np"})
    assert np.array_equal(read_state(tmp_path, "s")["x"], [1.0, 2.0, 3.0])


def test_torch_is_imported_only_for_tensors(tmp_path: Path) -> None:
    write_state(tmp_path, "with", torch.ones(1))
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from rl_framework.checkpoints import archive, locate, manifest, retention, state_tree\n"
        f"folder = Path({str(tmp_path)!r}); state_tree.write_state(folder, 's', {{'x': np.ones(2)}})\n"
        "state_tree.read_state(folder, 's'); print('torch' in sys.modules)\n"
        "state_tree.read_state(folder, 'with'); print('torch' in sys.modules)\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["False", "True"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_big_array_is_held_only_once_more_while_it_is_read(tmp_path: Path) -> None:
    size = 100 * 2**20
    write_state(tmp_path, "replay", {"x": np.ones(size, dtype=np.uint8)})
    before = _resident()
    peak = _Peak()
    read = read_state(tmp_path, "replay")
    assert peak.stop() - before < 1.5 * size
    assert read["x"][-1] == 1


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Peak:
    """The highest resident memory until `stop`, looked at every 2 ms."""

    def __init__(self) -> None:
        self._highest, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._highest = max(self._highest, _resident())

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return max(self._highest, _resident())
