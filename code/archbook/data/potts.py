"""Protein families whose contacts are known: alignments sampled from Potts models.

A family is a set of coupled pairs of columns, its contacts. Which letters like each other across a
contact is the same in all families; who is in contact with whom differs from family to family.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from archbook.checks import as_size, require_choice
from archbook.vocabulary import AMINO_ACIDS, FIRST_LETTER

TRIES = 100  # to place the contacts of one family
CHUNK = 64  # families at a time: what a step touches stays in the processor's cache
LIKES = ("opposite", "same")


@dataclass(frozen=True)
class PottsDesign:
    """What the families of one set have in common."""

    columns: int = 24
    letters: int = 6
    contacts: int = 18  # coupled pairs of a family
    beta: float = 2.0  # the strength of a coupling
    shared: bool = True  # one table for all contacts; False: independent normal ones
    field_std: float = 0.3
    min_separation: int = 3  # of the two columns of a contact
    max_degree: int = 2  # contacts of a column
    likes: str = "opposite"  # what the shared table says, see `coupling_table`

    def __post_init__(self) -> None:
        for name in ("columns", "contacts", "min_separation", "max_degree"):
            object.__setattr__(self, name, as_size(name, getattr(self, name)))
        object.__setattr__(self, "letters", as_size("letters", self.letters, least=2))
        if not self.letters <= AMINO_ACIDS:
            raise ValueError(f"wanted 2 to {AMINO_ACIDS} letters, given {self.letters}")
        for name in ("beta", "field_std"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"wanted {name} >= 0 and finite, given {getattr(self, name)}")
        require_choice("likes", self.likes, LIKES)
        apart = max(self.columns - self.min_separation, 0)
        room = min(apart * (apart + 1) // 2, self.columns * self.max_degree // 2)
        if self.contacts > room:
            raise ValueError(
                f"wanted at most {room} contacts ({self.columns} columns, separation >= "
                f"{self.min_separation}, degree <= {self.max_degree}), given {self.contacts}"
            )


@dataclass(frozen=True)
class PottsModels:
    """p(x) = exp(-E(x)) / Z with E(x) = -sum_i h_i(x_i) - sum over contacts of J_ij(x_i, x_j)."""

    fields: Float64[Tensor, "families columns letters"]  # h
    pairs: Int64[Tensor, "families contacts 2"]  # i < j of every contact, in reading order
    couplings: Float64[Tensor, "families contacts letters letters"]  # J; the first letter is i's

    def contact_map(self) -> Bool[Tensor, "families columns columns"]:
        """Symmetric; True where two columns are coupled."""
        families, columns, _ = self.fields.shape
        contacts = torch.zeros(families, columns, columns, dtype=torch.bool)
        f, (i, j) = torch.arange(families)[:, None], self.pairs.unbind(-1)
        contacts[f, i, j] = contacts[f, j, i] = True
        return contacts

    def energy(
        self, sequences: UInt8[Tensor, "families rows columns"]
    ) -> Float64[Tensor, "families rows"]:
        """E(x) of every sequence under its own family's model, without Z."""
        families, columns, _ = self.fields.shape
        if sequences.ndim != 3 or (len(sequences), sequences.shape[2]) != (families, columns):
            raise ValueError(
                f"wanted sequences of shape ({families}, rows, {columns}), "
                f"given {tuple(sequences.shape)}"
            )
        x = sequences.long()
        f = torch.arange(families)[:, None, None]
        column, contact = torch.arange(columns), torch.arange(self.pairs.shape[1])
        i, j = self.pairs[:, None].unbind(-1)  # (families, 1, contacts)
        h = self.fields[f, column, x]  # (families, rows, columns)
        J = self.couplings[
            f,
            contact,
            x.gather(2, i.expand(-1, x.shape[1], -1)),
            x.gather(2, j.expand(-1, x.shape[1], -1)),
        ]
        return -h.sum(-1) - J.sum(-1)


