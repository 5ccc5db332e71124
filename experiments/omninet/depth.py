"""A task made so that reading earlier layers should help: does it, and where is it read?

The first token says which of the others is the answer. The stream loses half of its channels, drawn
anew, in front of every block, in training and in the test: what the first block found is a 2^-L-th
part as loud in the last. A meta-learner over all layers can read the first ones directly; so can
the simplest rival, whose read-out gets a mixture of the embedding and of all layers, with one
learned number for each. The difference to it decides what attention over depth adds. Recorded for
the meta-learner: the share of attention that each layer gets from the token that answers, and the
share of features that each layer wins in the maximum.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from archbook.checks import value_checks
from archbook.omninet import Design, MetaLearner, OmniNet, TokenEmbedding, controls
from archbook.running import Run, fit, main, share, warmed_adamw


@dataclass(frozen=True)
class Config(Design):
    places: int = 8  # tokens, one of which is the answer
    symbols: int = 16  # that a token may be
    loss: float = 0.5  # share of channels lost in front of every block
    mixture: bool = False  # the read-out gets a learned mixture of all layers, not the last
    batch: int = 64  # sequences a step
    steps: int = 1_500  # of training
    learning_rate: float = 2e-3  # of AdamW at its peak; warmed up, then down a cosine
    held_out: int = 4_000  # sequences of the test


def variants(base: Config) -> dict[str, Config]:
    deep, length = base.layers, base.places + 1
    omni = {f"full_{partition}": replace(base, partition=partition) for partition in (2, deep)}
    omni[f"full_{deep}_top"] = replace(base, partition=deep, query="top")
    more = {"mixture": replace(base, mixture=True), "base_lossless": replace(base, loss=0.0)}
    return controls(base, length, deep) | omni | more


FULL = Config(layers=8, hidden=32, ffn=128, dropout=0.0)
TINY = replace(FULL, layers=2, hidden=8, heads=2, ffn=16, steps=4, batch=8, held_out=50)
SIZES = {"tiny": variants(TINY), "full": variants(FULL)}


class Lossy(nn.Module):
    """A block whose input loses channels, also in the test."""

    def __init__(self, block: nn.Module, rate: float):
        super().__init__()
        self.block, self.rate = block, rate

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.block(dropout(x, self.rate), mask)


class Recall(nn.Module):
    """Sequences to the logits of the answer, read at the first token."""

    def __init__(self, config: Config):
        super().__init__()
        length = config.places + 1
        self.embed = TokenEmbedding(config.symbols + config.places, length, config.hidden)
        self.body = config.stack(length)
        for number, block in enumerate(self.body.blocks):
            self.body.blocks[number] = Lossy(block, config.loss)
        self.body.check = lambda x, mask: None  # it looks for the weights of a plain block
        self.shares = None
        if config.mixture:  # begins as the base: all of it from the last layer
            self.shares = nn.Parameter(torch.eye(config.layers + 1)[-1])
        self.norm, self.head = nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.symbols)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(self.norm((self.body(x) if self.shares is None else self.mixed(x))[:, 0]))

    def mixed(self, x: Tensor) -> Tensor:
        """sum_l shares[l] X_l, with X_0 the embedding."""
        assert self.shares is not None
        depths = [x]
        for block in self.body.blocks:
            depths.append(block(depths[-1]))
        return torch.einsum("l,lbsh->bsh", self.shares, torch.stack(depths))


def sequences(count: int, config: Config, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """(which, t_1, ..., t_places), and the answer t_which."""
    which = torch.randint(config.places, (count, 1), generator=draw)
    values = torch.randint(config.symbols, (count, config.places), generator=draw)
    answers = values.gather(1, which)[:, 0]
    return torch.cat([which + config.symbols, values], 1), answers


@torch.no_grad()
def shares(model: Recall, tokens: Tensor) -> dict[str, list[float]]:
    """How much the answering token reads of each layer, and how many features each layer wins."""
    body = model.body
    assert isinstance(body, OmniNet)
    depths, meta = body.layer_outputs(model.embed(tokens))[0], body.metas[0]
    assert isinstance(meta, MetaLearner)
    read = meta.depth_weights(depths)[:, :, 0].mean((0, 1, 2))
    found = {"depth_read": read.tolist()}
    if meta.query == "all":
        winners = meta.read(depths)[:, 0].argmax(1).flatten()
        won = winners.bincount(minlength=meta.depth) / winners.numel()
        found["depth_won"] = won.tolist()
    return found


@torch.no_grad()
def accuracy(model: Recall, tokens: Tensor, answers: Tensor) -> float:
    """Percent right."""
    model.eval()
    found = torch.cat([model(part).argmax(-1) for part in tokens.split(500)])
    return 100 * (found == answers).float().mean().item()


def train(config: Config, run: Run) -> dict:
    model = Recall(config).to(run.device)
    run.shard(model, model.body.blocks)
    draw = torch.Generator().manual_seed(run.seed)

    def loss() -> Tensor:
        tokens, answers = map(share, sequences(config.batch, config, draw))
        return cross_entropy(model(tokens.to(run.device)), answers.to(run.device))

    unseen = torch.Generator().manual_seed(10**6 + run.seed)
    tokens, answers = sequences(config.held_out, config, unseen)
    more = {}
    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        right = accuracy(model, tokens.to(run.device), answers.to(run.device))
        if isinstance(model.body, OmniNet) and config.partition == config.layers:
            more = shares(model.eval(), tokens[:1000].to(run.device))
    weights = sum(p.numel() for p in model.parameters())
    flops = config.flops(config.places + 1)
    metrics = {"test_accuracy": right, "chance": 100 / config.symbols}
    return metrics | {"weights": weights, "flops": flops} | more | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
