"""The ids of the MSA Transformer's 33 tokens, as in fair-esm: model and data agree on them."""

START, PADDING, END, UNKNOWN = 0, 1, 2, 3  # there: cls, pad, eos, unk
FIRST_LETTER = 4
AMINO_ACIDS = 20  # the first letters; those after them are unknown, mixed and rare ones, and gaps
NULL, MASK = 31, 32  # null_1 fills the table up to a multiple of eight, MASK is what a model fills
VOCABULARY = 33
