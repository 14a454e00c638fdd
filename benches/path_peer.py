"""Paths of one prompt as the paper describes them, in PyTorch on a transformers model: the peer of Lancet's paths.

Our own transcription of section 6 of "Patches of Nonlinearity": a surrogate matrix d_model x d_model for the MLP of every layer and
token and for every head, the graph of maximal attention (equation 3's weights), one folded d_model x d_model matrix for every
edge, all kept in memory; paths enumerated recursively from each source token; for each path the matrices of its edges applied
to the embedding one after the other, projected by the unembedding, and the answer's rank counted. Two courtesies: norms are
vectors, not diagonal matrices, and branches that cannot reach the last position are not entered.

    python benches/path_peer.py --model smollm2 --ids 504,3575,282,4649,314 --paths 200

Prints JSON: seconds, paths per second, memory, and the answer's logit and rank for each of the first --paths paths. On a busy
machine PyTorch's threads wait for each other and everything takes several times as long: see `load`, and use --threads 1.
setup/peers.py installs what this needs.
"""

import argparse
import itertools
import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "setup"))
import smollm2  # noqa: E402

FAMILIES = {"llama": False, "olmo2": True}  # model type -> whether norms come after attention and MLP


class Surrogates:
    """The terms of equation 3 at one prompt."""

    def __init__(self, model, ids):
        self.post_norm = FAMILIES[model.config.model_type]
        self.layers = model.model.layers
        scales, activations, handles = {}, {}, []

        def watch(norm, key):
            def hook(module, args):
                x = args[0][0]
                scales[key] = norm.weight * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)  # [pos, d_model]
            handles.append(norm.register_forward_pre_hook(hook))

        first, second = (("post_attention_layernorm", "post_feedforward_layernorm") if self.post_norm
                         else ("input_layernorm", "post_attention_layernorm"))
        for l, layer in enumerate(self.layers):
            watch(getattr(layer, first), ("attention", l))
            watch(getattr(layer, second), ("mlp", l))
            handles.append(layer.mlp.act_fn.register_forward_hook(lambda m, a, out, l=l: activations.update({l: out[0]})))
        watch(model.model.norm, "final")
        out = model(input_ids=ids[None], use_cache=False, output_attentions=True, output_hidden_states=True)
        for handle in handles:
            handle.remove()
        self.logits, self.states = out.logits[0, -1], [h[0] for h in out.hidden_states]
        self.attention = [a[0] for a in out.attentions]  # [head, target, source] of each layer
        self.attention_norm = [scales["attention", l] for l in range(len(self.layers))]
        self.mlp_norm = [scales["mlp", l] for l in range(len(self.layers))]
        self.unembed, self.final_norm = model.lm_head.weight, scales["final"][-1]
        self.mlp, self.head_maps = [], []  # V of each layer and position; W_OV of each layer and head
        heads = model.config.num_attention_heads
        for l, layer in enumerate(self.layers):
            up, down = layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
            self.mlp.append([down @ (activation[:, None] * up) for activation in activations[l]])
            value = layer.self_attn.v_proj.weight.unflatten(0, (model.config.num_key_value_heads, -1))
            value = value.repeat_interleave(heads // len(value), dim=0)
            output = layer.self_attn.o_proj.weight.unflatten(1, (heads, -1))
            self.head_maps.append([output[:, h] @ value[h] for h in range(heads)])

    def reconstruction_error(self):
        """The error of equation 3, all heads on all edges, against the model's states, relative to the largest entry."""
        worst = 0.0
        for l in range(len(self.layers) - 1):  # transformers puts the final norm on the last of its states
            x = self.states[l]
            read = x if self.post_norm else x * self.attention_norm[l]
            added = sum(p @ (read @ head.T) for p, head in zip(self.attention[l], self.head_maps[l]))
            mid = x + (added * self.attention_norm[l] if self.post_norm else added)
            if self.post_norm:
                mlp = torch.stack([v @ m for v, m in zip(self.mlp[l], mid)]) * self.mlp_norm[l]
            else:
                mlp = torch.stack([v @ m for v, m in zip(self.mlp[l], mid * self.mlp_norm[l])])
            wanted = self.states[l + 1]
            worst = max(worst, ((mid + mlp - wanted).abs().max() / wanted.abs().max()).item())
        return worst

    def fold(self, layer, source, target, heads):
        """The matrix of one edge."""
        identity = torch.eye(len(self.final_norm), dtype=self.final_norm.dtype)
        edge = identity.clone() if source == target else torch.zeros_like(identity)
        attention = sum((self.attention[layer][h, target, source] * self.head_maps[layer][h] for h in heads),
                        start=torch.zeros_like(identity))
        if self.post_norm:
            edge += self.attention_norm[layer][target][:, None] * attention
            return (identity + self.mlp_norm[layer][target][:, None] * self.mlp[layer][target]) @ edge
        edge += attention * self.attention_norm[layer][source]
        return (identity + self.mlp[layer][target] * self.mlp_norm[layer][target]) @ edge


def argmax_graph(attention):
    """For each layer the edges, (source, target) -> heads that attend from target most to source; none on the residual's alone."""
    graph = []
    for pattern in attention:
        edges = {(i, i): [] for i in range(pattern.shape[1])}
        for h, sources in enumerate(pattern.argmax(-1).tolist()):
            for target, source in enumerate(sources):
                edges.setdefault((source, target), []).append(h)
        graph.append(edges)
    return graph


def paths_onward(graph, positions):
    """The number of paths from each node (layer, position) to the last position."""
    counts = [[0] * (positions - 1) + [1]]
    for edges in reversed(graph):
        here = [0] * positions
        for source, target in edges:
            here[source] += counts[0][target]
        counts.insert(0, here)
    return counts


def enumerate_paths(graph, onward, tokens):
    """Every path that begins with `tokens`, in the order of its tokens."""
    layer = len(tokens) - 1
    if layer == len(graph):
        yield tokens
        return
    for target in range(tokens[-1], len(onward[0])):
        if (tokens[-1], target) in graph[layer] and onward[layer + 1][target]:
            yield from enumerate_paths(graph, onward, tokens + [target])


def memory():
    """The process's resident bytes, from Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load(name, dtype):
    """The model, dequantised to float32 first as Lancet does."""
    file = smollm2.models() / smollm2.FILE if name == "smollm2" else Path(name)
    where, kind = (file.parent, {"gguf_file": file.name}) if file.suffix == ".gguf" else (file, {})
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, attn_implementation="eager", **kind).eval()
    if model.config.model_type not in FAMILIES:
        families = ", ".join(FAMILIES)
        sys.exit(f"error: a model of type {model.config.model_type} cannot be measured\nhint: one of these can: {families}")
    return model.to(dtype)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="smollm2, a GGUF file, or a folder that save_pretrained wrote")
    parser.add_argument("--ids", required=True, help="token ids, separated by commas")
    parser.add_argument("--answer", type=int, help="token id of the answer (default: the most likely token)")
    parser.add_argument("--paths", type=int, default=200, help="how many paths, from the first (default 200)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                        help="of all matrices; in float64 too, transformers takes norms and softmax in float32")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds, resident, clock = {}, {}, time.perf_counter()

    def lap(name):
        nonlocal clock
        seconds[name], resident[name] = time.perf_counter() - clock, memory()
        clock = time.perf_counter()

    model = load(args.model, getattr(torch, args.dtype))
    lap("load")
    loading_peak = peak_memory()
    ids = torch.tensor([int(i) for i in args.ids.split(",")])
    surrogates = Surrogates(model, ids)
    lap("surrogates")
    error = surrogates.reconstruction_error()
    clock = time.perf_counter()
    graph = argmax_graph(surrogates.attention)
    onward = paths_onward(graph, len(ids))
    folded = [{edge: surrogates.fold(l, *edge, heads) for edge, heads in edges.items()} for l, edges in enumerate(graph)]
    lap("edges")
    answer = surrogates.logits.argmax().item() if args.answer is None else args.answer
    found = []
    every = (path for source in range(len(ids)) if onward[0][source] for path in enumerate_paths(graph, onward, [source]))
    for tokens in itertools.islice(every, args.paths):
        x = surrogates.states[0][tokens[0]]
        for layer, edge in enumerate(zip(tokens, tokens[1:])):
            x = folded[layer][edge] @ x
        logits = surrogates.unembed @ (surrogates.final_norm * x)
        rank = 1 + (logits > logits[answer]).sum().item()
        found.append({"tokens": tokens, "answer_logit": logits[answer].item(), "rank": rank})
    lap("paths")
    count = lambda tensors: sum(t.nbytes for t in tensors)  # noqa: E731
    print(json.dumps({
        "model": args.model, "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cores": os.cpu_count(), "load": os.getloadavg()[0], "threads": torch.get_num_threads(), "dtype": args.dtype,
        "input_ids": ids.tolist(), "answer_id": answer,
        "answer_logit": surrogates.logits[answer].item(), "reconstruction_error": error,
        "edges": sum(map(len, graph)), "paths_in_graph": sum(onward[0]), "paths_measured": len(found),
        "seconds": seconds, "paths_per_second": len(found) / seconds["paths"],
        "bytes": {"mlp_surrogates": count(itertools.chain(*surrogates.mlp)),
                  "head_maps": count(itertools.chain(*surrogates.head_maps)), "edges": count(m for edges in folded for m in edges.values()),
                  "resident_after": resident, "peak_after_load": loading_peak, "peak": peak_memory()},
        "paths": found}))


if __name__ == "__main__":
    main()
