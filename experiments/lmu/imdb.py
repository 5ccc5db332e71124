"""Sentiment of IMDB reviews, on a split of our own: LMU, LSTM, a small Transformer, a bag of words.

All models share the tokens, the size of their learned embeddings and the budget of epochs. The
official test half is not in the source (see `archbook.data.imdb`), so no number here compares
with a published one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from archbook.checks import value_checks
from archbook.data import imdb
from archbook.lmu import LMU
from archbook.running import Run, held_once, main, share, share_weight

PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Config:
    model: str = "lmu"  # lmu, lstm, transformer or bag
    order: int = 1  # Legendre coefficients a channel; the paper reports 1 for this task
    vocabulary: int = 10_000  # most frequent words of the training reviews
    length: int = 256  # words read: the last ones of a review, padded in front
    embedding: int = 32  # width of a word, learned
    hidden: int = 32  # units that read the memory; of the LSTM; Transformer width is `embedding`
    dropout: float = 0.5  # on the embeddings and before the classifier
    epochs: int = 10  # passes over the training reviews; validation chooses one of them
    batch: int = 64  # reviews a step
    learning_rate: float = 2e-3  # of Adam
    reviews: int | None = None  # use only so many of each part


FULL = Config()
MODELS = ("lmu", "lstm", "transformer", "bag")
SIZES = {
    "tiny": {
        name: Config(name, vocabulary=500, length=64, embedding=8, hidden=8, epochs=1, reviews=256)
        for name in MODELS
    },
    "full": {name: replace(FULL, model=name) for name in MODELS}
    | {"order_8": replace(FULL, order=8)}
    | {"transformer": replace(FULL, model="transformer", epochs=4)},  # longer than the LMU's 10
    "paper": {"lmu": replace(FULL, vocabulary=20_000, length=500, embedding=300)},
}


class Reader(nn.Module):
    """Words in, one logit out: embedding, a body that sums a sequence up, a linear classifier."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.embedding
        self.embed = nn.Embedding(config.vocabulary + 2, width, padding_idx=PADDING)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.dropout = nn.Dropout(config.dropout)
        features = config.hidden if config.model in ("lmu", "lstm") else width
        if config.model == "lmu":
            theta, write = float(config.length), nn.Identity()
            self.body = LMU(
                width,
                features,
                width,
                order=config.order,
                theta=theta,
                return_sequences=False,
                write_activation=write,
            )
        elif config.model == "lstm":
            self.body = nn.LSTM(width, features, batch_first=True)
        elif config.model == "transformer":
            self.position = nn.Parameter(0.1 * torch.randn(config.length, width))
            # no dropout inside: with it torch leaves its fused attention, five times slower here
            self.body = nn.TransformerEncoderLayer(
                width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
        elif config.model != "bag":
            raise ValueError(
                f"wanted model to be one of {', '.join(MODELS)}, given {config.model!r}"
            )
        self.model = config.model
        self.classify = nn.Linear(features, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens != PADDING  # True = real
        words = self.dropout(self.embed(tokens))
        if self.model == "lmu":
            summary = self.body(words, mask=mask)
        elif self.model == "lstm":
            summary = self.body(words)[0][:, -1]
        else:
            if self.model == "transformer":
                words = self.body(words + self.position, src_key_padding_mask=~mask)
            summary = (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.classify(self.dropout(summary))[:, 0]


def words(text: str) -> list[str]:
    """Lower-case words and numbers, without the line-break marks of the source."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("<br />", " "))


def encode(texts: Iterable[str], index: dict[str, int], length: int) -> Tensor:
    """(reviews, length) word numbers: the last `length` words, padding in front."""
    rows = torch.full((len(list(texts)), length), PADDING)
    for row, text in zip(rows, texts, strict=True):
        ids = [index.get(word, UNKNOWN) for word in words(text)[-length:]] or [UNKNOWN]
        row[-len(ids) :] = torch.tensor(ids)
    return rows


def load(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Word numbers and labels of the parts train, valid and test."""
    reviews = imdb()
    take = slice(config.reviews)
    count = Counter(word for text in reviews.train_texts[take] for word in words(text))
    frequent = [word for word, _ in count.most_common(config.vocabulary)]
    index = {word: number for number, word in enumerate(frequent, start=2)}
    texts = [reviews.train_texts, reviews.valid_texts, reviews.test_texts]
    labels = [reviews.train_labels, reviews.valid_labels, reviews.test_labels]
    return {
        part: (encode(t[take], index, config.length), y[take].float())
        for part, t, y in zip(("train", "valid", "test"), texts, labels, strict=True)
    }


@torch.no_grad()
def accuracy(model: nn.Module, tokens: Tensor, labels: Tensor) -> float:
    """Percent right, without dropout."""
    model.eval()
    logits = torch.cat([model(part) for part in tokens.split(500)])
    model.train()
    return 100 * ((logits > 0) == (labels > 0.5)).float().mean().item()


def train(config: Config, run: Run) -> dict:
    loaded = held_once(lambda: load(config))
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in loaded.items()}
    tokens, labels = parts["train"]
    model = Reader(config).to(run.device)
    network = run.data_parallel(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    shuffle = torch.Generator().manual_seed(run.seed)
    best = {"valid_accuracy": 0.0, "test_accuracy": 0.0, "epoch": 0}
    curve = {"curve_seconds": [], "curve_valid_accuracy": []}
    state = dict(model=model, optimizer=optimizer, shuffle=shuffle)
    with value_checks(False):
        # Not `running.fit`: it counts epochs, and validates after each.
        for epoch in run.steps(config.epochs, best=best, curve=curve, **state):
            for batch in torch.randperm(len(labels), generator=shuffle).split(config.batch):
                own = share(batch)
                loss = binary_cross_entropy_with_logits(network(tokens[own]), labels[own])
                loss = share_weight(batch) * loss
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            valid = accuracy(model, *parts["valid"])
            curve["curve_seconds"].append(run.seconds)
            curve["curve_valid_accuracy"].append(valid)
            if valid > best["valid_accuracy"]:  # the test accuracy of the epoch that was chosen
                test = accuracy(model, *parts["test"])
                best.update(valid_accuracy=valid, test_accuracy=test, epoch=epoch + 1)
    weights = sum(p.numel() for p in model.parameters())
    return best | {"weights": weights, "embedding_weights": model.embed.weight.numel()} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
