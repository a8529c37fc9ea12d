from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_framework.connectors.json_lines import JsonLines

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
records = st.lists(st.dictionaries(st.text(), plain, max_size=3), max_size=5)


@given(records)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_come_back_in_order(tmp_path: Path, given_records: list[dict[str, Any]]) -> None:
    path = tmp_path / "log.jsonl"
    path.unlink(missing_ok=True)
    lines = JsonLines(path)
    for record in given_records:
        lines.append(record)
    assert list(JsonLines(path).read()) == given_records


def test_a_file_cut_anywhere_gives_its_whole_lines_and_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = JsonLines(path)
    for number in range(3):
        lines.append({"n": number, "text": "ä\n"})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        again = JsonLines(path)
        before = [record["n"] for record in again.read()]
        again.append({"n": "next"})
        assert before == list(range(len(before)))
        assert len(before) >= whole[:cut].count(b"\n")
        assert [record["n"] for record in again.read()] == [*before, "next"]


def test_a_torn_line_is_reported_once_it_is_closed_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2\n{"n": 3}\n{"n"')
    with caplog.at_level(logging.WARNING):
        assert [record["n"] for record in JsonLines(path).read()] == [1, 3]
    assert [record.args for record in caplog.records] == [(2, path)]


def test_a_record_is_on_its_way_to_the_disk_at_once(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "log.jsonl")
    lines.append({"n": 1})
    assert (tmp_path / "log.jsonl").read_text() == '{"n":1}\n'
    lines.flush()
