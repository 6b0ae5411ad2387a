"""The one table of what a run records. It drives the writer, the reader, `docs/trace-format.md` and the tests.

Layer 3. To record one more thing, add a `Column` here and let the round fill it: nothing else changes. Names are the
method's nouns. `deterministic` columns are bit-identical on any number of ranks and across restarts and make up the
digest of a run; the others (seconds, hosts, ranks) do not.
"""

from __future__ import annotations

from typing import Any

from hpcfsl.trace.column import Column
from hpcfsl.trace.format_page import render

FORMAT = "hpcfsl-trace"
FORMAT_VERSION = "2.2"
NAN = float("nan")


def _column(name: str, dtype: str, long_name: str, description: str, **rest: Any) -> Column:
    if dtype.startswith("f"):
        rest.setdefault("missing", NAN)
    rest = {"units": "1", "deterministic": True, **rest}
    return Column(name=name, dtype=dtype, long_name=long_name, description=description, **rest)


def _bytes(name: str, long_name: str, description: str) -> Column:
    return _column(name, "i8", long_name, description, units="byte")


_ROUND = _column("round", "i4", "round", "Number of the round, from 0.")
_CLIENT = _column("client", "i8", "client", "Number of the client, from 0.")
_TRUTH = "The truth about a simulated client; the method never sees it."
_ATTACKER = _column("attacker", "i1", "attacker", _TRUTH, flags=("honest", "attacker"))
_RANK = _column("rank", "i4", "rank", "Number of the rank.", deterministic=False)

_HELD_OUT = _column("held_out", "i1", "held out", "Whether the client never trains.", flags=("no", "yes"))

_PARTICIPATION = (
    _ROUND,
    _CLIENT,
    _column("group", "i4", "group", "Group the client was in this round."),
    _column("credit_score", "f8", "credit score", "Higher is more suspicious; +inf for a non-finite update."),
    _column("components", "f8", "score components", "The parts of the credit score, one a name.", axis="component"),
    _column("raw_threshold", "f8", "raw threshold", "Threshold of the client's group as its rule gave it."),
    _column("threshold", "f8", "threshold", "Threshold in effect: excluded exactly where credit score > threshold."),
    _column(
        "screening_score",
        "f8",
        "screening score",
        "Robust standard deviations of the client's smashed data above its group's median, before training: screened "
        "exactly where it is above the screening threshold. +inf for data that are not finite; NaN without screening.",
        optional=True,
    ),
    _column("influence", "f8", "influence", "Factor of the credit score in the scaling coefficient."),
    _column("share", "f8", "share", "Influence times score over its sum in the group."),
    _column("raw_scaling", "f8", "raw scaling coefficient", "Share times the normalisation factor, before any bounds."),
    _column("scaling", "f8", "scaling coefficient", "Scaling coefficient in effect, within its bounds."),
    _column(
        "loss_information",
        "f8",
        "loss information",
        "What the weight took a step along; in the model reading the norm of the pseudo-gradient.",
    ),
    _column("weight_before", "f8", "weight before", "Weight before this round; in the model reading the data share."),
    _column(
        "weight",
        "f8",
        "target update weight",
        "Weight after this round; in the model reading the same as the coefficient.",
    ),
    _column("coefficient", "f8", "coefficient", "Factor of the first model update in its group's second model update."),
    _column(
        "status",
        "i1",
        "status",
        "What became of the client's update this round.",
        flags=("kept", "excluded", "non-finite", "withheld", "lost", "screened"),
    ),
    _column(
        "fault",
        "i1",
        "fault",
        "What happened to the client this round. After dropped-* and late its upload never arrives: its status is "
        "lost.",
        flags=("none", "dropped-before", "dropped-during", "dropped-after", "late", "nan", "infinity", "huge"),
    ),
    _ATTACKER,
    _column("loss_first", "f8", "first loss", "Mean training loss over the client's first local epoch."),
    _column("loss_last", "f8", "last loss", "Mean training loss over the client's last local epoch."),
    _column("norm", "f8", "norm", "Euclidean norm of the first model update before any clip."),
    _column(
        "uploaded_norm",
        "f8",
        "uploaded norm",
        "Euclidean norm of the update as uploaded, before any clip by the aggregator.",
    ),
    _column("num_samples", "i8", "samples", "Training samples of the client."),
    _column("num_steps", "i8", "local steps", "Local steps the client took this round."),
    _bytes("bytes_smashed_up", "smashed data up", "Smashed data sent by the client."),
    _bytes("bytes_gradients_down", "cut gradients down", "Cut gradients sent to the client."),
    _bytes("bytes_labels_up", "labels up", "Labels sent by the client."),
    _bytes("bytes_outputs_down", "outputs down", "Outputs of the server's part sent to the client, for its tail."),
    _bytes("bytes_output_gradients_up", "output gradients up", "Gradients of these outputs sent by the client."),
    _bytes("bytes_model_up", "model up", "Model update sent by the client."),
    _bytes("bytes_model_down", "model down", "Model sent to the client."),
    _column(
        "virtual_seconds",
        "f8",
        "virtual seconds",
        "Virtual time from the start of the round until the client was done or gone; NaN without a clock.",
        units="s",
    ),
    _column("settings_hash", "u8", "settings hash", "Hash of the settings the client trained under."),
    _column(
        "update_hash",
        "u8",
        "update hash",
        "Hash of the bits of the first model update as its aggregator used it.",
        bits=True,
    ),
    _column(
        "sketch",
        "f4",
        "sketch",
        "Seeded random projection of the first model update as its aggregator used it.",
        axis="projection",
    ),
)

