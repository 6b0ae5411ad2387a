"""Combinations of settings that cannot work, whatever the data.

Layer 4. A setting that is wrong by itself is refused by its section's class; what the data or the module must answer
for (a cut that the model lacks, more groups than clients) is refused where they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcfsl.clock import Clock
from hpcfsl.defense.screening import screenings
from hpcfsl.errors import ConfigError
from hpcfsl.faults import Faults

if TYPE_CHECKING:
    from hpcfsl.config import Config


def check_combinations(config: Config) -> None:
    """Refuse the first combination that cannot work.

    Raises:
        ConfigError: With one of the settings, its value and the fix.
    """
    bounds, evaluation = config.bounds, config.evaluation
    if bounds.lower > bounds.upper:
        raise ConfigError("bounds.lower", bounds.lower, f"must not exceed bounds.upper = {bounds.upper}")
    if config.run.preset == "hardened" and bounds.sum_over == "all":
        fix = "lets an excluded client change the others' steps; use 'survivors', or run.preset = 'literal'"
        raise ConfigError("bounds.sum_over", bounds.sum_over, fix)
    if evaluation.held_out_clients and evaluation.held_out_owners:
        fix = "does nothing beside evaluation.held_out_owners; set it to 0"
        raise ConfigError("evaluation.held_out_clients", evaluation.held_out_clients, fix)
    if evaluation.clients and not evaluation.clients_every:
        raise ConfigError("evaluation.clients", evaluation.clients, "does nothing while evaluation.clients_every is 0")
    _check_drift(config)
    _check_undo(config)
    _check_screening(config)
    _check_halves(config)
    _check_faults(config.faults, config.clock)


def _check_halves(config: Config) -> None:
    """Refuse what needs a cut or a server half where there is none."""
    protocol, training, threat = config.protocol, config.training, config.threat
    if protocol.cut_of_device:
        _check_device_cuts(config)
    if protocol.cuts and config.model.cut != "none":
        return
    which = f"protocol {protocol.name!r}" + (" with model.cut = 'none'" if protocol.cuts else "")
    if protocol.shares_server:
        raise ConfigError("model.cut", "none", f"leaves protocol {protocol.name!r} no server half; cut the model")
    if config.score.half != "both":
        raise ConfigError("score.half", config.score.half, f"{which} has no halves; use 'both'")
    if rate := training.server_half_learning_rate:
        raise ConfigError("training.server_half_learning_rate", rate, f"{which} has no server half; use 0")
    if config.compression.is_on:
        raise ConfigError("compression.rule", config.compression.rule, f"{which} sends no smashed data; use 'none'")
    if threat.poisons_smashed:
        fix = "cut the model" if protocol.cuts else "use one with a cut"
        raise ConfigError("threat.attack", threat.attack, f"{which} sends no smashed data; {fix}")


def _check_device_cuts(config: Config) -> None:
    """Refuse what needs the halves to be the same for everybody beside cuts that differ by device."""
    key, cuts = "protocol.device_cuts", list(config.protocol.cut_of_device)
    needed = {
        "compression.rule": config.compression.rule if config.compression.is_on else None,
        "training.server_half_learning_rate": config.training.server_half_learning_rate or None,
        "score.half": config.score.half if config.score.half != "both" else None,
        "protocol.personal": config.protocol.model_dump().get("personal") or None,
        "threat.attack": config.threat.attack if config.threat.poisons_smashed else None,
    }
    for name, value in needed.items():
        if value is not None:
            fix = f"{name} = {value!r} needs the same halves for all clients; use [] or leave that out"
            raise ConfigError(key, cuts, fix)
    if config.model.cut == "none":
        raise ConfigError(key, cuts, "needs a cut for all other devices; set model.cut to a layer")


def _check_drift(config: Config) -> None:
    """Refuse control variates where one server half serves many."""
    protocol, drift = config.protocol, config.training.drift
    if drift != "none" and protocol.shares_server:
        fix = f"protocol {protocol.name!r} shares its server half, which no client moves alone; use 'none'"
        raise ConfigError("training.drift", drift, fix)


def _check_undo(config: Config) -> None:
    """Refuse a defence that leaves a shared server half as attackers have trained it, and one that nobody asked for."""
    protocol, preset = config.protocol, config.run.preset
    if protocol.shares_server and protocol.undoes == "none" and preset == "hardened":
        fix = "leaves the shared server half as attackers trained it: use 'replay' or 'screen', or another run.preset"
        raise ConfigError("protocol.undo", "none", fix)


def _check_screening(config: Config) -> None:
    """Refuse screening that nothing asks for, and the reverse."""
    protocol, screening = config.protocol, config.screening
    if screening.compares and protocol.undoes != "screen":
        fix = "does nothing unless protocol.undo = 'screen', in a protocol whose clients share a server half"
        raise ConfigError("screening.rule", screening.rule, fix)
    if screening.needs_labels and not protocol.labels_at_server:
        fix = f"needs labels at the server, and protocol {protocol.name!r} leaves them with the client; use 'distance'"
        raise ConfigError("screening.rule", screening.rule, fix)
    if protocol.undoes == "screen" and not screening.compares:
        rules = " or ".join(repr(name) for name in screenings.names() if screenings.get(name) is not type(screening))
        raise ConfigError("screening.rule", screening.rule, f"protocol.undo = 'screen' needs a rule; choose {rules}")


def _check_faults(faults: Faults, clock: Clock) -> None:
    """Refuse probabilities that some client's device class takes above 1 together."""
    total = faults.probability * clock.largest_fault_factor
    if total > 1 + 1e-9:
        fix = "its probabilities, times the largest clock.classes.fault_factor, sum to {:.10g}; they must not exceed 1"
        raise ConfigError("faults.rule", faults.rule, fix.format(total))
