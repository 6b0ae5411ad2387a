from __future__ import annotations

import pytest
from support.mpirun import find_mpirun


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/mpi/" in item.path.as_posix():
            item.add_marker(pytest.mark.mpi)
            if find_mpirun() is None:
                item.add_marker(pytest.mark.skip(reason="no mpirun here"))
