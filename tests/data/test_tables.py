"""Tables in CSV and Parquet: columns of every kind, and broken files."""

from __future__ import annotations

import csv
import io
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources, tables
from hpcfsl.errors import ConfigError, DataError, UserError

Columns = dict[str, list[Any]]
PEOPLE: Columns = {
    "age": [30, 41, 25],
    "city": ["Ulm", "Bonn", "Ulm"],
    "height": [1.5, 2.0, 1.75],
    "who": ["eve", "bob", "eve"],
    "ill": ["yes", "no", "maybe"],
}


def write_csv(path: Path, columns: Columns, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_parquet(path: Path, columns: Columns) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, row_group_size=2)
    return path


WRITERS = {"csv": write_csv, "parquet": write_parquet}


def load(path: Path, **changes: Any) -> Dataset:
    source = "parquet" if path.suffix == ".parquet" else "csv"
    return sources.parse({"source": source, "file": str(path), "label": "ill", **changes}).load(0)


@pytest.fixture(params=list(WRITERS))
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda columns, name="a": WRITERS[request.param](tmp_path / f"{name}.{request.param}", columns)


def test_columns_become_inputs_classes_and_clients(write: Any) -> None:
    dataset = load(write(PEOPLE), client="who")
    # age, city (Bonn, Ulm), height
    np.testing.assert_array_equal(dataset.inputs, [[30, 0, 1, 1.5], [41, 1, 0, 2.0], [25, 0, 1, 1.75]])
    assert dataset.inputs.dtype == np.float32
    assert dataset.targets.tolist() == [2, 1, 0]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [1, 0, 1]
    assert (dataset.num_classes, dataset.test_inputs) == (3, None)


def test_chosen_columns_and_numbered_categories(write: Any) -> None:
    dataset = load(write(PEOPLE), features=["city", "age"], categories="number")
    np.testing.assert_array_equal(dataset.inputs, [[1, 30], [0, 41], [1, 25]])
    assert dataset.owners is None


def test_the_test_file_shares_categories_and_classes(write: Any) -> None:
    train = write({"city": ["a", "c"], "ill": [10, 9]})
    test = write({"city": ["b"], "ill": [100]}, "test")
    dataset = load(train, test_file=str(test))
    np.testing.assert_array_equal(dataset.inputs, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(dataset.test_inputs, [[0, 1, 0]])
    assert dataset.targets.tolist() == [1, 0]
    assert dataset.test_targets is not None
    assert dataset.test_targets.tolist() == [2]


def test_pieces_make_no_difference(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: Columns = {"n": list(range(9)), "t": list("123456x89"), "ill": list("abcabcabc")}
    path = write(columns)
    whole = load(path)
    for module in (tables, __import__("hpcfsl.data.sources.csv_table", fromlist=["x"])):
        monkeypatch.setattr(module, "PIECE_ROWS", 2)
    np.testing.assert_array_equal(load(path).inputs, whole.inputs)
    assert whole.inputs.shape == (9, 10)


def test_types_of_parquet(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        {"flag": [True, False], "money": [Decimal("1.50"), Decimal("2.25")], "ill": [1, 0], "who": [7, 6]},
    )
    dataset = load(path, client="who")
    np.testing.assert_array_equal(dataset.inputs, [[1, 1.5], [0, 2.25]])
    assert dataset.targets.tolist() == [1, 0]


def test_csv_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufeffx; y;ill\r\n1;"a;b";n\r\n\r\n2;c;j\r\n'.encode())
    dataset = load(tmp_path / "a.csv", delimiter=";")
    np.testing.assert_array_equal(dataset.inputs, [[1, 1, 0], [2, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "il"}, r"data\.label = 'il': unknown; did you mean 'ill'\?"),
        ({"client": "whom"}, r"data\.client = 'whom': unknown; did you mean 'who'\?"),
        ({"features": ["age", "size"]}, r"data\.features = 'size': unknown"),
    ],
)
def test_columns_that_do_not_exist(write: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(PEOPLE), **changes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**PEOPLE, "age": [30, None, 25]}, r"row 2, column 'age': is empty or not finite; fill it in or remove"),
        ({**PEOPLE, "ill": ["yes", "no", None]}, r"row 3, column 'ill': is empty"),
        ({"ill": ["a"]}, "has no column besides label and client"),
        ({"age": [], "ill": []}, "has no rows"),
        ({"age": [1e300], "ill": ["a"]}, "row 0 of inputs has a value that is not finite"),
    ],
)
def test_tables_that_cannot_be_used(write: Any, columns: Columns, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(columns))


