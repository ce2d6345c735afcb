# SPDX-License-Identifier: Apache-2.0
"""transformers' generate, of a small model of random weights."""

import absent

torch = absent.needed("torch")
transformers = absent.needed("transformers")

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=256,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)
model = transformers.LlamaForCausalLM(config).to("cuda", torch.bfloat16).eval()
tokens = torch.tensor([[1, 2, 3, 4]], device="cuda")
mask = torch.ones_like(tokens)
with torch.no_grad():
    written = model.generate(
        tokens, attention_mask=mask, max_new_tokens=24, do_sample=False, pad_token_id=0
    )
assert written.shape == (1, 28) or written.shape[1] > 4
print("tokens:", written[0].tolist())
