"""Compares Lancet's interactions of patched layers with shapiq's exact values for the same effects."""

import sys
from importlib.metadata import version

from comparison import FIXTURES, difference, lancet, run

sys.path.insert(0, str(FIXTURES))
import torch  # noqa: E402
from make_interaction_fixtures import PLAYERS, interactions  # noqa: E402

INDEXES = {"mobius": "Moebius", "shapley": "SII", "shapley_taylor": "STII"}


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
