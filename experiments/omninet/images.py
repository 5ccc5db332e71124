"""Images cut into patches, as a vision transformer reads them: all of the images, or ten a class.

MNIST and the colour photographs of sign-language digits. The sign-language test images are a random
fifth, so a hand may be in both parts: the numbers compare the variants, not with other work.
`--size tiny` reads the shipped 8 x 8 digits and needs no network.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data import digits, mnist, sign_digits
from archbook.omninet import Classifier, Design, PatchEmbedding, controls
from archbook.running import Run, fit, held_once, main, share, warmed_adamw

CLASSES = 10


@dataclass(frozen=True)
class Config(Design):
    data: str = "mnist"  # mnist, signs or digits
    patch: int = 7  # side of a patch, in pixels
    shots: int | None = None  # images of a class to train on; none takes all
    batch: int = 64  # images a step
    steps: int = 600  # of training
    learning_rate: float = 1e-3  # of AdamW at its peak; warmed up, then down a cosine


POSITIONS = 17  # 16 patches and the token that is read
TASKS = {
    "mnist": Config(),
    "mnist_few": Config(shots=10, steps=300),
    "signs": Config(data="signs", patch=8),
    "signs_few": Config(data="signs", patch=8, shots=10, steps=300),
}
TINY = Config(
    data="digits", patch=2, layers=2, hidden=16, heads=2, ffn=32, steps=4, batch=8, shots=10
)


def variants(base: Config) -> dict[str, Config]:
    omni = {
        f"full_{partition}": replace(base, partition=partition) for partition in (2, base.layers)
    }
    return controls(base, POSITIONS) | omni


SIZES = {
    "tiny": variants(TINY),
    "full": {
        f"{task}.{name}": config
        for task, base in TASKS.items()
        for name, config in variants(base).items()
    },
    "paper": {  # a small vision transformer's size, for a GPU
        name: replace(
            config, hidden=384, heads=6, ffn=1536, layers=12, patch=4, batch=256, steps=10_000
        )
        for name, config in (("base", Config()), ("full_2", Config(partition=2)))
    },
}


def load(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Images (n, channels, height, width) in [-1, 1] and labels of the parts train and test."""
    if config.data == "mnist":
        images = mnist()
        x, y = images.train_images[:, None], images.train_labels
        test = images.test_images[:, None], images.test_labels
    elif config.data == "signs":
        images, labels = sign_digits()  # class by class
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        images, labels = images[order], labels[order]
        cut = len(labels) * 4 // 5
        x, y, test = images[:cut], labels[:cut], (images[cut:], labels[cut:])
    elif config.data == "digits":
        images, labels = digits()
        images = images[:, None] * 15  # 0 .. 16 becomes 0 .. 240
        x, y, test = images[:1500], labels[:1500], (images[1500:], labels[1500:])
    else:
        raise ValueError(f"wanted mnist, signs or digits as data, given {config.data!r}")
    if config.shots is not None:  # the first of each class
        chosen = torch.cat([(y == c).nonzero()[: config.shots, 0] for c in range(CLASSES)])
        x, y = x[chosen], y[chosen]
    return {"train": (scaled(x), y), "test": (scaled(test[0]), test[1])}


def scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


@torch.no_grad()
def accuracy(model: Classifier, x: Tensor, y: Tensor) -> float:
    """Percent right."""
    model.eval()
    found = torch.cat([model(part).argmax(-1) for part in x.split(500)])
    model.train()
    return 100 * (found == y).float().mean().item()


def train(config: Config, run: Run) -> dict:
    loaded = held_once(lambda: load(config))
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in loaded.items()}
    x, y = parts["train"]
    channels, height, width = x.shape[1:]
    embed = PatchEmbedding((channels, height, width), config.patch, config.hidden)
    body = config.stack(embed.max_length + 1)
    model = Classifier(embed, body, CLASSES, readout="token", dropout=config.dropout)
    model = model.to(run.device)
    run.shard(model, body.blocks)
    draw = torch.Generator().manual_seed(run.seed)

    def loss() -> Tensor:
        chosen = share(torch.randint(len(y), (config.batch,), generator=draw)).to(run.device)
        return cross_entropy(model(x[chosen]), y[chosen])

    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        test = accuracy(model, *parts["test"])
    weights = sum(p.numel() for p in model.parameters())
    flops = config.flops(embed.max_length + 1)
    return {"test_accuracy": test, "weights": weights, "flops": flops} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