@dataclass(frozen=True)
class PottsFamilies:
    """Alignments with their true contacts. Letters are 0 .. letters - 1, without gaps."""

    sequences: UInt8[Tensor, "families rows columns"]
    contacts: Bool[Tensor, "families columns columns"]  # symmetric, False on the diagonal

    def tokens(self) -> Int64[Tensor, "families rows columns"]:
        """The letters as residues of the published 33-token vocabulary: 0 is L = 4, 1 is A = 5."""
        return self.sequences.long() + FIRST_LETTER


def coupling_table(letters: int, likes: str = "opposite") -> Float64[Tensor, "letters letters"]:
    """C(a, b), doubly centred: letter a likes letters - 1 - a ("opposite") or itself ("same").

    Rows and columns sum to zero: a contact by itself prefers no letter. Two contacts of one column
    multiply their tables: of opposites, its partners like the same letters, which the table tells
    from a contact; of the same, they like the same, as partners do, and only the strength tells.
    """
    letters = as_size("letters", letters, least=2)
    require_choice("likes", likes, LIKES)
    alike = torch.eye(letters, dtype=torch.float64)
    return (alike if likes == "same" else alike.flip(1)) - 1 / letters


def draw_models(count: int, design: PottsDesign, seed: int | list[int] = 0) -> PottsModels:
    """Random families: contacts, fields h_i(a) ~ N(0, field_std^2), couplings beta C(a, b).

    Contacts are drawn uniformly, one at a time, among the pairs that separation and degree still
    allow; a family that gets stuck begins anew. Not `design.shared`: every entry of every coupling
    is beta times a standard normal number. More families of one seed begin with the same ones.
    """
    fields, pairs, couplings = [], [], []
    contact = (design.contacts, design.letters, design.letters)
    shared = coupling_table(design.letters, design.likes).numpy()
    for rng in _streams(count, seed, kind=0):
        pairs.append(_contacts(design, rng))
        fields.append(design.field_std * rng.standard_normal((design.columns, design.letters)))
        table = np.broadcast_to(shared, contact) if design.shared else rng.standard_normal(contact)
        couplings.append(design.beta * table)
    return PottsModels(
        fields=torch.from_numpy(np.stack(fields)),
        pairs=torch.from_numpy(np.stack(pairs)),
        couplings=torch.from_numpy(np.stack(couplings)),
    )


def sample_sequences(
    models: PottsModels, rows: int, sweeps: int = 30, *, seed: int | list[int] = 0
) -> UInt8[Tensor, "families rows columns"]:
    """Gibbs sampling: every row is a chain of its own, from uniform letters, `sweeps` sweeps long.

    A sweep visits every column once, in random order (one order for a family's rows), and draws
    its letter from its conditional distribution by the Gumbel-max trick. Cost:
    O(sweeps families rows columns letters). More families of one seed begin with the same chains.
    Chains are short: `models.energy` shows whether they still drift.
    """
    rows, sweeps = as_size("rows", rows), as_size("sweeps", sweeps, least=0)
    streams = _streams(len(models.fields), seed, kind=1)
    chunks = [slice(first, first + CHUNK) for first in range(0, len(streams), CHUNK)]
    h, pairs, J = models.fields.numpy(), models.pairs.numpy(), models.couplings.numpy()
    drawn = [
        _gibbs(h[c], pairs[c], J[c], streams=streams[c], rows=rows, sweeps=sweeps) for c in chunks
    ]
    return torch.from_numpy(np.concatenate(drawn))


def potts_families(
    count: int,
    design: PottsDesign,
    rows: int = 48,
    *,
    sweeps: int = 30,
    seed: int | list[int] = 0,
) -> PottsFamilies:
    """`count` random families of `rows` sequences each, and their contacts.

    More families of one seed begin with the same ones.

    >>> from archbook.data.potts import PottsDesign
    >>> families = potts_families(2, PottsDesign(columns=12, contacts=6), rows=8, sweeps=2)
    >>> families.sequences.shape, families.contacts.sum((1, 2))  # each pair twice
    (torch.Size([2, 8, 12]), tensor([12, 12]))
    """
    models = draw_models(count, design, seed)
    return PottsFamilies(sample_sequences(models, rows, sweeps, seed=seed), models.contact_map())


