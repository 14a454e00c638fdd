"""Compares Lancet's linear maps with Golden's detached Jacobians ("Equivalent Linear Mappings of LLMs"), for all its families.

His files of models are loaded in place of transformers' own; nothing is copied. In float64 the whole Jacobian, from the
embeddings to the logits, of the tiny random models of tests/fixtures; in float32, for SmolLM2, what each token contributes to
all logits, and the singular values of its Jacobian to the last hidden state.
"""

import contextlib
import importlib.util
import sys

from comparison import FIXTURES, difference, lancet, run

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

import proof
import smollm2

REPOSITORY = "jamesgolden1/equivalent-linear-LLMs"
# Family -> his file, transformers' name of it, the fixture.
FAMILIES = {
    "Llama 3": ("llama_3/modeling_llama", "llama", "llama3"),
    "Qwen 3": ("qwen_3/modeling_qwen", "qwen3", "qwen3"),
    "Gemma 3": ("gemma_3/modeling_gemma", "gemma3", "gemma3"),
    "Mistral": ("mistral_ministral/modeling_mistral_ministral", "mistral", "mistral"),
    "OLMo 2": ("olmo_2/modeling_olmo", "olmo2", "olmo2"),
    "Phi 4": ("phi_4/modeling_phi", "phi3", "phi3"),
}
IDS = [3, 1, 4, 1, 5, 9, 2]
SENTENCE = [504, 3575, 282, 4649, 314]  # "The capital of France is"


@contextlib.contextmanager
def float64():
    """transformers computes norms, softmax and angles in float32 whatever the weights are; in here, in float64."""
    single, cast, default = torch.float32, torch.Tensor.float, torch.get_default_dtype()
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float = single, cast
        torch.set_default_dtype(default)


def install(file, name):
    """Loads his file as transformers' module of the family."""
    full = f"transformers.models.{name}.modeling_{name}"
    path = proof.checkout(REPOSITORY) / "models" / f"{file}_locally_linear.py"
    spec = importlib.util.spec_from_file_location(full, path)
    module = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(path):
    """The fixture's config in the words of the older transformers."""
    made = AutoConfig.from_pretrained(path)
    if getattr(made, "head_dim", 0) is None:
        made.head_dim = made.hidden_size // made.num_attention_heads
    if made.model_type == "gemma3_text":
        made.sliding_window_pattern = made.layer_types.index("full_attention") + 1
    return made


def gate_held_constant(self, hidden):
    """Phi's MLP with the gate held constant, as in his other files. In his file of Phi, `up` is constant instead."""
    gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
    return self.down_proj(self.activation_fn(gate).detach() * up)


def jacobian(model, ids, output):
    """The Jacobian of `output` by the embeddings, [output, source, d_model], and the embeddings."""
    embeddings = model.get_input_embeddings()(torch.tensor([ids])).detach()
    return torch.autograd.functional.jacobian(lambda x: output(model, x), embeddings)[:, 0], embeddings[0]


def logits(model, embeddings):
    return model(inputs_embeds=embeddings, use_cache=False).logits[0, -1]


def hidden(model, embeddings):
    return model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[0, -1]


def compare():
    peer, version = "Golden's detached Jacobians", proof.REPOSITORIES[REPOSITORY][:7] + f", transformers {transformers.__version__}"
    for family, (file, name, fixture) in FAMILIES.items():
        module, path = install(file, name), FIXTURES / "models" / fixture
        what = f"{family}, float64: whole map from the embeddings of {len(IDS)} tokens to the logits"
        if family == "Phi 4":
            module.Phi3MLP.forward = gate_held_constant
            what += ", the gate held constant (his file of Phi holds `up`)"
        model = AutoModelForCausalLM.from_pretrained(path, config=config(path), torch_dtype=torch.float64).eval()
        with float64():
            theirs, _ = jacobian(model, IDS, logits)
        ours = lancet("linear.rhai", "--whole", model=path, ids=",".join(map(str, IDS)))["whole"]
        yield peer, version, what, difference(ours, theirs.permute(1, 2, 0)), 1e-12

    install(*FAMILIES["Llama 3"][:2])
    model = AutoModelForCausalLM.from_pretrained(smollm2.models(), gguf_file=smollm2.FILE, torch_dtype=torch.float32).eval()
    theirs, embeddings = jacobian(model, SENTENCE, hidden)
    ours = lancet("linear.rhai", model="smollm2", dtype="f32", ids=",".join(map(str, SENTENCE)))
    with torch.no_grad():
        totals = torch.einsum("hpd,pd->ph", theirs, embeddings) @ model.lm_head.weight.T
    yield peer, version, f"SmolLM2-135M, float32: what each of {len(SENTENCE)} tokens contributes to all logits", \
        difference(ours["totals"], totals), 1e-4
    singular = torch.linalg.svdvals(theirs.permute(1, 0, 2))[:, :5]
    yield peer, version, "the same: five singular values for each token, to the last hidden state", \
        ((ours["singular"] - singular).abs() / singular).max().item(), 1e-4


if __name__ == "__main__":
    run(compare)
