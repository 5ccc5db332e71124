"""The EGNN's equations as a slow double loop, random cases and motions to try them on."""

from typing import NamedTuple

import torch
from drawing import largest, normal, order_one
from torch import Tensor, nn

from archbook.egnn import EGCL

VARIANTS = {
    "plain": {},
    "edge features": {"edge_features": 2},
    "velocity": {"velocity": True},
    "attention": {"attention": True},
    "normalized": {"normalize": True},
    "sum": {"aggregation": "sum"},
    "invariant": {"update_positions": False, "attention": True, "edge_features": 1},
    "all": {
        "edge_features": 2,
        "velocity": True,
        "attention": True,
        "normalize": True,
        "aggregation": "sum",
    },
}
HIDDEN = 5


def layer_of(variant: str, cls: type[EGCL] = EGCL, seed: int = 0) -> EGCL:
    return order_one(cls(HIDDEN, **VARIANTS[variant]), seed)


class Case(NamedTuple):
    """Inputs of a layer, in the order of its arguments."""

    h: Tensor
    x: Tensor
    edges: Tensor | None
    edge_attr: Tensor | None
    v: Tensor | None

    def to(self, dtype: torch.dtype) -> "Case":
        return Case(*(t.to(dtype) if t is not None and t.is_floating_point() else t for t in self))


# Directed, one edge twice, one only one way; node 5 only sends, node 6 is alone.
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 0, 2], [1, 0, 1, 2, 3, 4, 2, 1, 4]])


def case_of(
    layer, features: int, n: int = 3, edges: Tensor = EDGES, nodes: int = 7, seed: int = 0
) -> Case:
    """Random inputs over `edges` for a layer or network that says what it needs."""
    k = layer.edge_features
    return Case(
        normal(nodes, features, seed=seed),
        normal(nodes, n, seed=seed + 1),
        edges,
        normal(edges.shape[1], k, seed=seed + 2) if k else None,
        normal(nodes, n, seed=seed + 3) if layer.phi_v is not None else None,
    )


def slow_egcl(
    layer: EGCL,
    h: Tensor,
    x: Tensor,
    edges: Tensor,
    edge_attr: Tensor | None = None,
    v: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Eqs. 3 to 8, one receiver and one of its neighbours at a time."""
    new_h, new_x, new_v = [], [], []
    for i in range(len(h)):
        m_i, push, neighbours = torch.zeros_like(h[0]), torch.zeros_like(x[0]), 0
        for e, (j, receiver) in enumerate(edges.T.tolist()):
            if receiver != i:
                continue
            difference = x[i] - x[j]
            square = difference @ difference
            given = [h[i], h[j], square[None]] + ([] if edge_attr is None else [edge_attr[e]])
            m_ij = layer.phi_e(torch.cat(given))
            if layer.normalize:
                difference = difference / (square.sqrt() + 1)
            if layer.phi_x is not None:
                push = push + difference * layer.phi_x(m_ij)
            m_i = m_i + (m_ij if layer.phi_inf is None else layer.phi_inf(m_ij) * m_ij)
            neighbours += 1
        if layer.aggregation == "mean":
            push = push / max(neighbours, 1)
        if v is not None:
            push = layer.phi_v(h[i]) * v[i] + push
            new_v.append(push)
        new_x.append(x[i] + push)
        new_h.append(h[i] + layer.phi_h(torch.cat([h[i], m_i])))
    return tuple(torch.stack(rows) for rows in (new_h, new_x, new_v) if rows)


def in_order(model: nn.Module):
    """`model` called with the parts of a `Case` in their order, as the slow loops are."""

    def run(h, x, edges=None, edge_attr=None, v=None, **options):
        return model(h, x, edges, edge_attr=edge_attr, v=v, **options)

    return run


def outputs_and_gradients(run, module: nn.Module, case) -> list[Tensor]:
    """What `run` returns, then the gradients of a weighted sum of it by weights and inputs."""
    leaves = [
        t.clone().requires_grad_() if t is not None and t.is_floating_point() else t for t in case
    ]
    outputs = run(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((o * normal(*o.shape, seed=9 + k)).sum() for k, o in enumerate(outputs))
    inputs = [t for t in leaves if t is not None and t.requires_grad]
    grads = torch.autograd.grad(total, [*module.parameters(), *inputs], materialize_grads=True)
    return [o.detach() for o in outputs] + list(grads)


def rotation(n: int, seed: int = 0, *, mirrored: bool = False) -> Tensor:
    """A random orthogonal matrix of determinant 1, or -1 if mirrored."""
    Q = torch.linalg.qr(normal(n, n, seed=seed))[0]
    Q[:, 0] *= Q.det().sign() * (-1 if mirrored else 1)
    return Q


def law_error(run, case: Case, Q: Tensor, g: Tensor, shift_of_v: float = 0.0) -> float:
    """How far `run` of the moved case is from the moved outputs of the case.

    Positions turn by Q and move by g, velocities turn, features stay. `shift_of_v` asks the law
    to be something that it is not: that velocities move by that much of g as well.
    """
    h, x, edges, edge_attr, v = case
    v_moved = None if v is None else v @ Q.T + shift_of_v * g
    features, positions, *velocities = run(h, x @ Q.T + g, edges, edge_attr, v_moved)
    found = [features, positions - g, *(v - shift_of_v * g for v in velocities)]
    features, *vectors = run(*case)
    return largest(found, [features, *(vector @ Q.T for vector in vectors)])
