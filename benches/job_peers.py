"""Times a researcher's everyday jobs in Lancet, TransformerLens, nnsight and transformers, one after the other.

    make bench-jobs

Every library gets the same weights (SmolLM2-135M from Lancet's GGUF file, in float32), the same token ids and one thread.
What is counted is processor time, so that other work on the machine matters little; Lancet's start and loading are
measured by themselves and subtracted, as the others' imports and loading are not counted. The jobs are in jobs.rhai and
below. Writes jobs.csv.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import nnsight
import torch
import transformers
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "setup"))
import smollm2  # noqa: E402

TOKENS, LONG, NEW = 14, 1024, 64
PROMPT = [(place * 37 + 11) % 1000 for place in range(TOKENS)]
CLEAN = [(place * 41 + 7) % 1000 for place in range(TOKENS)]
LONG_PROMPT = [(place * 37 + 11) % 1000 for place in range(LONG)]
# How often each job is done.
TIMES = {"forward": 40, "cache": 20, "hook": 40, "patch": 1, "sweep": 1, "generate": 2, "long": 3}
# Of the 420 patches, the peers do so many; the time is taken for all.
PATCHES = 60


def processor_time(work):
    begin = time.process_time()
    work()
    return time.process_time() - begin


def lancet(binary, job, times):
    """Processor seconds of a process that does a job."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([binary, "run", HERE / "jobs.rhai", "--job", job, "--times", str(times)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Plain:
    """transformers itself."""

    def __init__(self, model):
        self.model = model
        self.ids = torch.tensor([PROMPT])

    def forward(self):
        self.model(self.ids)

    def generate(self):
        self.model.generate(self.ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)

    def long(self):
        self.model(torch.tensor([LONG_PROMPT]), logits_to_keep=1)


TOKENIZER = Path("out/bench/tokenizer")


def tokenizer(model):
    """A tokenizer of made-up words, which the peers ask for; the prompts are ids."""
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(model.config.vocab_size)}, unk_token="t0"))
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="t0", eos_token="t1", pad_token="t2", unk_token="t0")
    made.save_pretrained(TOKENIZER)
    return transformers.PreTrainedTokenizerFast.from_pretrained(TOKENIZER)


class Lens:
    """TransformerLens."""

    def __init__(self, model):
        self.model = TransformerBridge.boot_transformers(
            str(TOKENIZER), hf_model=model, tokenizer=tokenizer(model), device="cpu", dtype=torch.float32
        )
        self.ids = torch.tensor([PROMPT])
        self.layers = model.config.num_hidden_layers

    def forward(self):
        self.model(self.ids)

    def cache(self):
        self.model.run_with_cache(self.ids)

    def hook(self):
        def zero(z, hook):
            z[:, :, 0] = 0.0
            return z
        self.model.run_with_hooks(self.ids, fwd_hooks=[("blocks.3.attn.hook_z", zero)])

    def patch(self):
        _, cache = self.model.run_with_cache(torch.tensor([CLEAN]), names_filter=lambda name: name.endswith("hook_resid_pre"))
        for place in range(PATCHES):
            layer, position = divmod(place * 7 % (self.layers * TOKENS), TOKENS)
            name = f"blocks.{layer}.hook_resid_pre"

            def change(x, hook):
                x[:, position] = cache[name][:, position]
                return x
            logits = self.model.run_with_hooks(self.ids, fwd_hooks=[(name, change)])[:, -1]
            (logits[0, 3] - logits[0, 5]).item()

    def generate(self):
        self.model.generate(self.ids, max_new_tokens=NEW, stop_at_eos=False, do_sample=False, verbose=False, return_type="tokens")


class Nnsight:
    """nnsight."""

    def __init__(self, model):
        self.model = nnsight.LanguageModel(model, tokenizer=tokenizer(model))
        self.ids = torch.tensor([PROMPT])
        self.layers = model.config.num_hidden_layers
        self.heads = model.config.num_attention_heads

    def forward(self):
        with self.model.trace(self.ids):
            self.model.lm_head.output.save()

    def cache(self):
        with self.model.trace(self.ids) as tracer:
            tracer.cache()

    def hook(self):
        width = self.model.config.hidden_size // self.heads
        with self.model.trace(self.ids):
            self.model.model.layers[3].self_attn.o_proj.input[..., :width] = 0.0
            self.model.lm_head.output.save()

    def patch(self):
        found = []
        with torch.no_grad(), self.model.trace(torch.tensor([CLEAN])):
            for layer in self.model.model.layers:
                found.append(layer.input.save())
        for place in range(PATCHES):
            layer, position = divmod(place * 7 % (self.layers * TOKENS), TOKENS)
            with self.model.trace(self.ids):
                self.model.model.layers[layer].input[:, position] = found[layer][:, position]
                logits = self.model.lm_head.output[:, -1].save()
            (logits[0, 3] - logits[0, 5]).item()

    def generate(self):
        with self.model.generate(self.ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False):
            self.model.generator.output.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench/jobs"))
    parser.add_argument("--lancet", default="target/release/lancet")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_grad_enabled(False)
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(smollm2.models(), gguf_file=smollm2.FILE, dtype=torch.float32).eval()
    peers = {"TransformerLens": Lens(load()), "nnsight": Nnsight(load()), "transformers": Plain(load())}
    rows = []
    for job, times in TIMES.items():
        begin = lancet(arguments.lancet, "load", 1)
        ours = (lancet(arguments.lancet, job, times) - begin) / times
        row = {"job": job, "lancet": ours}
        for name, peer in peers.items():
            work = getattr(peer, "patch" if job == "sweep" else job, None)
            if work is None:
                continue
            work()
            seconds = processor_time(lambda: [work() for _ in range(times)]) / times
            if job in ("patch", "sweep"):
                seconds *= peer.layers * TOKENS / PATCHES
            row[name] = seconds
            row[f"{name} / lancet"] = seconds / ours
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        rows.append(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / "jobs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}, key=lambda key: (key != "job", key != "lancet", key)))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
