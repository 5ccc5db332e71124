"""The paper's network for charged particles: where they are a unit of time later (section 5.1)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from archbook.checks import require_tensor
from archbook.egnn.network import EGNN


class NBodyEGNN(nn.Module):
    """Positions x, velocities v and charges of systems of particles -> positions later.

    A node's feature is its speed; an edge knows the product of its charges and, with
    `edge_distance`, the squared distance of the input in every layer, as in the authors' code.
    With `edge_angles` it knows two invariants of the velocities more, of which distances say
    nothing: (x_i - x_j).(v_i - v_j) and |v_i - v_j|^2. `options` go to each `EGCL`.

    >>> model = NBodyEGNN(16, 2)
    >>> x, v = torch.randn(2, 3, 5, 3)  # three systems of five particles
    >>> model(x, v, charges=torch.ones(3, 5)).shape
    torch.Size([3, 5, 3])
    """

    def __init__(
        self,
        hidden: int,
        layers: int,
        *,
        edge_distance: bool = True,
        edge_angles: bool = False,
        **options,
    ):
        super().__init__()
        self.edge_distance, self.edge_angles = edge_distance, edge_angles
        features = 1 + edge_distance + 2 * edge_angles
        self.body = EGNN(1, hidden, layers, edge_features=features, velocity=True, **options)
        # Only positions are read: the last layer's features lead nowhere, as in the authors' model.
        # Said to torch, so that data parallel training waits for no gradient of theirs.
        self.body.layers[-1].phi_h.requires_grad_(False)

    def forward(
        self,
        x: Float[Tensor, "systems particles n"],
        v: Float[Tensor, "systems particles n"],
        charges: Float[Tensor, "systems particles"],
    ) -> Float[Tensor, "systems particles n"]:
        if x.dim() != 3:
            raise ValueError(f"wanted x to have shape (systems, particles, n), given {(*x.shape,)}")
        require_tensor("v", v, (*x.shape,))
        require_tensor("charges", charges, (*x.shape[:2],))
        shape = x.shape
        send, receive = edges = every_pair(shape[0], shape[1], x.device)
        x, v, charge = x.flatten(0, 1), v.flatten(0, 1), charges.flatten()[:, None]
        between, drift = x[receive] - x[send], v[receive] - v[send]
        known = [charge[receive] * charge[send]]
        if self.edge_distance:
            known.append(between.square().sum(-1, keepdim=True))
        if self.edge_angles:
            known.append((between * drift).sum(-1, keepdim=True))
            known.append(drift.square().sum(-1, keepdim=True))
        speed = v.norm(dim=-1, keepdim=True)
        return self.body(speed, x, edges, edge_attr=torch.cat(known, -1), v=v)[1].reshape(shape)


def every_pair(
    systems: int, particles: int, device: torch.device | str | None = None
) -> Int64[Tensor, "2 edges"]:
    """`complete_edges([particles] * systems)`, in steps that export and compile."""
    if particles < 2:
        raise ValueError(f"wanted at least 2 particles in a system, given {particles}")
    pair = torch.arange(particles * (particles - 1), device=device)
    receive, send = pair // (particles - 1), pair % (particles - 1)
    one = torch.stack([send + (send >= receive), receive])
    return (one[:, None] + particles * torch.arange(systems, device=device)[:, None]).flatten(1)
