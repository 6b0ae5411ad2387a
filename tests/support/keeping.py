"""Rounds of clients that keep something from round to round, and the same written out as a loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from support.made import first_state

from hpcfsl.round import Outcome, plan_round, run_round
from hpcfsl.state import State
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.training.reference import train_client
from hpcfsl.world import World

SOME: dict[str, dict[str, Any]] = {"participation": {"rule": "number", "clients": 7}}
V3 = {"name": "splitfed-v3"}
SCAFFOLD = {"batch_size": 4, "local_epochs": 2, "learning_rate": 0.05, "drift": "scaffold"}


def run_rounds(world: World, rounds: int) -> tuple[State, list[Outcome]]:
    state, outcomes = first_state(world), []
    for round in range(rounds):
        state, outcome = run_round(world, state, round, Stopwatch())
        outcomes.append(outcome)
    return state, outcomes


def own_rows(state: State, name: str) -> dict[int, torch.Tensor]:
    table = state.vectors[name]
    return {client: torch.from_numpy(table.rows(np.array([client]))[0]) for client in table.clients.tolist()}


@dataclass
class Loop:
    """Federated averaging with what stays with clients, written out: one client after the other, no groups."""

    world: World
    weights: torch.Tensor
    personal: torch.Tensor  # which parameters stay, bool [params]
    parts: dict[int, torch.Tensor] = field(default_factory=dict)
    variates: dict[int, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.initial = self.weights[self.personal].clone()
        self.common = torch.zeros_like(self.weights)

    def round(self, round: int) -> None:
        world, training = self.world, self.world.config.training
        members = np.sort(np.concatenate(plan_round(world, round).groups))
        step, total, mean, moved = torch.zeros_like(self.weights), 0, torch.zeros_like(self.initial), 0 * self.weights
        for client in members.tolist():
            rows = world.population.train_rows_of(np.array([client]))
            start, nothing = self.weights.clone(), torch.zeros_like(self.weights)
            start[self.personal] = self.parts.get(client, self.initial)
            own = self.variates.get(client, nothing)
            drift = self.common - own if training.drift == "scaffold" else None
            update = train_client(
                world.model,
                start,
                torch.from_numpy(world.feed.inputs(rows)),
                torch.from_numpy(world.feed.targets(rows)),
                training,
                seed=world.config.run.seed,
                round=round,
                client=client,
                drift=drift,
            )
            self.parts[client] = (start + update)[self.personal]
            update[self.personal] = 0
            steps = training.local_epochs * -(-len(rows) // training.batch_size)
            self.variates[client] = own - self.common - update / (steps * training.learning_rate)
            moved += self.variates[client] - own
            step, total = step + len(rows) * update, total + len(rows)
            mean = mean + len(rows) * self.parts[client]
        self.weights = self.weights + step / total
        self.weights[self.personal] = mean / total
        self.common = self.common + moved / world.population.num_clients


def loop_of(world: World) -> Loop:
    personal = torch.zeros(world.model.layout.size, dtype=torch.bool)
    for name in world.personal.names:
        personal[world.model.layout.slices[name]] = True
    return Loop(world=world, weights=first_state(world).weights, personal=personal)
