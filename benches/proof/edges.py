"""Compares Lancet's edge scores with EAP-IG's, and its circuits and curves with those of the MIB circuit track's evaluator."""

import io
import json
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

from comparison import FIXTURES, difference, lancet, run

sys.path.insert(0, str(FIXTURES))
import make_edge_fixtures  # noqa: E402
import torch  # noqa: E402

import proof  # noqa: E402

EAP, MIB = "hannamw/EAP-IG", "hannamw/MIB-circuit-track"


def compare():
    lens = f"transformer-lens {version('transformer-lens')}"
    versions = {name: f"{proof.REPOSITORIES[name][:7]}, {lens}" for name in [EAP, MIB]}
    path = FIXTURES / "models" / "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            reference = make_edge_fixtures.Reference(proof.checkout(EAP), proof.checkout(MIB))
            theirs = make_edge_fixtures.make(path, reference, folder)
        (folder / "reference.json").write_text(json.dumps(theirs))
        ours = lancet("edges.rhai", folder=folder, reference=folder / "reference.json", model=path)
        read = reference.graph.from_json(str(folder / "circuit.json"))
        written = reference.graph.from_json(str(folder / "edges" / "circuit.json"))
    for method, scores in theirs["scores"].items():
        what = f"GPT-2, float64: all {len(scores)} edges by {method}"
        yield "EAP-IG", versions[EAP], what, difference(ours[method], torch.tensor(scores)), 1e-7
    curves = theirs["curves"]
    for what, place in {"metric": slice(0, 10), "faithfulness": slice(10, 20), "CPR": slice(20, 21), "CMD": slice(21, 22)}.items():
        expected = {name: torch.tensor(curve["metric"] + curve["faithfulness"] + [curve["area_under"], curve["area_from_1"]])
                    for name, curve in curves.items()}
        worst = max(difference(ours[name][place], numbers[place]) for name, numbers in expected.items())
        yield "MIB circuit track", versions[MIB], f"GPT-2, float64: {what} of circuits, the worst of {len(curves)} curves", worst, 1e-7
    assert torch.equal(read.in_graph, written.in_graph)
    yield "MIB circuit track", versions[MIB], "GPT-2: our circuit file, read there: the same edges; scores", \
        difference(read.scores, written.scores), 1e-6


if __name__ == "__main__":
    run(compare)
