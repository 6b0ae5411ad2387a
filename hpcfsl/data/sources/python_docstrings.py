"""Real text on every machine: the docstrings of Python's own standard library, to predict the next character of.

Each module or package (`asyncio`, `turtle`, ...) is a natural client: its author's words, its subject, its length. The
files are parsed, never run. Choose it for a language model on real text without a download; the text is that of the
Python that runs, so compare results within one version (Python 3.11 has 135 clients of 20 to 1,512 samples). McMahan et
al. (AISTATS 2017) and the LEAF benchmark did the same with the roles of Shakespeare's plays.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.characters import ALPHABET, cut_windows, encode
from hpcfsl.errors import ConfigError, DataError

_TESTS = {"test", "tests", "idle_test"}


@sources.register
class PythonDocstrings(Source):
    """Windows of the docstrings of Python's standard library, one natural client for each module or package."""

    source: Literal["python-docstrings"] = "python-docstrings"
    """The docstrings of Python's standard library, to predict the next character of."""

    standardise: Literal[False] = False
    """Characters cannot be standardised."""

    positions: int = Field(80, ge=1, le=1_000_000)
    """Characters in a sample."""

    min_samples: int = Field(20, ge=1, le=1_000_000)
    """Modules with fewer samples are left out."""

    def load(self, seed: int) -> Dataset:
        """Return the windows, uint8 [n, positions], modules in alphabetical order; `seed` changes nothing.

        Raises:
            DataError: This Python has no source files of its library.
            ConfigError: No module is long enough.
        """
        texts = [encode(text) for text in read_docstrings(Path(sysconfig.get_path("stdlib"))).values()]
        windows = [cut_windows(text, self.positions) for text in texts if len(text) > self.positions]
        windows = [each for each in windows if len(each) >= self.min_samples]
        if not windows:
            fix = f"no module has so many samples of {self.positions} characters; lower it or data.positions"
            raise ConfigError("data.min_samples", self.min_samples, fix)
        samples = np.concatenate(windows)
        return Dataset(
            name=self.source,
            inputs=samples[:, :-1],
            targets=samples[:, 1:],
            owners=np.repeat(np.arange(len(windows)), [len(each) for each in windows]),
            num_classes=len(ALPHABET),
            test_inputs=None,
            test_targets=None,
            vocabulary=len(ALPHABET),
        )


def read_docstrings(folder: Path) -> dict[str, str]:
    """Return the docstrings of each module or package in `folder` that belongs to the standard library, by name.

    Tests are left out, and files that cannot be read or parsed.
    """
    texts = {}
    for name in sorted(sys.stdlib_module_names - _TESTS):
        found = [text for path in _files_of(folder, name) for text in _docstrings_in(path)]
        if found:
            texts[name] = "\n\n".join(found)
    if not texts:
        raise DataError(f"data.source = 'python-docstrings': no Python files in {folder}; choose 'synthetic-text'")
    return texts


def _files_of(folder: Path, name: str) -> list[Path]:
    module, package = folder / f"{name}.py", folder / name
    inside = sorted(package.rglob("*.py")) if package.is_dir() else []
    return [path for path in (module, *inside) if path.is_file() and not _TESTS & set(path.relative_to(folder).parts)]


def _docstrings_in(path: Path) -> list[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [text for node in (tree, *_definitions(tree)) if (text := ast.get_docstring(node))]


def _definitions(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the classes and functions at the top of a module and in its classes, in order; not those in functions."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif isinstance(child, ast.ClassDef):
            yield child
            yield from _definitions(child)
