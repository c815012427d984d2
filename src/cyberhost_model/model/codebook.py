"""MotionCodebook: the learned spatio-temporal memory bank of a body region (section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .able import able


def gram_schmidt(vectors: Tensor) -> Tensor:
    """Orthonormal rows by the Gram-Schmidt process, differentiable.

    vectors (..., n, d) with n <= d, linearly independent. Computed as a QR decomposition in float32, which is the same up to signs and
    does not lose orthogonality to rounding; the signs of R's diagonal are moved back, so that row 0 keeps its direction.
    """
    q, r = torch.linalg.qr(vectors.to(able(vectors.device), torch.float32).mT)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return (q * signs[..., None, :]).mT.to(vectors.device, vectors.dtype)


class MotionCodebook(nn.Module):
    """C_spa (1, n, d) and C_temp (1, m, d), each with mutually orthogonal rows at every forward."""

    def __init__(self, spatial: int, temporal: int, dim: int) -> None:
        super().__init__()
        self.spatial = nn.Parameter(torch.randn(1, spatial, dim))
        self.temporal = nn.Parameter(torch.randn(1, temporal, dim))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(C_spa, C_temp): orthogonal rows of length sqrt(d), so that their entries are of the size attention expects."""
        scale = self.spatial.shape[-1] ** 0.5
        return gram_schmidt(self.spatial) * scale, gram_schmidt(self.temporal) * scale
