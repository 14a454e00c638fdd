"""Measures Python libraries on the cells of a patching grid that Lancet measured, and compares their numbers.

    python benches/peers.py out/bench

Reads out/bench/lancet.json, which benches/patch_grid.rhai writes: the model, the prompts, the sets of layers, every cell's
logit and rank, and Lancet's times. Each library computes some cells, drawn with a seed, on the same device, in the same
precision and with as many threads. Fails if a logit is further from Lancet's than the precision explains. Writes
bench.csv and bench.json beside lancet.json. setup/peers.py installs what this needs.

The ways:
- nnsight, released loop: for each set and sample what the published code of "Patches of Nonlinearity" does (experiments/
  activation_patching.py): traces of source and target together, of the source, of the target, and of the target patched at
  its first and again at its last position, with `gc.collect()` after each measurement. Where Lancet measures one position it
  measures two; the first is compared.
- nnsight, one trace per cell: source and clean runs ready, position 0 only, with and without `gc.collect()`.
- transformers, one run per cell: the same with plain forward hooks.
- transformers, in batches: many sets and samples as rows of one batch, each with its own patches.
"""

import argparse
import csv
import gc
import json
import os
import platform
import random
import sys
import time
from pathlib import Path

import nnsight
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "setup"))
import smollm2  # noqa: E402

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
# The largest difference of logits by rounding alone, as a share of the largest logit. In float64 transformers computes
# norms in float32.
TOLERANCES = {"f64": 1e-5, "f32": 1e-3, "bf16": 0.1, "f16": 0.02}
SEED = 0


def load(request):
    """The model that Lancet measured."""
    name = request["model"]
    kind = {"dtype": DTYPES[request["dtype"]]}
    if name == "smollm2":
        folder, kind["gguf_file"] = smollm2.models(), smollm2.FILE
    elif name.endswith(".gguf"):
        folder, kind["gguf_file"] = Path(name).parent, Path(name).name
    else:
        folder = name
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **kind)
    return model.to(request["device"]).eval()


class Grid:
    """The cells to compute: a cell is the number of a set and the number of a sample."""

    def __init__(self, request, model):
        self.model = model
        self.layers = model.model.layers
        self.sets = request["sets"]
        self.targets = request["targets"]
        self.answers = request["answers"]
        self.source = self.ids([request["source"]])
        self.logits = request["patched_logit"]
        self.ranks = request["rank"]
        with torch.inference_mode():
            self.vectors = self.residuals(self.source)

    def ids(self, rows):
        return torch.tensor(rows, device=self.model.device)

    def residuals(self, ids):
        """The output of every block at the last position."""
        found = []

        def keep(_module, _arguments, output):
            found.append(output[0, -1].clone())

        handles = [layer.register_forward_hook(keep) for layer in self.layers]
        self.model(ids, use_cache=False, logits_to_keep=1)
        for handle in handles:
            handle.remove()
        return found

    def draw(self, count):
        """Some cells, always the same ones."""
        cells = [(set_, sample) for set_ in range(len(self.sets)) for sample in range(len(self.targets))]
        return random.Random(SEED).sample(cells, min(count, len(cells)))

    def measure(self, logits, sample):
        """The answer's logit and its rank in the logits of the last position."""
        logits = widened(logits)
        answer = logits[self.answers[sample]]
        return answer.item(), 1 + int((logits > answer).sum().item())


def widened(logits):
    """Half precision is too coarse to count the tokens above an answer."""
    return logits.float() if logits.dtype.itemsize < 4 else logits


def nnsight_released(grid, traced, cells):
    """Five traces and four collections of garbage for each set and sample."""
    results = []
    for set_, sample in cells:
        target = grid.ids([grid.targets[sample]])
        both = torch.cat([grid.source, target], dim=1)
        with traced.trace(both):
            together = traced.lm_head.output.save()
        grid.measure(together[0, -1], sample)
        del together
        gc.collect()
        source = {}
        with traced.trace(grid.source):
            for layer in grid.sets[set_]:
                source[layer] = traced.model.layers[layer].output.save()
        with traced.trace(target):
            alone = traced.lm_head.output.save()
        grid.measure(alone[0, -1], sample)
        at_position = []
        for position in [0, -1]:
            with traced.trace(target):
                for layer in source:
                    traced.model.layers[layer].output[:, position, :] = source[layer][:, -1, :]
                patched = traced.lm_head.output.save()
            at_position.append(grid.measure(patched[0, -1], sample))
            del patched
            gc.collect()
        results.append(at_position[0])
        del source
        gc.collect()
    return results