_GROUP_ROUNDS = (
    _ROUND,
    _column("group", "i4", "group", "Number of the group in this round."),
    _RANK,
    _column("num_clients", "i4", "clients", "Clients in the group."),
    _column("num_lost", "i4", "lost clients", "Clients of the group whose upload never arrived."),
    _column("num_excluded", "i4", "excluded clients", "Clients of the group whose update was excluded."),
    _column("num_survivors", "i4", "survivors", "Clients of the group whose update was kept."),
    _column("num_attackers", "i4", "attackers", "Simulated attackers in the group, excluded or not."),
    _column("status", "i1", "status", "What became of the group's update.", flags=("used", "withheld", "empty")),
    _column("raw_threshold", "f8", "raw threshold", "Threshold as its rule gave it."),
    _column("threshold", "f8", "threshold", "Threshold in effect."),
    _column(
        "screening_threshold",
        "f8",
        "screening threshold",
        "Screening score above which a client's smashed data are left out; NaN without screening.",
        optional=True,
    ),
    _column("mass", "f8", "mass", "Weight of the group before the rule across groups."),
    _column("coefficient", "f8", "coefficient", "Weight of the group's second model update in the global update."),
    _column("norm", "f8", "norm", "Euclidean norm of the second model update."),
    _column("distance", "f8", "distance", "Euclidean distance of the second model update to the global update."),
    _column(
        "num_replayed",
        "i8",
        "replayed samples",
        "Samples, counted in each epoch, on which the group's shared server half was trained again without the "
        "excluded clients.",
    ),
    _bytes("bytes_across_up", "bytes across groups up", "Sent by the group's aggregator."),
    _bytes("bytes_across_down", "bytes across groups down", "Sent to the group's aggregator."),
)

