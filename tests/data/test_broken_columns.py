"""Series and texts from files of others: whatever the bytes are, the answer is data or one line that names the file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.broken import broken, complaint

from hpcfsl.data.sources import sources

ROWS = 12
COLUMNS: dict[str, Any] = {
    "x": np.arange(ROWS) * 0.5,
    "t": np.array([f"2024-01-{day:02d}" for day in range(1, ROWS + 1)]),
    "who": np.array(["a", "b"] * (ROWS // 2)),
}
SERIES = {"source": "series", "values": ["x"], "horizon": 1, "window": 1, "time": "t", "client": "who"}
TEXTS = {"source": "text-table", "text": "t", "label": "x", "target": "number", "client": "who", "positions": 3}
QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_csv() -> bytes:
    rows = zip(*COLUMNS.values(), strict=True)
    return "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)]).encode()


def as_npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **COLUMNS)
    return stream.getvalue()


def as_parquet() -> bytes:
    arrow = pytest.importorskip("pyarrow")
    stream = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(COLUMNS), stream)
    return stream.getvalue()


@pytest.mark.parametrize("tree", [SERIES, TEXTS], ids=["series", "texts"])
@pytest.mark.parametrize("write", [as_csv, as_npz, as_parquet])
@QUIET
@given(data=st.data())
def test_a_broken_file_is_never_a_traceback(tree: dict[str, Any], write: Any, tmp_path: Path, data: Any) -> None:
    path = tmp_path / f"a.{write.__name__[3:]}"
    path.write_bytes(data.draw(broken(write())))
    complaint(lambda: sources.parse({**tree, "file": str(path)}).load(0))


def test_a_file_of_blank_lines_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\n\n")
    told = complaint(lambda: sources.parse({**TEXTS, "file": str(tmp_path / "a.csv")}).load(0))
    assert "is empty; get the file again" in told


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(9.0))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../x.npy", stream.getvalue())
    told = complaint(lambda: sources.parse({**SERIES, "file": str(tmp_path / "a.npz")}).load(0))
    assert told.startswith("data.values = 'x': unknown")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**COLUMNS, "x": np.array([{}] * ROWS, object)}, allow_pickle=True)
    told = complaint(lambda: sources.parse({**SERIES, "file": str(tmp_path / "a.npz")}).load(0))
    assert "a.npz: cannot be read as .npz (Object arrays cannot be loaded" in told
