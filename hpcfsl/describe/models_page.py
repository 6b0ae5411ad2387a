"""The text of `docs/models.md`, rendered from the models so that it cannot drift from them.

Layer 4. Only what is built in is listed. Write the page anew with
`python -c "from hpcfsl.describe.models_page import render; print(render(), end='')" > docs/models.md`.
"""

from __future__ import annotations

import inspect
import re
import sys
from itertools import groupby

from hpcfsl.describe.catalogue import Entry, Wanted, list_models
from hpcfsl.describe.catalogue_screen import meanings, numbers_of, samples_of

_INTRODUCTION = """\
# Models

Every model of `[model]`, by what it is for, with what each cut costs. `hpcfsl models` prints the same for the models
that are installed, those of other packages too; `hpcfsl models NAME --shape 3x64x64 --set model.width=32` for other
samples and settings; `--json` for programs. [configuration.md](configuration.md) has the settings with their bounds,
[extending.md](extending.md) how to add a model.

- **A cut** is after a named layer: `model.cut`, or `"none"` to leave all on the client. The two halves in a row compute
  the very bits of the whole, and under `splitfed-v1` training is that of the whole model at every cut. So the cut
  decides what a client computes, stores and sends, and what its smashed data give away, not what is learned.
- **Where to cut.** The further down, the more the client computes and holds, and the less of a sample can be told from
  its smashed data. Smashed data and their gradients go over the wire for every sample in every local epoch: cut after a
  pooling layer, not before it. The default of each model is a cheap client half behind the first layers.
- **Residual blocks** are cut between, never inside, where the shortcut would be a second tensor to send.
- **Classes or numbers.** Every model tells classes or numbers, as the data's targets are; language models tell a class
  at each position.
- **MFLOP** are millions of floating-point operations of training on one sample, forward and backward: products of
  matrices, convolutions and attention, a multiplication and an addition being two.
- **How fast** a model trains depends on the executor: the compiled engine takes those whose layers are in a row,
  `stacked` all of them. A run's first event says which was chosen, and why.
"""

_TITLES = {"image": "Images", "speech": "Speech", "text": "Text", "forecast": "Tables and forecasts", "other": "Others"}
_HEAD = (
    "| cut | client parameters | server parameters | client MFLOP | server MFLOP | smashed data |\n|---|" + "---:|" * 5
)


def render() -> str:
    """Return the whole page as Markdown."""
    entries, _ = list_models(Wanted())
    own = [entry for entry in entries if type(entry.settings).__module__.startswith("hpcfsl.")]
    parts = [_INTRODUCTION]
    for kind, group in groupby(own, lambda entry: entry.settings.kind):
        parts += [f"## {_TITLES[kind]}\n", *map(_model, group)]
    return "\n".join(parts)


def _model(entry: Entry) -> str:
    rows = []
    for cut in entry.cuts:
        mark = " (default)" if cut.name == entry.settings.cut else ""
        rows.append(f"| `{cut.name}`{mark} | {' | '.join(numbers_of(cut))} |")
    sentences = [f"- `{name}`: {sentence}" for name, sentence in meanings(entry).items()]
    return "\n".join(
        [
            f"### `{entry.name}`\n",
            f"{_story(entry)}\n",
            f"{entry.parameters:,} parameters for {samples_of(entry)}:\n",
            _HEAD,
            *rows,
            "",
            *sentences,
            *_further(entry),
            "",
        ]
    )


def _further(entry: Entry) -> list[str]:
    """Return the sentences on cut points that other samples or settings give."""
    known = meanings(entry)
    return [f"- `{name}`: {sentence}" for name, sentence in entry.settings.cuts.items() if name not in known]


def _story(entry: Entry) -> str:
    """Return what the model's module says of it: what it is, from where, and when to choose it."""
    text = inspect.getdoc(sys.modules[type(entry.settings).__module__]) or ""
    return re.sub(r"^Layer 1\. ", "", text, flags=re.MULTILINE)
