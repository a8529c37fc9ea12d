"""d3rlpy is imported beside current libraries and leaves no trace; each repair is dropped once it is not needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.errors import MissingExtraError

PRETEND_GPU = """
import sys
import gymnasium, structlog, torch, torch._dynamo
torch.cuda.is_available = lambda: True
"""
TELL = """
print(torch.get_float32_matmul_precision(), torch._dynamo.config.compiled_autograd, structlog.is_configured(),
      "gym" in sys.modules, "shimmy_was_imported" in vars(sys))
"""
LEND_GYM = """
from rl_framework.compat.d3rlpy import _gym_from_gymnasium
sys.modules.update(_gym_from_gymnasium())
"""
GYM_IS_INSTALLED = importlib.util.find_spec("gym") is not None


def run(script: str, *flags: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with a folder from which it can import."""
    path = f"import sys\nsys.path.insert(0, {str(folder)!r})\n" if folder is not None else ""
    return subprocess.run(
        [sys.executable, *flags, "-c", path + script], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def shimmy(tmp_path: Path) -> Path:
    """A folder with a package that stands for Shimmy."""
    (tmp_path / "shimmy.py").write_text("import sys\nsys.shimmy_was_imported = True\n")
    return tmp_path


def test_leaves_the_process_as_it_was(shimmy: Path) -> None:
    registered = "before = set(gymnasium.registry)\n"
    script = f"{PRETEND_GPU}{registered}from rl_framework.compat.d3rlpy import import_d3rlpy\nimport_d3rlpy()\n{TELL}"
    result = run(f"{script}assert set(gymnasium.registry) == before", "-W", "error", folder=shimmy)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["highest", "False", "False", str(GYM_IS_INSTALLED), "False"]


def test_leaves_newer_precision_settings_alone() -> None:
    script = f"""{PRETEND_GPU}
torch.backends.cuda.matmul.fp32_precision = "ieee"
torch.backends.fp32_precision = "ieee"
from rl_framework.compat.d3rlpy import import_d3rlpy
import_d3rlpy()
print(torch.backends.cuda.matmul.fp32_precision, torch.backends.fp32_precision)"""
    result = run(script, "-W", "error")
    assert result.stdout.split() == ["ieee", "ieee"], result.stderr


def test_gives_the_same_module_each_time_and_in_every_thread() -> None:
    script = """
from concurrent.futures import ThreadPoolExecutor
from rl_framework.compat.d3rlpy import import_d3rlpy
with ThreadPoolExecutor(4) as pool:
    found = [task.result() for task in [pool.submit(import_d3rlpy) for _ in range(4)]]
print(len({id(each) for each in found}), found[0].__version__ != "")"""
    assert run(script, "-W", "error").stdout.split() == ["1", "True"]


def test_functions_that_it_holds_back_work_again() -> None:
    script = """
import structlog, torch
from rl_framework.compat.d3rlpy import import_d3rlpy
import_d3rlpy()
structlog.configure()
torch.set_float32_matmul_precision("high")
print(structlog.is_configured(), torch.get_float32_matmul_precision())"""
    assert run(script).stdout.split() == ["True", "high"]


def test_a_gym_that_is_there_is_used(tmp_path: Path) -> None:
    gym = tmp_path / "gym"
    gym.mkdir()
    (gym / "__init__.py").write_text(
        "import sys\nfrom rl_framework.compat.d3rlpy import _gym_from_gymnasium\n"
        "made = _gym_from_gymnasium()\nglobals().update(vars(made.pop('gym')) | {'__path__': __path__})\n"
        "sys.modules.update(made)\n"
    )
    script = """
from rl_framework.compat.d3rlpy import import_d3rlpy
import_d3rlpy()
print(sys.modules["gym"].__path__[0])"""
    result = run(script, folder=tmp_path)
    assert result.stdout.strip() == str(gym), result.stderr


def test_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps d3rlpy==2\.8\.1.*'rl_framework\[d3rlpy\]'"):
        import_d3rlpy()


def test_names_the_command_where_a_part_is_missing() -> None:
    script = """
import sys
sys.modules["dataclasses_json"] = None
from rl_framework.compat.d3rlpy import import_d3rlpy
import_d3rlpy()"""
    result = run(script)
    assert "MissingExtraError" in result.stderr
    assert "pip install 'rl_framework[d3rlpy]'" in result.stderr


class TestRepairsAreStillNeeded:
    """Each of these fails with the release of d3rlpy that makes a repair superfluous: take it away then."""

    @pytest.mark.skipif(GYM_IS_INSTALLED, reason="the old gym is installed")
    def test_d3rlpy_imports_the_old_gym(self) -> None:
        """See https://github.com/takuseno/d3rlpy/issues/461."""
        assert "No module named 'gym'" in run("import d3rlpy").stderr

    def test_its_import_flips_switches(self, shimmy: Path) -> None:
        """See https://github.com/takuseno/d3rlpy/pull/428, d3rlpy/logging/logger.py and d3rlpy/__init__.py."""
        lend = "" if GYM_IS_INSTALLED else LEND_GYM
        result = run(f"{PRETEND_GPU}{lend}import d3rlpy\n{TELL}", folder=shimmy)
        assert result.stdout.splitlines()[-1].split() == ["high", "True", "True", "True", "True"], result.stderr

    def test_a_transformer_does_not_save_its_count_of_tokens(self) -> None:
        """See the row of DiscreteDecisionTransformer in the table of algorithms."""
        d3rlpy = import_d3rlpy()
        algorithm = d3rlpy.algos.DiscreteDecisionTransformerConfig(num_layers=1).create()
        algorithm.create_impl((2,), 2)
        assert algorithm.impl._tokens == 0
        assert set(algorithm.impl.modules.create_checkpointer("cpu:0").modules) == {"transformer", "optim"}
