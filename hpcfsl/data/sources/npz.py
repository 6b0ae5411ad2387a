"""Your own data, as one file of numpy arrays.

`numpy.savez("mine.npz", x=..., y=..., client=...)` writes a file that loads as it is; `hpcfsl.data.sources.arrays` says
what the arrays are. Arrays of Python objects are refused: reading them would execute code from the file.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.sources.arrays import OPTIONAL, REQUIRED, ArrayFile
from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.files import check_fits, file_error
from hpcfsl.errors import DataError


@sources.register
class Npz(ArrayFile):
    """Samples, classes and clients from an .npz file."""

    source: Literal["npz"] = "npz"
    """Arrays x, y and perhaps client, x_test and y_test in one .npz file."""

    how_to_write: ClassVar[str] = "numpy.savez(file, x=..., y=...)"

    file: str = Field(min_length=1)
    """Path of the .npz file."""

    def read(self, path: Path) -> dict[str, NDArray[Any]]:
        """Return the arrays of the archive."""
        # Everything that numpy, zipfile and zlib raise for a damaged file; MemoryError for a shape beyond all bounds.
        try:
            # Opened here, because numpy leaves a file that is no archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in archive.files]
                for name in wanted:
                    check_fits(path, f"array {name}", archive.zip.getinfo(f"{name}.npy").file_size)
                return {name: archive[name] for name in wanted}
        except DataError:
            raise
        except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, MemoryError) as error:
            raise file_error(path, f"cannot be read as .npz ({error}); write it with numpy.savez") from None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise file_error(path, f"is damaged ({error}); write it again with numpy.savez") from None
