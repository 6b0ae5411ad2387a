"""The data sets a run can train on. One file a source; `sources` is the registry.

| choose | when |
|---|---|
| `digits` | trying things out, tests: small, real, with natural clients, no download |
| `fashion-mnist` | an image data set that others use too, or any other of MNIST's family |
| `diabetes`, `breast-cancer` | trying out regression, and classification of a small table, no download |
| `npz`, `hdf5` | your own data, as arrays |
| `python-docstrings` | real text, to predict the next character or token of: natural clients, no download |
| `cifar` | CIFAR-10 or CIFAR-100, for image models that a quick data set does not tell apart |
| `tff-hdf5` | federated data sets as TensorFlow Federated and FedML store them, with their clients |
| `leaf-json` | federated data sets as LEAF stores them, with their users |
| `wav` | spoken words from a folder of recordings, speakers as clients |
| `csv`, `parquet` | your own data, as a table |
| `series` | your own series, to forecast or to classify windows of |
| `text-table` | your own texts, to classify or to rate |
| `flwr-datasets` | partitions that somebody made with flwr-datasets |
| `synthetic` | benchmarks of any shape and size |
| `synthetic-text` | benchmarks of sequence models |
| `synthetic-series` | benchmarks of forecasts |

A source outside this tree subclasses `Source`, and its package names it in the entry point group `hpcfsl.data`.
"""

from __future__ import annotations

from hpcfsl.data.sources import (
    cifar,
    clinical,
    csv_table,
    digits,
    fashion_mnist,
    flwr_hub,
    hdf5,
    leaf_json,
    npz,
    parquet,
    python_docstrings,
    series,
    synthetic,
    synthetic_series,
    synthetic_text,
    text_table,
    tff_hdf5,
    wav,
)
from hpcfsl.data.sources.base import Source, sources

__all__ = [
    "Source",
    "cifar",
    "clinical",
    "csv_table",
    "digits",
    "fashion_mnist",
    "flwr_hub",
    "hdf5",
    "leaf_json",
    "npz",
    "parquet",
    "python_docstrings",
    "series",
    "sources",
    "synthetic",
    "synthetic_series",
    "synthetic_text",
    "text_table",
    "tff_hdf5",
    "wav",
]