def test_a_test_file_without_a_column(write: Any) -> None:
    with pytest.raises(DataError, match=r"test\..*: has no column 'age'; give it the columns of data\.file"):
        load(write(PEOPLE), test_file=str(write({"ill": ["yes"], "city": ["Ulm"]}, "test")))


def test_a_slip_in_a_column_of_numbers_is_found(tmp_path: Path) -> None:
    numbers: list[Any] = [*range(2000), "12a"]
    with pytest.raises(DataError, match=r"row 2001, column 'n': '12a' is no number; mend it, or leave the column out"):
        load(write_csv(tmp_path / "a.csv", {"n": numbers, "ill": [0] * 2001}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,ill\n1,2,3\n", "row 1 has 3 cells, not 2; mend it"),
        (b"a,a,ill\n1,2,3\n", "has two columns 'a'; rename one"),
        (b'a,ill\n"1,2\n', r"line 2 or soon after is no CSV"),
        (b"a,ill\n\xff,2\n", r"line . or soon after is no CSV in UTF-8"),
        (b"a,ill\nnan,2\ninf,3\n", ""),
    ],
)
def test_broken_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    if message:
        with pytest.raises(DataError, match=message):
            load(tmp_path / "a.csv")
    else:  # words that only look like numbers are categories
        assert load(tmp_path / "a.csv").inputs.tolist() == [[0, 1], [1, 0]]


def test_a_type_that_is_no_input(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"tags": [["a"], ["b"]], "n": [1, 2], "ill": [0, 1]})
    with pytest.raises(DataError, match=r"column 'tags' is of type list<.*; give numbers or texts, or leave it out"):
        load(path)
    assert load(path, features=["n"]).inputs.tolist() == [[1], [2]]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pyarrow is missing; run: pip install 'hpcfsl\[parquet\]'"):
        load(tmp_path / "a.parquet")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.file = .*there is no such file"):
        load(tmp_path / "none.csv")


GOOD_CSV = b'a,b,ill\n1,"x",yes\n2,y,no\n'


def good_parquet() -> bytes:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    parquet.write_table(arrow.table({"a": [1.5, 2.5, 3.5], "b": ["x", "y", "x"], "ill": [0, 1, 0]}), stream)
    return stream.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(GOOD_CSV) | st.text(alphabet='ab1,"\n\r ill', max_size=30).map(lambda text: b"a,ill\n" + text.encode()))
def test_a_broken_csv_is_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert "Traceback" not in complaint(lambda: load(tmp_path / "a.csv"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_broken_parquet_file_is_never_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "a.parquet").write_bytes(data.draw(broken(good_parquet())))
    assert "Traceback" not in complaint(lambda: load(tmp_path / "a.parquet"))


class TestNumbersToPredict:
    """`data.target = "number"`."""

    COLUMNS: Columns = {"age": [30, 41, 25], "ill": [1.5, -2.0, 1e6], "cost": [7, 8, 9], "who": ["b", "a", "b"]}

    def test_one_column(self, write: Any) -> None:
        dataset = load(write(self.COLUMNS), target="number", client="who", features=["age"])
        assert (dataset.num_classes, dataset.num_outputs, dataset.target_shape) == (0, 1, (1,))
        assert dataset.targets.tolist() == [[1.5], [-2.0], [1e6]]
        assert dataset.inputs.tolist() == [[30], [41], [25]]
        assert dataset.owners is not None
        assert dataset.owners.tolist() == [1, 0, 1]

    def test_several_columns_and_a_test_file(self, write: Any) -> None:
        path, test = write(self.COLUMNS), write(self.COLUMNS, "test")
        dataset = load(path, target="number", more_labels=["cost"], client="who", test_file=str(test))
        assert dataset.targets.tolist() == [[1.5, 7], [-2.0, 8], [1e6, 9]]
        assert dataset.inputs.tolist() == [[30], [41], [25]]
        assert dataset.test_targets is not None
        assert dataset.test_targets.tolist() == dataset.targets.tolist()

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"label": "who"}, "row 1, column 'who': 'b' is no number; mend it, or set data.target = 'class'"),
            ({"label": "age", "more_labels": ["costs"]}, "data.more_labels = 'costs': unknown; did you mean 'cost'"),
            ({"target": "class", "more_labels": ["cost"]}, "is for numbers; set data.target = 'number'"),
        ],
    )
    def test_what_is_none_is_named(self, write: Any, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(UserError) as caught:
            load(write(self.COLUMNS), **{"target": "number", **changes})
        assert text in str(caught.value)

    def test_a_missing_number_is_named(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "a.csv", {"x": [1, 2], "ill": [0.5, ""]})
        with pytest.raises(DataError, match="row 2, column 'ill': is empty"):
            load(tmp_path / "a.csv", target="number")