def nnsight_trace(grid, traced, cells, collect):
    """One trace for each set and sample."""
    results = []
    for set_, sample in cells:
        target = grid.ids([grid.targets[sample]])
        with traced.trace(target):
            for layer in grid.sets[set_]:
                traced.model.layers[layer].output[:, 0, :] = grid.vectors[layer]
            patched = traced.lm_head.output.save()
        results.append(grid.measure(patched[0, -1], sample))
        if collect:
            gc.collect()
    return results


def hooks(grid, rows_of_layer):
    """Forward hooks that patch the first position of some rows after some layers."""

    def patch(layer, rows):
        def change(_module, _arguments, output):
            output[rows, 0] = grid.vectors[layer]
            return output

        return grid.layers[layer].register_forward_hook(change)

    return [patch(layer, rows) for layer, rows in rows_of_layer.items()]


@torch.inference_mode()
def transformers_single(grid, cells):
    """One run for each set and sample."""
    results = []
    for set_, sample in cells:
        handles = hooks(grid, {layer: [0] for layer in grid.sets[set_]})
        output = grid.model(grid.ids([grid.targets[sample]]), use_cache=False, logits_to_keep=1)
        for handle in handles:
            handle.remove()
        results.append(grid.measure(output.logits[0, -1], sample))
    return results


