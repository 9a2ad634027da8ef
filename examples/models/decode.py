"""Decodes with a key cache: one compiled step, called token by token, beside PyTorch.

Needs the hf extra. The model is a small Llama with random weights; its cache is a buffer that every
call updates in place.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.executorch import TorchExportableModuleForDecoderOnlyLM

import tenzing

STEPS = 4


def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16, pad_token_id=0,
        cache_implementation="static", use_cache=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    exportable = TorchExportableModuleForDecoderOnlyLM(
        model, batch_size=1, max_cache_len=8, device=torch.device("cpu")
    )
    example = {"input_ids": torch.tensor([[5]]), "cache_position": torch.tensor([0])}
    step = tenzing.compile(exportable.export(**example), example)
    tokens = [5]
    for position in range(STEPS):
        logits = step(input_ids=torch.tensor([[tokens[-1]]]),
                      cache_position=torch.tensor([position]))  # fmt: skip
        with torch.no_grad():
            wanted = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        worst = float((logits[0, -1] - wanted).abs().max())
        tokens.append(int(logits[0, -1].argmax()))
        print(f"position {position}: token {tokens[-1]}, largest difference {worst:.1e}")
    print(f"tokens {tokens}; one step takes {step.latency_us:.0f} us on trn2 (simulated)")


if __name__ == "__main__":
    main()
