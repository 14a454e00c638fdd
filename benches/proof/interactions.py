"""Compares Lancet's interactions of patched layers with shapiq's exact values for the same effects."""

import itertools
from importlib.metadata import version

from comparison import difference, lancet, run

import numpy
import shapiq
import torch

PLAYERS = 5
INDEXES = {"mobius": "Moebius", "shapley": "SII", "shapley_taylor": "STII"}


def interactions(values, index, order):
    """shapiq's interactions of a game, whose value of each coalition is at its bits."""
    def game(coalitions):
        return values[(numpy.asarray(coalitions, dtype=int) * 2 ** numpy.arange(PLAYERS)).sum(axis=-1)]

    found = shapiq.ExactComputer(game, PLAYERS)(index, order)
    return [float(found[players]) for players in itertools.combinations(range(PLAYERS), order)]


def compare():
    found = lancet("interactions.rhai")
    values = torch.zeros(2**PLAYERS, found["effects"].shape[1], dtype=torch.float64)
    values[found["masks"]] = found["effects"]
    for name, index in INDEXES.items():
        for order in [2, 3]:
            theirs = torch.tensor([interactions(sample.numpy(), index, order) for sample in values.T], dtype=torch.float64).T
            what = f"{index} of order {order}, all sets of {PLAYERS} layers of SmolLM2-135M, {values.shape[1]} prompts"
            yield "shapiq", version("shapiq"), what, difference(found[f"{name} {order}"], theirs), 1e-10


if __name__ == "__main__":
    run(compare)