@torch.inference_mode()
def transformers_batched(grid, cells):
    """Cells of one length as rows of one batch, each row with its own patches."""
    rows_of_layer = {}
    for row, (set_, _) in enumerate(cells):
        for layer in grid.sets[set_]:
            rows_of_layer.setdefault(layer, []).append(row)
    handles = hooks(grid, {layer: grid.ids(rows) for layer, rows in rows_of_layer.items()})
    ids = grid.ids([grid.targets[sample] for _, sample in cells])
    logits = grid.model(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    for handle in handles:
        handle.remove()
    logits = widened(logits)
    answers = logits.gather(1, grid.ids([[grid.answers[sample]] for _, sample in cells]))
    ranks = 1 + (logits > answers).sum(dim=1)
    return list(zip(answers[:, 0].tolist(), ranks.tolist()))


def batches(grid, cells, rows):
    """The cells in batches of at most `rows`, each of one length."""
    found = []
    for length in sorted({len(grid.targets[sample]) for _, sample in cells}):
        same = [cell for cell in cells if len(grid.targets[cell[1]]) == length]
        found += [same[start : start + rows] for start in range(0, len(same), rows)]
    return found


def measure_way(grid, chunks, work, repeats):
    """Runs a way on chunks of cells. Each chunk's shortest time counts, because other processes only add to it."""
    seconds = [float("inf")] * len(chunks)
    largest, ranks = 0.0, 0
    for turn in range(repeats + 1):
        for number, chunk in enumerate(chunks):
            start = time.perf_counter()
            results = work(chunk)
            # The first turn allocates.
            if turn > 0:
                seconds[number] = min(seconds[number], time.perf_counter() - start)
                continue
            for (set_, sample), (logit, rank) in zip(chunk, results):
                largest = max(largest, abs(logit - grid.logits[set_][sample]))
                ranks += rank != grid.ranks[set_][sample]
    cells = sum(map(len, chunks))
    return {
        "cells": cells,
        "seconds_per_cell": sum(seconds) / cells,
        "largest_logit_difference": largest,
        "rank_differences": ranks,
    }


def machine(device):
    """The machine of the times."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    described = {"cpu": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    if device.startswith("cuda"):
        described["gpu"] = torch.cuda.get_device_name(device)
    versions = {module.__name__: module.__version__ for module in [torch, transformers, nnsight]}
    return {**described, "python": platform.python_version(), **versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder in which benches/patch_grid.rhai left lancet.json")
    parser.add_argument("--cells", type=int, default=20, help="cells of the slow ways; the batches take 40 times as many")
    parser.add_argument("--repeats", type=int, default=3, help="times that each way is measured; the shortest counts")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    written = arguments.folder / "lancet.json"
    if not written.is_file():
        sys.exit(f"error: there is no {written}\nhint: first `lancet run benches/patch_grid.rhai --out {arguments.folder}`")
    request = json.loads(written.read_text())
    described = {**machine(request["device"]), "lancet": request["version"]}
    if described["load"] > 0.5 * described["cores"] + described["threads"]:
        print(f"warning: other programs are running (load {described['load']:.1f}); times will be too long", file=sys.stderr)

    grid = Grid(request, load(request))
    traced = nnsight.NNsight(grid.model)
    slow, single, many = (grid.draw(count * arguments.cells) for count in [1, 5, 40])
    one_by_one = [[cell] for cell in single]
    ways = [
        ("nnsight, released loop (two positions, gc)", [[cell] for cell in slow], lambda cells: nnsight_released(grid, traced, cells)),
        ("nnsight, one trace per cell, gc after each", one_by_one, lambda cells: nnsight_trace(grid, traced, cells, True)),
        ("nnsight, one trace per cell", one_by_one, lambda cells: nnsight_trace(grid, traced, cells, False)),
        ("transformers, one run per cell", one_by_one, lambda cells: transformers_single(grid, cells)),
    ]
    for rows in [len(grid.targets), 4 * len(grid.targets)]:
        ways.append((f"transformers, batches of {rows}", batches(grid, many, rows), lambda cells: transformers_batched(grid, cells)))

    all_cells = len(grid.sets) * len(grid.targets)
    fastest = request["ways"][0]["seconds_per_cell"]
    rows = [{**way, "largest_logit_difference": None, "rank_differences": None} for way in request["ways"]]
    allowed = TOLERANCES[request["dtype"]] * max(abs(logit) for logits in grid.logits for logit in logits)
    failed = False
    for name, chunks, work in ways:
        row = {"implementation": name, **measure_way(grid, chunks, work, arguments.repeats)}
        print(f"{name}: {row['cells']} cells, {1000 * row['seconds_per_cell']:.2f} ms each; logits differ from Lancet's by at most "
              f"{row['largest_logit_difference']:.1e}, ranks in {row['rank_differences']} cells", flush=True)
        failed |= not row["largest_logit_difference"] <= allowed
        rows.append(row)
    for row in rows:
        row["seconds_per_grid"] = row["seconds_per_cell"] * all_cells
        row["grid"] = "measured" if row["cells"] == all_cells else "extrapolated"
        row["ratio"] = row["seconds_per_cell"] / fastest

    setting = {key: request[key] for key in ["model", "dtype", "device", "task", "samples", "plan", "matmul_share"]}
    report = {"machine": described, "setting": {**setting, "sets": len(grid.sets)}, "ways": rows}
    (arguments.folder / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    with open(arguments.folder / "bench.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    where = described.get("gpu") or f"{described['cores']} cores of {described['cpu']}"
    lengths = sorted({len(target) for target in grid.targets})
    print(f"\n{setting['model']}, {setting['dtype']}, {len(grid.sets)} sets of one and two layers x {len(grid.targets)} samples of "
          f"{lengths[0]} to {lengths[-1]} tokens ({setting['task']}), {where}\n")
    print("| Way | ms per set and sample | whole grid | times the planner's |")
    print("| --- | --: | --: | --: |")
    for row in rows:
        print(f"| {row['implementation']} | {1000 * row['seconds_per_cell']:.2f} | {row['seconds_per_grid']:,.0f} s, {row['grid']} | {row['ratio']:.1f} |")
    print(f"\nwritten to {arguments.folder}: bench.csv, bench.json")
    if failed:
        sys.exit("error: some logits differ by more than the precision explains: the ways did not compute the same thing")


if __name__ == "__main__":
    main()