def shuffle_within_columns(
    sequences: UInt8[Tensor, "*families rows columns"], generator: torch.Generator | None = None
) -> UInt8[Tensor, "*families rows columns"]:
    """Every column's letters in a random order of its own: the control without any couplings.

    Each column keeps its letters, so all one-column statistics stay exactly; pairs of columns
    become independent.
    """
    if sequences.ndim < 2:
        raise ValueError(f"wanted shape (.., rows, columns), given {tuple(sequences.shape)}")
    keys = torch.rand(
        sequences.shape, dtype=torch.float64, device=sequences.device, generator=generator
    )
    return sequences.gather(-2, keys.argsort(-2))


def _streams(count: int, seed: int | list[int], kind: int) -> list[np.random.Generator]:
    """A generator for each family and kind of draw: 0 for its model, 1 for its chains."""
    count = as_size("count", count)
    families = np.random.SeedSequence(seed).spawn(count)
    return [np.random.default_rng(family.spawn(2)[kind]) for family in families]


def _contacts(design: PottsDesign, rng: np.random.Generator) -> np.ndarray:
    """Pairs i < j of one family, in reading order, (contacts, 2)."""
    eligible = np.argwhere(
        np.subtract.outer(np.arange(design.columns), np.arange(design.columns))
        <= -design.min_separation
    )
    for _ in range(TRIES):
        degree = [0] * design.columns
        chosen: list[tuple[int, int]] = []
        for i, j in rng.permutation(eligible).tolist():
            if len(chosen) < design.contacts and max(degree[i], degree[j]) < design.max_degree:
                degree[i] += 1
                degree[j] += 1
                chosen.append((i, j))
        if len(chosen) == design.contacts:
            return np.array(sorted(chosen))
    raise ValueError(
        f"wanted contacts that fit at random ({design}), given {design.contacts}, "
        f"which did not in {TRIES} tries"
    )


def _gibbs(
    fields: np.ndarray,
    pairs: np.ndarray,
    couplings: np.ndarray,
    *,
    streams: Sequence[np.random.Generator],
    rows: int,
    sweeps: int,
) -> np.ndarray:
    """One chunk: all chains of all its families take one step at a time."""
    families, columns, letters = fields.shape
    neighbour, table = _by_column(pairs, couplings, columns)
    fields = fields.astype(np.float32)
    f = np.arange(families)
    x = np.stack([rng.integers(letters, size=(columns, rows)) for rng in streams])
    tiny = np.finfo(np.float32).tiny  # an exponential number may be 0 in float32
    for _ in range(sweeps):
        order = np.stack([rng.permutation(columns) for rng in streams])
        shape = (columns, rows, letters)
        noise = np.stack([rng.standard_exponential(shape, np.float32) for rng in streams])
        noise = -np.log(noise + tiny)  # Gumbel
        for step in range(columns):
            site = order[:, step]  # (families,)
            logits = noise[:, step]  # (families, rows, letters)
            logits += fields[f, site][:, None]
            for slot in range(neighbour.shape[2]):
                there = x[f, neighbour[f, site, slot]]  # (families, rows)
                logits += table[f[:, None], site[:, None], slot, there]
            x[f, site] = logits.argmax(-1)
    return x.swapaxes(1, 2).astype(np.uint8)


def _by_column(
    pairs: np.ndarray, couplings: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each column's neighbours, and J as (.., the neighbour's letter, the own letter).

    Columns of fewer neighbours than the most have couplings of zero with column 0.
    """
    families, _, letters, _ = couplings.shape
    f = np.arange(families)
    degree = np.zeros((families, columns), int)
    slots = max(np.bincount(p.ravel(), minlength=columns).max() for p in pairs)
    neighbour = np.zeros((families, columns, slots), int)
    table = np.zeros((families, columns, slots, letters, letters), np.float32)
    for k in range(pairs.shape[1]):
        i, j, J = pairs[:, k, 0], pairs[:, k, 1], couplings[:, k]
        for own, other, letter_first in ((i, j, J.swapaxes(1, 2)), (j, i, J)):
            slot = degree[f, own]
            neighbour[f, own, slot] = other
            table[f, own, slot] = letter_first
            degree[f, own] += 1
    return neighbour, table
