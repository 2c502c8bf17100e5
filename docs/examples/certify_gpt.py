"""A small GPT-like network of torch.nn modules, every block of it certified as layers of a Bregman chain.

With ρ the normalisation, a pre-norm block is v + A(ρ(v)): z⁺ = argmin_z −⟨z, A(z⁻)⟩ + D_φ(z, z⁻) + g(z), whose dual
state u = ∇φ(z) is the residual stream, A the attention or the perceptron. Run: python docs/examples/certify_gpt.py
"""

import torch
from torch import nn

import bilevelnet as bln

WIDTH, HEADS, TOKENS, VOCABULARY = 16, 2, 8, 50


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)), causal."""

    def __init__(self, norm):
        super().__init__()
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x):
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        h = self.norm1(x)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.perceptron(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, norms):
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.ModuleList(Block(norm) for norm in norms)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


torch.manual_seed(0)
gpt = GPT([nn.LayerNorm, nn.RMSNorm])  # GPT-2's norm, and the one of later models
tokens = torch.randint(VOCABULARY, (4, TOKENS))
loss = nn.functional.cross_entropy(gpt(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
print(f"loss of the untrained network: {loss:.3f}")

# Each block at the streams that reach it.
stream = gpt.token(tokens) + gpt.place(torch.arange(TOKENS))
for k, block in enumerate(gpt.blocks):
    certificate = bln.verify(block, samples=stream[:2])
    worst = max(row.error for row in certificate.rows if row.compared.endswith("value"))
    slope = max(row.error for row in certificate.rows if "gradient" in row.compared)
    print(f"block {k}: {'certified' if certificate.passed else 'NOT certified'}, {len(certificate.rows)} comparisons")
    print(f"  worst error: values {worst:.0e}, gradients {slope:.0e}")
    print(f"  {certificate.theorem}")
    stream = block(stream)
