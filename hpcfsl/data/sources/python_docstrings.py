"""Real text on every machine: the docstrings of Python's own standard library, to predict the next symbol of.

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
from hpcfsl.data.sources.characters import cut_windows
from hpcfsl.data.sources.tokens import (
    LEARNT,
    MAX_VOCABULARY,
    MIN_VOCABULARY,
    Characters,
    Tokeniser,
    make_tokeniser,
)
from hpcfsl.errors import ConfigError, DataError

_TESTS = {"test", "tests", "idle_test"}


@sources.register
class PythonDocstrings(Source):
    """Windows of the docstrings of Python's standard library, one natural client for each module or package."""

    source: Literal["python-docstrings"] = "python-docstrings"
    """The docstrings of Python's standard library, to predict the next character, word or part of a word of."""

    standardise: Literal[False] = False
    """Symbols cannot be standardised."""

    unit: Literal["character", "word", "byte-pair"] = "character"
    """What a symbol stands for; words and pairs are learnt from the training text alone."""

    vocabulary: int = Field(1024, ge=MIN_VOCABULARY, le=MAX_VOCABULARY)
    """word, byte-pair: number of symbols, at most."""

    positions: int = Field(80, ge=1, le=1_000_000)
    """Symbols in a sample."""

    test_share: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of each module's text, its end, that is the test set; 0 to have the partition hold out samples, which words
    and pairs cannot be learnt with."""

    min_samples: int = Field(20, ge=1, le=1_000_000)
    """Modules with fewer samples are left out."""

    def load(self, seed: int) -> Dataset:
        """Return the windows, [n, positions] whole numbers, modules in alphabetical order; `seed` changes nothing.

        Raises:
            DataError: This Python has no source files of its library.
            ConfigError: No module is long enough, or symbols would be learnt from test texts.
        """
        if self.unit in LEARNT and not self.test_share:
            fix = "is learnt from the training text, so that must be known beforehand; set data.test_share, to 0.2 say"
            raise ConfigError("data.unit", self.unit, fix)
        texts = list(read_docstrings(Path(sysconfig.get_path("stdlib"))).values())
        halves = [_divide(text, self.test_share) for text in texts]
        tokeniser = self._make_tokeniser([before for before, _ in halves])
        windows = [[cut_windows(tokeniser.encode(part), self.positions) for part in both] for both in halves]
        windows = [both for both in windows if len(both[0]) >= self.min_samples]
        if not windows:
            fix = f"no module has so many samples of {self.positions} symbols; lower it or data.positions"
            raise ConfigError("data.min_samples", self.min_samples, fix)
        train, test = (np.concatenate([both[part] for both in windows]) for part in (0, 1))
        owners, test_owners = (
            np.repeat(np.arange(len(windows)), [len(both[part]) for both in windows]) for part in (0, 1)
        )
        return Dataset(
            name=self.source,
            inputs=train[:, :-1],
            targets=train[:, 1:],
            owners=owners,
            num_classes=tokeniser.vocabulary,
            test_inputs=test[:, :-1] if len(test) else None,
            test_targets=test[:, 1:] if len(test) else None,
            vocabulary=tokeniser.vocabulary,
            test_owners=test_owners if len(test) else None,
        )

    def _make_tokeniser(self, texts: list[str]) -> Tokeniser:
        if self.unit == "character":
            return Characters(first=0)  # no sample is filled up
        return make_tokeniser(self.unit, self.vocabulary, texts)


def _divide(text: str, test_share: float) -> tuple[str, str]:
    """Return a text without its end, and the end."""
    split = len(text) - round(len(text) * test_share)
    return text[:split], text[split:]


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
