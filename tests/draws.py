"""The points, matrices and groups of the tests of splitting and of what is behind a linear map."""

from __future__ import annotations

import torch

F64 = torch.float64
G = torch.Generator().manual_seed(3)
V = 2 * torch.randn(3, 6, dtype=F64, generator=G)
K = torch.randn(4, 6, dtype=F64, generator=G)
Q = torch.randn(6, 6, dtype=F64, generator=G)
Q = Q @ Q.mT + 0.3 * torch.eye(6, dtype=F64)
GROUPS = ((0, 1, 2), (3, 5))
