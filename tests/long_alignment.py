"""A pass over a long alignment, whose memory is measured in a process of its own."""

from collections.abc import Callable

import torch
from torch import nn

from archbook.msa_transformer import MSAOutput, MSATransformer


def contacts(rows: int, columns: int, hidden: int, chunk: int | None = None) -> Callable:
    net = MSATransformer(layers=1, hidden=hidden, heads=12, ffn=4 * hidden, start_token=False)
    nn.init.normal_(net.eval().contact_head.regression.weight)
    tokens = torch.randint(4, 24, (1, rows, columns))

    @torch.no_grad()
    def work() -> MSAOutput:
        return net(tokens, return_contacts=True, chunk=chunk)

    return work
