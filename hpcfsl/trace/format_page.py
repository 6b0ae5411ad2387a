"""The text of `docs/trace-format.md`, rendered from the schema so that it cannot drift from it.

Layer 3. Called through `hpcfsl.trace.schema.schema_markdown`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpcfsl.trace.column import Column

_INTRODUCTION = """\
# Trace format {version}

This page is rendered from `hpcfsl/trace/schema.py`; do not edit it by hand. A run folder holds

| path | what |
|---|---|
| `config.toml` | the resolved configuration, every default written out |
| `status` | `running`, `resumable`, `finished` or `failed`; `running` without a held `lock` means `resumable` |
| `lock` | held by the root (a kernel file lock) while it runs |
| `progress.jsonl` | one JSON line a round, for people |
| `stop` | created by anyone: finish this round, checkpoint, leave |
| `trace/segment_AAAAAA_BBBBBB.h5` | the tables of rounds A to B - 1 |
| `updates/rounds_AAAAAA_BBBBBB_rank_RRRR_part_PPPP_start_SSSSSSSS.h5` | recorded updates, some of rounds A to B - 1 |
| `checkpoints/round_BBBBBB.h5` | the state before round B, and the list of all committed files |
| `checkpoints/clients_BBBBBB_rank_RRRR_of_NNNN.h5` | its part that rank R of N wrote: what is remembered of clients |

**What counts.** Only files that the newest checkpoint lists are part of the run. Each entry of its dataset `manifest`
(JSON) has the path, the size and the sha256 of a file. A checkpoint carries its own sha256 in its HDF5 user block:
the first 512 bytes are the line `hpcfsl-checkpoint sha256=... bytes=...`, over everything after them, filled up with
zero bytes.

**Common rules.** Plain HDF5 with superblock 3, readable by HDF5 1.10 and later. Root attributes `format` = `{format}`
and `format_version` = `{version}`; a reader refuses another major version. Every dataset has `units`, `long_name`,
`description` and `deterministic` (1: bit-identical on any number of ranks and across restarts; 0: times, hosts,
ranks). Text is UTF-8 or ASCII of fixed length, codes are small integers with `flag_values` and `flag_meanings`,
nothing has variable length. Every axis has a dimension scale, so `xarray.open_dataset(file, group="participation",
engine="h5netcdf")` opens each group.

**Segments.** One group a table; datasets are compressed (gzip, shuffle) with a fletcher32 checksum. Each group has
the scale `row`, where a table needs them `component` (names of the score components) and `projection`.
`participation` also has `row_start` over `segment_round`: rows of round `segment_round[k]` begin at `row_start[k]`.
Text datasets `config` (TOML) and `provenance` (JSON) and `result_settings` (JSON: the settings that bear on the
result) are at the root, with the attributes `first_round` and `end_round`.

**Updates.** Groups `global`, `group` and `client`, as far as there are vectors of the kind. Each has the dataset
`update` [row, parameter]: flat vectors in model order, client half first, float32 or float16, uncompressed, a chunk a
row with a fletcher32 checksum; `round` [row]; and `group` or `client` [row]. Which file holds which vector depends on
the number of ranks and carries no meaning. S in its name is the start of the run that wrote it: 8 random hexadecimal
digits, so that no start can overwrite what another committed. Up to format 1 every vector was a dataset of its own.

**Checkpoints.** `weights` (float32, flat), `manifest`, `config`, `provenance`, `result_settings`, `component_names`
and the group `arrays` with further state; attributes `next_round` and `segment_start`.

**Hashes.** `update_hash` and `model_hash` tell equal float32 vectors from different ones; they are not cryptographic.
The bytes, filled up with zeros to little-endian words w_0, w_1, ... of 8 bytes, are summed modulo 2^64 as
`low(x) * high(x) + rotate(w, 32)`, where x = w_i XOR (`0xD1B54A32D192ED03` + i * `0x9E3779B97F4A7C15`) and `low` and
`high` are its halves; `0x9E3779B97F4A7C15` times the number of coordinates is added; then twice
h = (h XOR h >> 33) * c, with c = `0xFF51AFD7ED558CCD` and `0xC4CEB9FE1A85EC53`, and at last h XOR h >> 33. Up to format
1.0 they were the first 64 bits of a sha256.

## Tables
"""


def render(
    name: str,
    version: str,
    tables: Mapping[str, tuple[Column, ...]],
    titles: Mapping[str, str],
    keys: Mapping[str, tuple[str, ...]],
) -> str:
    """Return the whole page as Markdown."""
    parts = [_INTRODUCTION.format(format=name, version=version)]
    parts += [_table(table, columns, titles[table], keys[table]) for table, columns in tables.items()]
    return "\n".join(parts)


def _table(name: str, columns: tuple[Column, ...], title: str, keys: tuple[str, ...]) -> str:
    head = f"### `/{name}`\n\n{title[0].upper()}{title[1:]}; sorted by {', '.join(f'`{key}`' for key in keys)}.\n"
    lines = ["| column | type | units | deterministic | meaning |", "|---|---|---|---|---|"]
    return "\n".join([head, *lines, *(_line(column) for column in columns), ""])


def _line(column: Column) -> str:
    axes = "[row]" if column.axis is None else f"[row, {column.axis}]"
    names = ", ".join(f"{value} {flag}" for value, flag in enumerate(column.flags))
    codes = f" Codes: {names}." if names else ""
    fixed = "yes" if column.deterministic else "no"
    return f"| `{column.name}` | {column.dtype} {axes} | {column.units} | {fixed} | {column.description}{codes} |"
