"""Compares Lancet's activations with TransformerLens's at every hook of SmolLM2."""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from comparison import FIXTURES, lancet, run

sys.path.insert(0, str(FIXTURES))
import torch  # noqa: E402
from make_hook_name_fixtures import FLAGS, tokenizer  # noqa: E402
from transformer_lens.model_bridge import TransformerBridge  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

import smollm2  # noqa: E402

SENTENCE = [504, 3575, 282, 4649, 314]  # "The capital of France is"
# Token ids, which are no activations, and tables of angles, which Lancet's layers have each (`attn.hook_cos`).
LEFT_OUT = ["embed.hook_in", "rotary_emb.hook_in", "rotary_emb.hook_cos", "rotary_emb.hook_sin"]


def bridge(folder):
    """SmolLM2 in TransformerLens, which asks for a tokenizer; the prompts are ids."""
    model = AutoModelForCausalLM.from_pretrained(smollm2.models(), gguf_file=smollm2.FILE, dtype=torch.float32, attn_implementation="eager")
    lens = TransformerBridge.boot_transformers(folder, hf_model=model.eval(), tokenizer=tokenizer(model.config.vocab_size, folder),
                                               device="cpu", dtype=torch.float32)
    for flag in FLAGS:
        getattr(lens, flag)(True)
    return lens


def difference(ours, theirs):
    """As a share of the hook's largest entry; masked scores must be masked in both."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    masked = theirs < -1e30
    assert torch.equal(ours < -1e30, masked)
    ours, theirs = ours.masked_fill(masked, 0), theirs.masked_fill(masked, 0)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def compare():
    with tempfile.TemporaryDirectory() as folder:
        _, cache = bridge(folder).run_with_cache(torch.tensor([SENTENCE]))
        cache = {name: value for name, value in cache.items() if name not in LEFT_OUT}
        names = Path(folder) / "names.json"
        names.write_text(json.dumps(list(cache.keys())))
        ours = lancet("hooks.rhai", ids=",".join(map(str, SENTENCE)), names=names)
    worst = max(difference(ours[name], value) for name, value in cache.items())
    yield "TransformerLens", version("transformer-lens"), f"all {len(ours)} hooks of activations in SmolLM2-135M, float32", worst, 1e-4


if __name__ == "__main__":
    run(compare)