_ROUNDS = (
    _ROUND,
    _column("num_participants", "i8", "participants", "Clients that took part, lost ones among them."),
    _column("num_lost", "i8", "lost clients", "Clients whose upload never arrived."),
    _column("num_groups", "i4", "groups", "Groups formed."),
    _column("num_used_groups", "i4", "used groups", "Groups whose second model update entered the global update."),
    _column("num_excluded", "i8", "excluded clients", "Clients whose update was excluded."),
    _column("num_attackers", "i8", "attackers", "Simulated attackers that took part."),
    _column("num_attackers_excluded", "i8", "excluded attackers", "Simulated attackers whose update was excluded."),
    _column("moved", "i1", "moved", "Whether the global model changed.", flags=("no", "yes")),
    _column("update_norm", "f8", "update norm", "Euclidean norm of the global update."),
    _column(
        "reduction_difference",
        "f8",
        "reduction difference",
        "Largest difference of the float32 sum over groups to the exact one, on a sample of the coordinates, over the "
        "largest magnitude there; NaN where the sum is the exact one.",
        deterministic=False,
    ),
    _column("model_hash", "u8", "model hash", "Hash of the bits of the global model after the round.", bits=True),
    _column("train_loss", "f8", "training loss", "Mean training loss over the participants' samples."),
    _column(
        "test_accuracy",
        "f8",
        "test accuracy",
        "Share of the test samples, or positions, classed right; NaN where not evaluated.",
    ),
    _column("test_loss", "f8", "test loss", "Mean loss on the global test set; NaN where not evaluated."),
    *(
        _column(f"client_accuracy_{name}", "f8", f"client accuracy, {title}", f"The {title}; NaN where not evaluated.")
        for name, title in [
            ("mean", "mean over clients"),
            ("min", "smallest over clients"),
            ("p10", "10th percentile over clients"),
            ("median", "median over clients"),
            ("max", "largest over clients"),
        ]
    ),
    _bytes("bytes_up", "bytes up", "All that clients and groups sent."),
    _bytes("bytes_down", "bytes down", "All that was sent to clients and groups."),
    _column("virtual_seconds", "f8", "virtual seconds", "Virtual time of the round; NaN without a clock.", units="s"),
    _column("virtual_time", "f8", "virtual time", "Virtual time of all rounds up to this one.", units="s"),
    _column("seconds", "f8", "seconds", "Wall-clock time of the round on the root.", units="s", deterministic=False),
)

_EVALUATION = (
    _ROUND,
    _CLIENT,
    _column(
        "num_samples", "i8", "test samples", "Test samples of the client, or all their positions that have a class."
    ),
    _column("num_correct", "i8", "correct", "How many of them were classed right."),
    _column("accuracy", "f8", "accuracy", "Correct over test samples; NaN where the client has none."),
    _column("loss", "f8", "loss", "Mean loss over the client's test samples; NaN where it has none."),
    _column("macro_f1", "f8", "macro-F1", "Mean F1 over the classes predicted or true there; NaN for numbers."),
    _column("mae", "f8", "mean absolute error", "In the units of the data; NaN for classes."),
    _column("rmse", "f8", "root mean squared error", "In the units of the data; NaN for classes."),
    _column("r2", "f8", "coefficient of determination", "NaN for classes, and where the true numbers have no spread."),
    _HELD_OUT,
)

POPULATIONS = ("test", "clients", "held-out-clients", "naive")
METRICS = ("accuracy", "loss", "macro-f1", "perplexity", "mae", "rmse", "r2", "smashed-error")
_METRICS = (
    _ROUND,
    _column(
        "population",
        "i1",
        "population",
        "Whose samples: test is the global test set, clients the test samples of all evaluated clients together, "
        "held-out-clients all samples of clients that never train; naive is a baseline without a model on the global "
        "test set, in the first evaluated round.",
        flags=POPULATIONS,
    ),
    _column(
        "metric",
        "i1",
        "metric",
        "What is measured; mae and rmse in the units of the data. smashed-error is the root mean square of what "
        "compression changes in the smashed data, over that of the smashed data.",
        flags=METRICS,
    ),
    _column("value", "f8", "value", "Its value; NaN where the samples do not define it."),
)

_CLIENTS = (
    _CLIENT,
    _column("first_round", "i4", "first round", "Round in which the client was first seen."),
    _column("owner", "i8", "owner", "Natural owner of the client's data; -1 where there is none.", missing=-1),
    _ATTACKER,
    _column("cut", "S64", "cut", "Layer after which the client's model is cut; none where it is not."),
    _column("device_class", "S32", "device class", "Class of the client's simulated device; empty without a clock."),
    _column("num_train", "i8", "training samples", "Training samples of the client."),
    _column("num_test", "i8", "test samples", "Test samples of the client; all it has where it never trains."),
    _HELD_OUT,
)

