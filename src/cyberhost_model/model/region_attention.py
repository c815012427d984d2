"""RegionCodebookAttention: learned local priors for the face and the hands (section 3.2, Figure 3).

Audio determines these regions only weakly. A codebook of motion vectors and an identity descriptor of the reference
refine the features of the region.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn
from torch.nn import functional

from cyberhost_model.config import RegionConfig
from cyberhost_model.device import supported_device

HEATMAP_WIDTH = 32
"""Hidden channels of the heat map layers, which only training runs."""


def gram_schmidt(vectors: Tensor) -> Tensor:
    """Orthonormalise rows by the Gram-Schmidt process, differentiably.

    vectors (..., n, d) with n <= d, linearly independent; returns the same shape. Computed as a QR decomposition in
    float32, which is the same up to signs and does not lose orthogonality to rounding; the signs of R's diagonal are
    moved back, so that row 0 keeps its direction.
    """
    q, r = torch.linalg.qr(vectors.to(supported_device(vectors.device), torch.float32).mT)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return (q * signs[..., None, :]).mT.to(vectors.device, vectors.dtype)


class MotionCodebook(nn.Module):
    """The learned spatio-temporal memory bank of a body region (section 3.2).

    C_spa (1, n, d) and C_temp (1, m, d), each with mutually orthogonal rows at every forward.
    """

    def __init__(self, spatial: int, temporal: int, dim: int) -> None:
        super().__init__()
        self.spatial = nn.Parameter(torch.randn(1, spatial, dim))
        self.temporal = nn.Parameter(torch.randn(1, temporal, dim))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Orthogonalise the codebooks -> (C_spa, C_temp), rows of length sqrt(d), so of about unit entries."""
        scale = self.spatial.shape[-1] ** 0.5
        return gram_schmidt(self.spatial) * scale, gram_schmidt(self.temporal) * scale


class RegionCodebookAttention(nn.Module):
    """F_out = (F_motion + F_id) * M_r + F_in (eq. 5), the identity at initialisation.

    F_motion (eq. 2-3): cross attention to C_spa in the spatial and to C_temp in the temporal dimension, with one query
    projection for both. Cross attention treats each token by itself, so the temporal one differs by its query, to which
    the frame's position is added. F_id (eq. 4): cross attention to the identity descriptor. M_r: predicted from F_in by
    convolutions, returned as logits so that training can supervise it with boxes. Heat maps for eq. 6 are predicted
    from F_out when asked for.
    """

    def __init__(
        self,
        channels: int,
        config: RegionConfig,
        keypoints: int,
        max_frames: int,
        motion_codebook: bool,
        id_descriptor: bool,
    ) -> None:
        super().__init__()
        dim = config.codebook_dim
        self.heads = config.heads
        self.cached: tuple[Tensor, Tensor] | None = None
        """Keys and values of the codebooks while the weights do not change, see `cache_codebooks`."""
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, dim, bias=False)
        self.codebook = self.frame_position = self.descriptor = None
        if motion_codebook:
            self.codebook = MotionCodebook(config.spatial_vectors, config.temporal_vectors, dim)
            self.frame_position = SinusoidalPositionalEmbedding(dim, max_frames)
            self.spatial_kv = nn.Linear(dim, 2 * dim, bias=False)
            self.temporal_kv = nn.Linear(dim, 2 * dim, bias=False)
            self.motion_out = _zero(nn.Linear(dim, channels))
        if id_descriptor:
            # no bias: a descriptor of zeros, as in the branch without a reference, adds nothing
            self.descriptor = nn.Linear(config.identity_dim, 2 * dim, bias=False)
            self.identity_out = _zero(nn.Linear(dim, channels, bias=False))
        hidden = max(channels // 4, 16)
        self.mask = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(hidden, 1, 3, padding=1)
        )
        self.heatmaps = None
        if keypoints:
            self.heatmaps = nn.Sequential(
                nn.Conv2d(channels, HEATMAP_WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(HEATMAP_WIDTH, HEATMAP_WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(HEATMAP_WIDTH, keypoints, 1),
            )

    def forward(
        self, x: Tensor, frames: int, identity: Tensor | None, heatmaps: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refine a region of x (B*F, C, h, w); identity (B, n, D) or None.

        Returns F_out, the logits of M_r (B*F, 1, h, w) and the heat maps (B*F, K, h, w); no heat maps unless they are
        asked for and this region has them.
        """
        logits = self.mask(x)
        tokens = self.norm(x.permute(0, 2, 3, 1)).flatten(1, 2)  # (B*F, N, C)
        query = self.to_q(tokens).unflatten(0, (-1, frames))  # (B, F, N, d)
        added: list[Tensor] = []
        if self.codebook is not None and self.frame_position is not None:
            spatial, temporal = self._codebooks() if self.cached is None else self.cached
            position = self.frame_position.pe[0, :frames, None].to(query.dtype)  # (F, 1, d)
            motion = self._attend(query, spatial)
            motion = motion + self._attend(query + position, temporal)
            added.append(self.motion_out(motion))
        if self.descriptor is not None and identity is not None:
            added.append(self.identity_out(self._attend(query, self.descriptor(identity))))
        if added:
            refined = sum(added[1:], added[0]).flatten(0, 1).unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
            x = x + refined * logits.sigmoid()
        return x, logits, self.heatmaps(x) if heatmaps and self.heatmaps is not None else None

    def cache_codebooks(self, enabled: bool) -> None:
        """Compute the codebooks' keys and values once, or no longer; valid while the weights do not change.

        They are no part of the state dict.
        """
        self.cached = self._codebooks() if enabled and self.codebook is not None else None

    def _codebooks(self) -> tuple[Tensor, Tensor]:
        """Project the codebooks to keys and values, concatenated: of C_spa (1, n, 2d), of C_temp (1, m, 2d)."""
        assert self.codebook is not None
        spatial, temporal = self.codebook()
        return self.spatial_kv(spatial), self.temporal_kv(temporal)

    def _attend(self, query: Tensor, kv: Tensor) -> Tensor:
        """Attend with query (B, F, N, d) to keys and values, concatenated (B or 1, n, 2d) -> (B, F, N, d)."""
        batch, frames, tokens, dim = query.shape
        q = query.reshape(batch, frames * tokens, self.heads, -1).transpose(1, 2)
        k, v = kv.expand(batch, -1, -1).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).reshape(batch, frames, tokens, dim)


def _zero(layer: nn.Linear) -> nn.Linear:
    """Set the parameters of a layer to zero, and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
