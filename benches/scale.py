"""Measures what each shipped experiment costs on smollm2, and computes what it would cost on larger models and on GPUs.

    make bench-scale

Each experiment runs at two numbers of samples, on one thread, with a store of its own; the difference is the cost of a
sample, the rest is fixed. Processor time is counted, so that other work on the machine matters little. Multiplied by the
rate of this processor's matrix product, a sample costs so many operations as the processor could have done; on another
model it costs more by a ratio that depends on what the experiment does (see KINDS), and a GPU does them at the rate below.
Only the first two columns of the first table are measured; all others are computed. Writes out/bench/scale/scale.json and
prints the tables of docs/src/scale.md.
"""

import argparse
import json
import math
import os
import re
import resource
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Layers, width, parameters outside the embeddings, and entries of the vocabulary; the last three from their config.json.
MODELS = {
    "SmolLM2-135M": (30, 576, 106e6, 49152),
    "OLMo-2-1B": (16, 2048, 1.07e9, 100352),
    "OLMo-2-7B": (32, 4096, 6.48e9, 100352),
    "OLMo-2-32B": (64, 5120, 31.2e9, 100352),
    "Llama-3.1-70B": (80, 8192, 68.5e9, 128256),
}
# An H100's dense bfloat16 rate by its data sheet is 989e12 operations a second; large products reach 40% and more of it.
H100 = 0.4 * 989e12
H100_BYTES = 80e9
# What a GPU needs beside the weights, and how fast a shared disk gives them, in bytes and bytes a second.
WORKING_BYTES = 12e9
DISK = 2e9
# A study: twelve tasks of a hundred samples.
SAMPLES = 1200

# Pairs of layers: a node per set before each layer, so layers^2 times what one pass costs. Runs: passes. Paths: for each of a
# fixed number of paths, products of the width and of the vocabulary.
KINDS = {
    "pairs": lambda layers, width, parameters, vocabulary: layers**2 * parameters,
    "runs": lambda layers, width, parameters, vocabulary: parameters,
    "paths": lambda layers, width, parameters, vocabulary: width * vocabulary,
}

# The experiment, how its cost grows, its options, and the two numbers of samples.
EXPERIMENTS = [
    ("activation_patching", "pairs", [], (4, 12)),
    ("localization", "pairs", [], (4, 12)),
    ("superadditivity", "pairs", [], (4, 12)),
    ("controls", "pairs", [], (4, 12)),
    ("linear_gap", "pairs", [], (2, 6)),
    ("function_vectors", "runs", [], (4, 8)),
    ("competence", "runs", [], (4, 12)),
    ("geometry", "runs", ["--task", "adj_comp", "--task", "adj_ant"], (10, 40)),
    ("path_contribution", "paths", [], (2, 6)),
    ("head_activity", "paths", ["--task", "adj_comp", "--task", "adj_ant"], (2, 6)),
    ("circuit_selection", "paths", ["--resamples", "999"], (4, 6)),
]


def processor_seconds(command, folder):
    """Processor time of a command, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = dict(os.environ, OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1", LANCET_STORE=str(folder / "store"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("{} failed:\n{}".format(" ".join(command), done.stderr[-3000:]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def matrix_rate(lancet):
    """Operations a second of one thread in a product of two float32 matrices, by `lancet doctor`."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    report = subprocess.run([lancet, "doctor"], env=environment, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"cpu +computes correctly, (\d+) GFLOP/s", report).group(1)) * 1e9


def measure(lancet, name, options, counts):
    """Fixed seconds, and seconds per sample."""
    seconds = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            command = [lancet, "run", "scripts/{}.rhai".format(name), "--samples", str(count), "--device", "cpu"]
            seconds.append(processor_seconds(command + options + ["--out", str(folder / "out")], folder))
    slope = (seconds[1] - seconds[0]) / (counts[1] - counts[0])
    return seconds[0] - slope * counts[0], slope


def shown(seconds):
    """A duration to two digits."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 1.5 * size or unit == "s":
            count = seconds / size
            return "{:.0f} {}".format(count, unit) if count >= 10 else "{:.1f} {}".format(count, unit)


def weights(model):
    """Bytes of a model's weights in bfloat16, embeddings and unembedding included."""
    _, width, parameters, vocabulary = MODELS[model]
    return 2 * (parameters + 2 * width * vocabulary)


def gpus(model):
    """How many H100 hold a model."""
    return math.ceil((weights(model) + WORKING_BYTES) / H100_BYTES)


def table(head, rows):
    """Rows as a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " --: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lancet", default=str(ROOT / "target/release/lancet"))
    parser.add_argument("--only", help="one experiment")
    parser.add_argument("--out", default=str(ROOT / "out/bench/scale"))
    given = parser.parse_args()
    rate = matrix_rate(given.lancet)
    small = MODELS["SmolLM2-135M"]
    results = []
    for name, kind, options, counts in EXPERIMENTS:
        if given.only in (None, name):
            fixed, sample = measure(given.lancet, name, options, counts)
            study = {}
            for model, sizes in MODELS.items():
                study[model] = SAMPLES * sample * rate * KINDS[kind](*sizes) / KINDS[kind](*small) / H100
            results.append({"experiment": name, "kind": kind, "fixed": fixed, "sample": sample, "study": study})
            print("{}: {:.1f} s and {:.2f} s per sample".format(name, fixed, sample), flush=True)
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(json.dumps({"rate": rate, "results": results}, indent=1) + "\n")
    print("\nOne thread: {:.0f} GFLOP/s\n".format(rate / 1e9))
    larger = list(MODELS)[1:]
    rows = [
        [r["experiment"], "{:.2f}".format(r["sample"]), "{:.0f}".format(r["fixed"]), r["kind"]]
        + [shown(r["study"][model]) for model in larger]
        for r in results
    ]
    table(["Experiment", "s per sample", "fixed s", "grows like"] + larger, rows)
    rows = []
    for model in larger:
        work = sum(r["study"][model] for r in results)
        start = weights(model) / DISK
        row = [model, "{:.0f} GB".format(weights(model) / 1e9), str(gpus(model)), shown(start)]
        for count in (1, 8, 64):
            at_once = count // gpus(model)
            row.append(shown(work / at_once + len(results) * start) if at_once else "does not fit")
        rows.append(row)
    table(["Model", "weights", "H100 that hold it", "to load it", "one H100", "eight", "64"], rows)


if __name__ == "__main__":
    main()
