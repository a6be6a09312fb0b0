"""The modules that diffusers does not have: response normalisation, gated and ConvNeXt blocks, linear attention.

Notation
    x, h    feature maps, ``batch x channels x height x width``
    t       time embedding, ``batch x time``
    g(t)    gate: a linear layer of the activated time embedding, one number a channel, zero at the start
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Respond(torch.autograd.Function):
    """`ResponseNorm` with its gradient in half of the passes over the map that autograd takes for the equation."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """Normalise ``batch x channels x height x width``."""
        energy = x.float().square().sum(dim=(2, 3), keepdim=True).sqrt()  # squares leave the range of float16
        mean = energy.mean(dim=1, keepdim=True) + 1e-6
        share = energy / mean
        factor = 1 + gamma * share.to(x.dtype)
        ctx.save_for_backward(x, gamma, energy, mean, share, factor)
        return torch.addcmul(beta, x, factor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of x, gamma and beta."""
        x, gamma, energy, mean, share, factor = ctx.saved_tensors
        product = gradient * x
        of_factor = product.sum(dim=(2, 3), keepdim=True)
        of_share = of_factor * gamma
        of_energy = (of_share - (of_share * share).mean(dim=1, keepdim=True)) / mean
        of_beta = gradient.sum(dim=(0, 2, 3))[:, None, None]
        of_x = torch.mul(gradient, factor, out=product)  # the map is large: its memory serves twice
        of_x.addcmul_(x, (of_energy / energy).masked_fill(energy == 0, 0))
        return of_x, (of_factor * share).sum(dim=0), of_beta


class ResponseNorm(nn.Module):
    """Global response normalisation: channels compete for the energy of the map.

    ``y = x + gamma * (x * N) + beta`` with ``N_c = G_c / (mean over channels of G + eps)`` and ``G_c = ||x_c||_2`` over
    the pixels; gamma and beta start at zero. Woo et al., "ConvNeXt V2" (2023, arXiv 2301.00808).

    Args:
        channels: of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``batch x channels x height x width``."""
        normalised: torch.Tensor = _Respond.apply(x, self.gamma, self.beta)
        return normalised


def time_gate(time: int, outputs: int) -> nn.Linear:
    """The linear layer g, which starts at zero (Peebles & Xie, DiT 2023, adaLN-zero)."""
    gate = nn.Linear(time, outputs)
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)
    return gate


def per_channel(values: torch.Tensor) -> torch.Tensor:
    """``batch x channels`` as something that multiplies feature maps."""
    return values[:, :, None, None]


class GatedBlock(nn.Module):
    """A residual block with response normalisation and a gate.

    ``u = SiLU(norm(conv3x3(SiLU(norm(x)))) * (1 + scale(t)) + shift(t))``,
    ``y = shortcut(x) + g(t) * conv3x3(dropout(ResponseNorm(u)))``.
    The two convolutions and the modulation are those of IDDPM's block (Nichol & Dhariwal 2021), the gate is DiC's (Tian
    et al. 2025, arXiv 2501.00603). The second convolution keeps its ordinary initialisation: behind a gate
    that starts at zero it could not learn if it started at zero, too.

    Args:
        inputs, inner, outputs: channels before, between and behind the convolutions.
        time: width of the time embedding.
        groups: of the two normalisations.
        eps: of the two normalisations.
        dropout: probability.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, time: int, groups: tuple[int, int], eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups[0], inputs, eps=eps)
        self.conv1 = nn.Conv2d(inputs, inner, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, 2 * inner)
        self.norm2 = nn.GroupNorm(groups[1], inner, eps=eps)
        self.response = ResponseNorm(inner)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1)
        self.gate = time_gate(time, outputs)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """``batch x inputs x side x side`` and ``batch x time`` to ``batch x outputs x side x side``."""
        time = functional.silu(time)
        scale, shift = per_channel(self.time_emb_proj(time)).chunk(2, dim=1)
        h = self.norm2(self.conv1(functional.silu(self.norm1(x))))
        h = functional.silu(torch.addcmul(shift, h, 1 + scale))
        h = self.conv2(self.dropout(self.response(h)))
        return torch.addcmul(self.conv_shortcut(x), per_channel(self.gate(time)), h)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, then two 1x1 convolutions with many channels between them.

    ``u = norm(depthwise(x)) * (1 + scale(t)) + shift(t)``,
    ``y = shortcut(x) + g(t) * conv1x1(dropout(ResponseNorm(GELU(conv1x1(u)))))``.
    The order is ConvNeXt V2's (Woo et al. 2023, arXiv 2301.00808); modulation and gate by an embedding as in
    DiT and in FCDM (arXiv 2603.09408). Ours are: group instead of layer normalisation, which needs no transposition of
    ``batch x channels x height x width`` and is faster on CPUs; and the depthwise convolution on what comes in, skips
    included, so that a block can change its number of channels without a layer of its own.

    Args:
        inputs, inner, outputs: channels before, between and behind the 1x1 convolutions.
        kernel: height and width of the depthwise kernel, odd.
        time: width of the time embedding.
        groups: of the normalisation.
        eps: of the normalisation.
        dropout: probability.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, kernel: int, time: int, groups: int, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs)
        self.norm = nn.GroupNorm(groups, inputs, eps=eps)
        self.time_emb_proj = nn.Linear(time, 2 * inputs)
        self.expand = nn.Conv2d(inputs, inner, 1)
        self.response = ResponseNorm(inner)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Conv2d(inner, outputs, 1)
        self.gate = time_gate(time, outputs)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """``batch x inputs x side x side`` and ``batch x time`` to ``batch x outputs x side x side``."""
        time = functional.silu(time)
        scale, shift = per_channel(self.time_emb_proj(time)).chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm(self.depthwise(x)), 1 + scale)
        h = self.project(self.dropout(self.response(functional.gelu(self.expand(h)))))
        return torch.addcmul(self.conv_shortcut(x), per_channel(self.gate(time)), h)


class EfficientAttention(nn.Module):
    """Attention whose cost grows with the number of pixels, not with its square.

    ``y = x + W_o (softmax over features(Q) (softmax over pixels(K)^T V))``, head by head: the small product of keys and
    values comes first. Shen et al., "Efficient Attention: Attention with Linear Complexities" (2021, arXiv 1812.01243),
    with softmax normalisation. The last projection starts at zero.

    Args:
        width: channels.
        heads: divide the width.
        groups: of the normalisation.
        eps: of the normalisation.
    """

    def __init__(self, width: int, heads: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, width, eps=eps)
        self.to_q = nn.Conv2d(width, width, 1)
        self.to_k = nn.Conv2d(width, width, 1)
        self.to_v = nn.Conv2d(width, width, 1)
        self.to_out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.to_out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``batch x width x side x side`` to the same shape."""
        h = self.group_norm(x)
        # batch x heads x features x pixels
        queries, keys, values = (
            project(h).unflatten(1, (self.heads, -1)).flatten(3) for project in (self.to_q, self.to_k, self.to_v)
        )
        context = keys.softmax(dim=3) @ values.transpose(2, 3)
        found = context.transpose(2, 3) @ queries.softmax(dim=2)
        added: torch.Tensor = self.to_out(found.reshape(x.shape))
        return x + added
