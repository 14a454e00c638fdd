"""Compares what each token contributes to a logit with LXT's relevances: under CP-LRP, whose rules Lancet's linear map and frozen
backward pass share, and under RelP's rules, which are AttnLRP's but for attention, which is CP-LRP's."""

import sys

from comparison import FIXTURES, difference, lancet, run

sys.path.insert(0, str(FIXTURES))
import make_lxt_fixtures  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import proof  # noqa: E402

REPOSITORY = "rachtibat/LRP-eXplains-Transformers"
FAMILIES = {"llama3": "Llama 3", "qwen2": "Qwen 2", "qwen3": "Qwen 3", "gemma3": "Gemma 3", "gpt2": "GPT-2"}
# Biases take a share of the logit.
WITH_BIASES = ["qwen2", "gpt2"]


def compare():
    version = f"{proof.REPOSITORIES[REPOSITORY][:7]}, transformers {transformers.__version__}"
    for name, expected in make_lxt_fixtures.relevances(proof.checkout(REPOSITORY), FIXTURES / "models").items():
        cp, half = (torch.tensor(expected[rules], dtype=torch.float64) for rules in ["cp", "half"])
        ours = lancet("relevance.rhai", model=FIXTURES / "models" / name, ids=",".join(map(str, expected["ids"])),
                      answer=expected["answer"])
        what = f"{FAMILIES[name]}, float64: relevance of {len(cp)} tokens to the largest logit"
        yield "LXT", version, f"{what}, CP-LRP and our linear map", difference(ours["totals"], cp), 1e-8
        yield "LXT", version, f"{what}, CP-LRP and our frozen backward pass", difference(ours["frozen"], cp), 1e-8
        yield "LXT", version, f"{what}, RelP's rules and our `relp`", difference(ours["relp"], half), 1e-7
        if name not in WITH_BIASES:
            logit = torch.tensor(expected["logit"], dtype=torch.float64)
            worst = max(difference(ours[rules].sum(), logit) for rules in ["totals", "frozen", "relp"])
            yield "LXT", version, f"{FAMILIES[name]}, conservation: our sums over the tokens and the logit there", worst, 1e-12


if __name__ == "__main__":
    run(compare)
