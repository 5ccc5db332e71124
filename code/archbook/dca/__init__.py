"""Direct coupling analysis: contacts of one family from the statistics of its alignment alone.

Alignments are integers 0 .. states - 1; a gap is a state like any other. Scores are symmetric with
a diagonal of zero: the higher, the likelier a contact. Everything runs where the alignment lies.
"""

from archbook.dca.base_pairs import (
    BASE_PAIRS,
    pair_table,
    pairing_covariance,
    pairing_share,
    stem_neighbours,
    sums_along_stems,
)
from archbook.dca.pseudo_likelihood import (
    PseudoLikelihoodFit,
    fit_pseudo_likelihood,
    pseudo_likelihood,
    pseudo_likelihood_loss,
)
from archbook.dca.scores import (
    apc,
    contact_scores,
    precision_at,
    precision_ceiling,
    top_pairs,
    zero_sum_gauge,
)
from archbook.dca.statistics import (
    frequencies,
    mean_field,
    mean_field_couplings,
    mutual_information,
    sequence_weights,
)

__all__ = [
    "BASE_PAIRS",
    "PseudoLikelihoodFit",
    "apc",
    "contact_scores",
    "fit_pseudo_likelihood",
    "frequencies",
    "mean_field",
    "mean_field_couplings",
    "mutual_information",
    "pair_table",
    "pairing_covariance",
    "pairing_share",
    "precision_at",
    "precision_ceiling",
    "pseudo_likelihood",
    "pseudo_likelihood_loss",
    "sequence_weights",
    "stem_neighbours",
    "sums_along_stems",
    "top_pairs",
    "zero_sum_gauge",
]
