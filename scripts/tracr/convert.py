#!/usr/bin/env python3
"""Write a program that Tracr has compiled as a model that Lancet loads.

With:  Tracr from https://github.com/google-deepmind/tracr, dm-haiku, safetensors
Use:   from convert import convert
       model = tracr.compiler.compiling.compile_rasp_to_model(program, vocab=.., max_seq_len=.., compiler_bos="BOS")
       convert(model, "my_program")

The folder gets config.json (`model_type: toy`), model.safetensors, tokenizer.json, whose tokens are the program's symbols,
separated by spaces (`BOS a b c`), and program.json: `outputs`, what each logit stands for (null: the only logit is the output
itself), and `residual`, the name of each dimension of the residual stream.
"""

import json
from pathlib import Path

import haiku as hk
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file


def unembedding(model):
    """The map from the residual stream to the output, [d_model, output]; a program holds it as a function."""

    @hk.without_apply_rng
    @hk.transform
    def logits_of_dimensions():
        return model.get_compiled_model().unembed(jnp.eye(len(model.residual_labels)), use_unembed_argmax=False)

    columns = np.asarray(logits_of_dimensions.apply(model.params))
    return columns.reshape(len(model.residual_labels), -1).astype(np.float32)


def weights(model):
    """The weights by the names of TransformerLens's native model, matrices as [out, in]."""
    found = {"embed.weight": model.params["token_embed"]["embeddings"], "pos_embed.weight": model.params["pos_embed"]["embeddings"],
             "unembed.weight": unembedding(model).T}
    names = {"attn/query": "attn.q", "attn/key": "attn.k", "attn/value": "attn.v", "attn/linear": "attn.o",
             "mlp/linear_1": "mlp.in", "mlp/linear_2": "mlp.out"}
    for layer in range(model.model_config.num_layers):
        for theirs, ours in names.items():
            linear = model.params[f"transformer/layer_{layer}/{theirs}"]
            found[f"blocks.{layer}.{ours}.weight"] = linear["w"].T
            found[f"blocks.{layer}.{ours}.bias"] = linear["b"]
    known = 2 + 2 * len(names) * model.model_config.num_layers
    if sum(len(parts) for parts in model.params.values()) != known:
        raise ValueError(f"the model has other parameters than a compiled program: {sorted(model.params)}")
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in found.items()}


def symbols(encoder):
    """An encoder's values in the order of their numbers."""
    return sorted(encoder.encoding_map, key=encoder.encoding_map.get)


def tokenizer(words, bos, pad):
    """A tokenizer of whole words, as the library `tokenizers` writes it."""
    if any(word != "".join(word.split()) or not word for word in words) or len(set(words)) != len(words):
        raise ValueError(f"the symbols are not distinct words without spaces: {words}")
    special = [{"id": words.index(word), "content": word, "single_word": True, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for word in (bos, pad)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(special, key=lambda token: token["id"]),
            "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                               "special_tokens": {bos: {"id": bos, "ids": [words.index(bos)], "tokens": [bos]}}},
            "decoder": None,
            # No token stands for unknown words, which are an error.
            "model": {"type": "WordLevel", "vocab": {word: number for number, word in enumerate(words)}, "unk_token": ""}}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def convert(model, folder):
    """Writes a compiled program into `folder`."""
    config, tensors = model.model_config, weights(model)
    if config.layer_norm:
        raise ValueError("a compiled program has no LayerNorm, and this model has")
    if config.activation_function.__name__ != "relu":
        raise ValueError(f"a compiled program's activation is relu, and this model's is {config.activation_function}")
    folder, inputs, outputs = Path(folder), model.input_encoder, model.output_encoder
    words = [str(word) for word in symbols(inputs)]
    folder.mkdir(parents=True, exist_ok=True)
    d_vocab_out, d_model = tensors["unembed.weight"].shape
    write_json(folder / "config.json", {
        "model_type": "toy", "n_layers": config.num_layers, "d_model": d_model, "n_heads": config.num_heads,
        "d_head": config.key_size, "d_mlp": config.mlp_hidden_size, "d_vocab": len(words), "d_vocab_out": d_vocab_out, "outputs_are_tokens": False,
        "n_ctx": len(tensors["pos_embed.weight"]), "act_fn": "relu", "attn_only": False, "normalization_type": None,
        "attention_dir": "causal" if config.causal else "bidirectional", "positional_embedding_type": "standard",
        "unembed_bias": False})
    write_json(folder / "tokenizer.json", tokenizer(words, inputs.bos_token, inputs.pad_token))
    write_json(folder / "tokenizer_config.json", {"bos_token": inputs.bos_token, "pad_token": inputs.pad_token})
    write_json(folder / "program.json", {"outputs": symbols(outputs) if hasattr(outputs, "encoding_map") else None,
                                         "residual": model.residual_labels})
    save_file(tensors, folder / "model.safetensors")
    return tensors
