"""The commands `models`, `data describe`, `data fetch` and `bytes`: what can be known before anything is trained.

Nothing but parsing and calling; `hpcfsl.cli` enters them, and everything they call is imported when a command needs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from hpcfsl.arguments import FILE, FOLDER, with_json, with_overrides
from hpcfsl.errors import UserError


@click.command()
@click.argument("name", required=False)
@click.option("--shape", metavar="AxBxC", help="Shape of a sample; else the model's usual one.")
@click.option("--outputs", type=click.IntRange(1, 10_000_000), help="Classes, or numbers, to be told of a sample.")
@click.option("--vocabulary", type=click.IntRange(1, 10_000_000), help="Symbols, for models of text.")
@click.option("--set", "overrides", multiple=True, metavar="model.KEY=VALUE", help="Override one setting of NAME.")
@with_json
def models(
    name: str | None,
    shape: str | None,
    outputs: int | None,
    vocabulary: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the models with what each of their cuts costs; with NAME one of them, its cuts explained, its settings."""
    from hpcfsl.describe import catalogue
    from hpcfsl.describe.catalogue_screen import print_model, print_models

    wanted = catalogue.Wanted(
        shape=catalogue.read_shape(shape) if shape else None, num_outputs=outputs, vocabulary=vocabulary
    )
    if name is None:
        if overrides:
            raise UserError(f"--set {overrides[0]}: goes with the NAME of a model")
        entries, refused = catalogue.list_models(wanted)
        if as_json:
            click.echo(json.dumps([entry.tree() for entry in entries], indent=2))
        else:
            print_models(entries, refused)
        return
    entry = catalogue.look_at(catalogue.read_settings(name, overrides), wanted)
    if as_json:
        click.echo(json.dumps(entry.tree(), indent=2))
    else:
        print_model(entry)


@click.group()
def data() -> None:
    """Look at data before training on it."""


@data.command("describe")
@click.argument("config", type=FILE)
@with_overrides
@click.option("--clients", type=click.IntRange(min=0), default=20, show_default=True, help="Lines of the table.")
@click.option("--picture", type=FILE, help="Draw the classes of each client into this PNG file.")
def describe_data(config: Path, overrides: tuple[str, ...], clients: int, picture: Path | None) -> None:
    """Say what the clients of a configuration would hold: samples, classes and how they differ. Trains nothing."""
    from hpcfsl.config import load
    from hpcfsl.describe.description import describe
    from hpcfsl.describe.picture import draw
    from hpcfsl.describe.screen import print_description
    from hpcfsl.trace.folder import folder_errors, write_atomic

    found = describe(load(config, overrides))
    print_description(found, clients=clients)
    if picture is not None:
        content = draw(found)
        with folder_errors(picture):
            write_atomic(picture, content)


@data.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--out", type=FOLDER, default="data", show_default=True, help="Folder to write NAME.npz into.")
def fetch_data(names: tuple[str, ...], out: Path) -> None:
    """Download public data sets by exact version and hash; without NAME, all.

    NAME is one of japanese-vowels, smartwatch, vader, vader-documents, vowels.
    """
    from hpcfsl.data.fetch import DOWNLOADS, fetch
    from hpcfsl.settings import suggest

    for name in names:
        if name not in DOWNLOADS:
            raise UserError(f"data fetch {name}: {suggest(name, sorted(DOWNLOADS))}")
    for name in names or sorted(DOWNLOADS):
        click.echo(fetch(name, out))


@click.command("bytes")
@click.argument("configs", nargs=-1, type=FILE, metavar="[CONFIG]...")
@click.option("--protocol", "names", multiple=True, metavar="NAME", help="Count under this protocol; may be repeated.")
@click.option("--model", "chosen", multiple=True, metavar="NAME", help="Without CONFIG: only this model.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=100, show_default=True, help="Without CONFIG: of a client."
)
@click.option("--short", is_flag=True, help="A line a model, a column a protocol: all up and all down.")
@with_overrides
def count_bytes(
    configs: tuple[Path, ...],
    names: tuple[str, ...],
    chosen: tuple[str, ...],
    samples: int,
    short: bool,
    overrides: tuple[str, ...],
) -> None:
    """Say what a client sends and receives in a round, by kind, as a Markdown table. Trains nothing.

    The mean over the clients of each CONFIG, under its own protocol unless others are named. Without CONFIG: every
    model on an example of what it is for, under every protocol.
    """
    from hpcfsl.config import load, load_text
    from hpcfsl.describe.traffic import configured_traffic, example_traffic, markdown, short_markdown
    from hpcfsl.models import models
    from hpcfsl.training.protocols import protocols

    for name in names:
        protocols.get(name)
    for name in chosen:
        models.get(name)
    if configs:
        rows = [row for path in configs for row in configured_traffic(load(path, overrides), names)]
    else:
        base = load_text("", overrides)
        rows = list(example_traffic(base, chosen or tuple(models.names()), names or tuple(protocols.names()), samples))
    click.echo(short_markdown(rows) if short else markdown(rows), nl=False)
