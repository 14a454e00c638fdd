"""Compares what each token contributes to a logit with LXT's relevances, under its rules of conservative propagation (CP-LRP).

The gate of an MLP, attention probabilities and norms' scales are constant there, as in Lancet's linear map; the relevance of a
token is the gradient times its embedding.
"""

import importlib
import sys

from comparison import FIXTURES, IDS, difference, float64, lancet, run

import torch
import transformers
from transformers import AutoModelForCausalLM

import proof

REPOSITORY = "rachtibat/LRP-eXplains-Transformers"
sys.path.insert(0, str(proof.checkout(REPOSITORY)))
from lxt.efficient import monkey_patch  # noqa: E402

FAMILIES = {"Llama 3": ("llama", "llama3"), "Qwen 2": ("qwen2", "qwen2"), "Qwen 3": ("qwen3", "qwen3"), "Gemma 3": ("gemma3", "gemma3"),
            "GPT-2": ("gpt2", "gpt2")}


def compare():
    for family, (name, fixture) in FAMILIES.items():
        path = FIXTURES / "models" / fixture
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager").eval()
        monkey_patch(importlib.import_module(f"transformers.models.{name}.modeling_{name}"),
                     importlib.import_module(f"lxt.efficient.models.{name}").cp_LRP)
        with float64():
            embeddings = model.get_input_embeddings()(torch.tensor([IDS])).detach().requires_grad_()
            logits = model(inputs_embeds=embeddings, use_cache=False).logits[0, -1]
            logits.max().backward()
            # What enters the first block: GPT-2 adds a learned position.
            entering = embeddings + model.transformer.wpe.weight[: len(IDS)] if family == "GPT-2" else embeddings
        theirs = (entering * embeddings.grad)[0].sum(-1)
        ours = lancet("linear.rhai", model=path, ids=",".join(map(str, IDS)))["totals"][:, logits.argmax()]
        version = f"{proof.REPOSITORIES[REPOSITORY][:7]}, transformers {transformers.__version__}"
        what = f"{family}, float64: relevance of {len(IDS)} tokens to the largest logit under CP-LRP"
        yield "LXT", version, what, difference(ours, theirs.detach()), 1e-8
        if not any("bias" in parameter for parameter, _ in model.named_parameters()):
            yield "LXT", version, f"{family}, the same: conservation, our sum over the tokens and the logit", \
                difference(ours.sum(), logits.max().detach()), 1e-12


if __name__ == "__main__":
    run(compare)