PHASES = ("train", "score", "gather", "aggregate", "evaluate", "record", "other", "undo")
_TIMINGS = (
    _column("round", "i4", "round", "Number of the round, from 0.", deterministic=False),
    _RANK,
    _column("phase", "i1", "phase", "Part of the round.", deterministic=False, flags=PHASES),
    _column("seconds", "f8", "seconds", "Wall-clock time of the phase on the rank.", units="s", deterministic=False),
)

_RANKS = (
    _RANK,
    _column("host", "S64", "host", "Name of the node.", deterministic=False),
    _column("pid", "i8", "process", "Process number on the node.", deterministic=False),
    _column("device", "S64", "device", "Device the rank trained on, with its identifier.", deterministic=False),
    _column("threads", "i4", "threads", "Threads of the rank.", deterministic=False),
    _column("first_round", "i4", "first round", "First round of this start of the run.", deterministic=False),
)

_EVENTS = (
    _column("time", "S32", "time", "ISO 8601, coordinated universal time.", deterministic=False),
    _column("round", "i4", "round", "Round in which it happened.", deterministic=False),
    _column("kind", "S16", "kind", "One word: start or warning.", deterministic=False),
    _column("text", "S240", "text", "What happened.", deterministic=False),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "participation": _PARTICIPATION,
    "group_rounds": _GROUP_ROUNDS,
    "rounds": _ROUNDS,
    "evaluation": _EVALUATION,
    "metrics": _METRICS,
    "clients": _CLIENTS,
    "timings": _TIMINGS,
    "ranks": _RANKS,
    "events": _EVENTS,
}

TITLES: dict[str, str] = {
    "participation": "one row a participating client a round",
    "group_rounds": "one row a group a round",
    "rounds": "one row a round",
    "evaluation": "one row an evaluated client a round",
    "metrics": "one row a metric of a population a round",
    "clients": "one row a client, written when it is first seen",
    "timings": "one row a round, rank and phase",
    "ranks": "one row a rank at each start of the run",
    "events": "starts and warnings",
}

KEYS: dict[str, tuple[str, ...]] = {
    "participation": ("round", "client"),
    "group_rounds": ("round", "group"),
    "rounds": ("round",),
    "evaluation": ("round", "client"),
    "metrics": ("round", "population", "metric"),
    "clients": ("first_round", "client"),
    "timings": ("round", "rank", "phase"),
    "ranks": ("first_round", "rank"),
    "events": ("time",),
}
"""Columns a table is sorted by within what one round adds to it."""


def find_table(name: str) -> tuple[Column, ...]:
    """Return the columns of a table.

    Raises:
        KeyError: There is no such table; the text lists the choices.
    """
    if name not in TABLES:
        raise KeyError(f"no table {name!r}; choose one of {', '.join(TABLES)}")
    return TABLES[name]


def find_column(table: str, name: str) -> Column:
    """Return a column by name.

    Raises:
        KeyError: There is no such table or column; the text lists the choices.
    """
    for column in find_table(table):
        if column.name == name:
            return column
    raise KeyError(f"no column {name!r} in {table}; choose one of {', '.join(column.name for column in TABLES[table])}")


def row_bytes(table: str, num_components: int) -> int:
    """Return the bytes of one row of a table before compression, to predict the size of a trace."""
    return sum(column.numpy.itemsize * _width(column, num_components) for column in TABLES[table])


def schema_markdown() -> str:
    """Return the text of `docs/trace-format.md`."""
    return render(FORMAT, FORMAT_VERSION, TABLES, TITLES, KEYS)


def _width(column: Column, num_components: int) -> int:
    return 1 if column.axis is None else column.shape(1, num_components)[1]
