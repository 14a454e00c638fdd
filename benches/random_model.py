"""Writes a model of a known shape with random weights and no tokenizer, for measurements without a checkpoint.

    python benches/random_model.py olmo2-1b out/bench/olmo2-1b

Lancet and transformers load the same folder, so their numbers can be compared.
"""

import argparse

import torch
import transformers
from transformers import Olmo2Config, Olmo2ForCausalLM

SHAPES = {
    # allenai/OLMo-2-0425-1B
    "olmo2-1b": dict(
        hidden_size=2048, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=16, intermediate_size=8192,
        vocab_size=100352, max_position_embeddings=4096, rope_theta=500000.0, rms_norm_eps=1e-6, tie_word_embeddings=False,
    ),
    # Small enough for a test on any machine
    "tiny": dict(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=512, max_position_embeddings=128, tie_word_embeddings=False,
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(arguments.seed)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    special = dict.fromkeys(["bos_token_id", "eos_token_id", "pad_token_id"])
    Olmo2ForCausalLM(Olmo2Config(**SHAPES[arguments.shape], **special)).save_pretrained(arguments.folder)
    print(f"{arguments.folder}: {arguments.shape}, {arguments.dtype}, random weights")


if __name__ == "__main__":
    main()
