#!/usr/bin/env python3
"""Read off a compiled program's weights which of its parts feed which: the known circuit.

Use:   from known_edges import known_edges
       edges, varying = known_edges(tensors, config, texts)

`tensors` and `config` are what convert.py writes, `texts` the token ids of texts, all of a program's if they are few.

An edge, by the names of EAP and MIB such as `input->a0.h1<q>`, leads from the embedding, a head or an MLP to the query, key or
value of a head, an MLP's input or the logits. It is in `edges` where the first writes, in some text, to a dimension of the
residual stream that the second's weights read. It is in `varying` where, moreover, what the second reads of the first differs between
two texts of one length at the same position: only such an edge shows in a comparison of texts.
"""

from collections import defaultdict

import numpy as np

# What counts as 0: the compiled weights are sums and products of exact numbers, and attention that is nearly 0 is e^-100.
SMALL = 1e-6


class Program:
    """A compiled program in float64: what each of its parts adds to the residual stream, and what each reads with."""

    def __init__(self, tensors, config):
        self.config = config
        self.tensors = {name: np.asarray(value, dtype=np.float64) for name, value in tensors.items()}
        for name, value in self.tensors.items():
            if ".attn." in name and name.endswith("bias") and value.any():
                raise ValueError(f"`{name}` is not 0, as it is in compiled programs")

    def weight(self, layer, name):
        return self.tensors[f"blocks.{layer}.{name}.weight"]

    def head(self, layer, name, head):
        """A head's rows of a projection, [d_head, d_model]."""
        size = self.config["d_head"]
        return self.weight(layer, f"attn.{name}")[head * size:(head + 1) * size]

    def parts(self):
        """The names of all parts in order of execution."""
        yield "input"
        for layer in range(self.config["n_layers"]):
            yield from (f"a{layer}.h{head}" for head in range(self.config["n_heads"]))
            yield f"m{layer}"

    def reads(self):
        """Each place that reads the residual stream, with its weights, [read, d_model]."""
        for layer in range(self.config["n_layers"]):
            for head in range(self.config["n_heads"]):
                yield from ((f"a{layer}.h{head}<{name}>", self.head(layer, name, head)) for name in "qkv")
            yield f"m{layer}", self.weight(layer, "mlp.in")
        yield "logits", self.tensors["unembed.weight"]

    def added(self, ids):
        """What each part adds to the residual stream in texts of one length, [text, pos, d_model]."""
        config, length = self.config, ids.shape[1]
        added = {"input": self.tensors["embed.weight"][ids] + self.tensors["pos_embed.weight"][:length]}
        stream = added["input"]
        hidden = np.triu(np.ones((length, length), dtype=bool), 1) & (config["attention_dir"] == "causal")
        for layer in range(config["n_layers"]):
            heads = {}
            for head in range(config["n_heads"]):
                query, key, value = (stream @ self.head(layer, name, head).T for name in "qkv")
                scores = np.where(hidden, -np.inf, query @ key.transpose(0, 2, 1) / np.sqrt(config["d_head"]))
                pattern = np.exp(scores - scores.max(-1, keepdims=True))
                pattern /= pattern.sum(-1, keepdims=True)
                size = config["d_head"]
                heads[f"a{layer}.h{head}"] = pattern @ value @ self.weight(layer, "attn.o")[:, head * size:(head + 1) * size].T
            stream = stream + sum(heads.values())
            hidden_units = np.maximum(stream @ self.weight(layer, "mlp.in").T + self.tensors[f"blocks.{layer}.mlp.in.bias"], 0)
            added |= heads
            added[f"m{layer}"] = hidden_units @ self.weight(layer, "mlp.out").T + self.tensors[f"blocks.{layer}.mlp.out.bias"]
            stream = stream + added[f"m{layer}"]
        return added, stream


def comes_before(part, place):
    """Whether a part's output reaches a place that reads the residual stream."""
    if part == "input" or place == "logits":
        return True
    layer, later = int(part[1:].split(".")[0]), int(place[1:].split(".")[0].split("<")[0])
    return layer < later or layer == later and part[0] == "a" and place[0] == "m"


def known_edges(tensors, config, texts):
    program = Program(tensors, config)
    by_length = defaultdict(list)
    for text in texts:
        by_length[len(text)].append(text)
    written, differs = defaultdict(lambda: False), defaultdict(lambda: False)
    reads = dict(program.reads())
    for same in by_length.values():
        for part, added in program.added(np.array(same))[0].items():
            written[part] |= (np.abs(added) > SMALL).any((0, 1))
            for place, weight in reads.items():
                seen = added @ weight.T
                differs[part, place] |= bool((np.ptp(seen, axis=0) > SMALL).any())
    edges, varying = [], []
    for place, weight in reads.items():
        read = (np.abs(weight) > SMALL).any(0)
        for part in program.parts():
            if comes_before(part, place) and (written[part] & read).any():
                edges.append(f"{part}->{place}")
                if differs[part, place]:
                    varying.append(edges[-1])
    return edges, varying
