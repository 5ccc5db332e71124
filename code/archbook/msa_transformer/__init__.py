"""The MSA Transformer (Rao et al., 2021)."""

from archbook.msa_transformer.attention import ColumnAttention, TiedRowAttention
from archbook.msa_transformer.checkpoint import load_esm_msa1b
from archbook.msa_transformer.contacts import ContactHead, contact_features
from archbook.msa_transformer.corruption import Masked, mask_tokens
from archbook.msa_transformer.diversity import diverse_rows, diversity_subsample
from archbook.msa_transformer.inference import (
    embed,
    letter_likings,
    masked_marginals,
    predict_contacts,
)
from archbook.msa_transformer.neighbours import NeighbourEmbedding
from archbook.msa_transformer.network import AxialBlock, MSAOutput, MSATransformer
from archbook.msa_transformer.padding import pad_alignments

__all__ = [
    "AxialBlock",
    "ColumnAttention",
    "ContactHead",
    "MSAOutput",
    "MSATransformer",
    "Masked",
    "NeighbourEmbedding",
    "TiedRowAttention",
    "contact_features",
    "diverse_rows",
    "diversity_subsample",
    "embed",
    "letter_likings",
    "load_esm_msa1b",
    "mask_tokens",
    "masked_marginals",
    "pad_alignments",
    "predict_contacts",
]
