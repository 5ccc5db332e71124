"""Who sits beside whom: orders of images, and what changes when only the company does."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from archbook.checks import require_positive_int, require_tensor
from archbook.folded_cnn.classifier import FoldedClassifier
from archbook.folded_cnn.networks import sizes_of

# An order says which image comes when: image order[p] is at place p, so in slot p % fold of group
# p // fold.


def new_neighbours(
    order: Int64[Tensor, " images"], fold: int, generator: torch.Generator | None = None
) -> Int64[Tensor, " images"]:
    """Every image keeps its slot; who is in its group is drawn anew.

    >>> order = new_neighbours(torch.arange(8), fold=2)
    >>> order % 2  # each in its own slot, as before
    tensor([0, 1, 0, 1, 0, 1, 0, 1])
    """
    order = _copy(order, fold)
    for slot in range(fold):
        own = order[slot::fold]
        order[slot::fold] = own[torch.randperm(len(own), generator=generator)]
    return order


def next_slots(order: Int64[Tensor, " images"], fold: int) -> Int64[Tensor, " images"]:
    """Every image keeps its neighbours; the slots move on by one, but in a group not full.

    >>> next_slots(torch.arange(6), fold=3)
    tensor([2, 0, 1, 5, 3, 4])
    """
    order = _copy(order, fold)
    full = len(order) - len(order) % fold
    order[:full] = order[:full].view(-1, fold).roll(1, dims=1).flatten()
    return order


def stream_order(
    labels: Int64[Tensor, " images"], stay: float, generator: torch.Generator | None = None
) -> Int64[Tensor, " images"]:
    """An order as a camera sees it: with chance `stay` the next image is of the same class.

    Else, and where a class has no more images, its class is that of an image drawn from all that
    are left. Every image comes once.

    >>> labels = torch.tensor([0, 1, 0, 1, 0, 1])
    >>> order = stream_order(labels, stay=1.0)
    >>> int(labels[order].diff().abs().sum())  # the class changes once
    1
    """
    require_tensor("labels", labels, ("images",))
    if not 0 <= stay <= 1:
        raise ValueError(f"wanted stay to lie in [0, 1], given {stay}")
    shuffled = torch.randperm(len(labels), generator=generator).tolist()
    stays = (torch.rand(len(labels), generator=generator) < stay).tolist()
    kinds = labels.tolist()
    left: dict[int, list[int]] = {}
    for image in reversed(shuffled):
        left.setdefault(kinds[image], []).append(image)
    used, order, at = [False] * len(kinds), [], 0
    for same in stays:
        own = left[kinds[order[-1]]] if order else []
        if same and own:
            image = own.pop()
        else:
            while used[shuffled[at]]:
                at += 1
            image = left[kinds[shuffled[at]]].pop()  # its class's next: it is that very image
        used[image] = True
        order.append(image)
    return torch.tensor(order)


@torch.no_grad()
def answers(
    model: nn.Module,
    images: Float[Tensor, "images channels height width"],
    order: Int64[Tensor, " images"],
    *,
    batch: int = 480,
) -> Int64[Tensor, " images"]:
    """The class that each image is given when they come in this order, grouped as they come.

    The answers are in the order of `images`; the model is in its evaluation mode meanwhile.
    `batch` is a number of images, which the fold must divide.

    >>> model = NoScopeCNN(16, 16, classes=2, filters=4, dense=8, fold=2)
    >>> answers(model, torch.rand(5, 3, 16, 16), order=torch.randperm(5)).shape
    torch.Size([5])
    """
    server = FoldedClassifier(model)
    require_positive_int("batch", batch)
    if batch % server.fold:
        raise ValueError(f"wanted batch to be divisible by fold = {server.fold}, given {batch}")
    training = model.training
    model.eval()
    try:
        found = torch.empty(len(order), dtype=torch.int64, device=images.device)
        for part in order.split(batch):
            found[part] = server(images[part]).argmax(1)
        return found
    finally:
        model.train(training)


def percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def regrouping_report(
    model: nn.Module,
    images: Float[Tensor, "images channels height width"],
    labels: Int64[Tensor, " images"],
    *,
    groupings: int = 3,
    stay: float = 0.9,
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """Accuracies in percent over random groupings, in slots and streams; answers that change.

    accuracy: mean over `groupings` random ones, with lowest and highest; slot_accuracy: in each
    slot. stream_accuracy: neighbours correlated by `stream_order`; sorted_accuracy: all images of
    a group of one class, but at the borders. changed_by_*: percent of answers that another
    grouping changes: new neighbours in the same slot, the same neighbours in the next slot, both.
    neighbours_class: of the wrong answers, how many percent name a class of a neighbour;
    strangers_class: the same with the neighbours that the image has in another grouping.

    >>> model = NoScopeCNN(16, 16, classes=2, filters=4, dense=8, fold=2)
    >>> images, labels = torch.rand(20, 3, 16, 16), torch.arange(20) % 2
    >>> report = regrouping_report(model, images, labels)
    >>> len(report["slot_accuracy"]), 0 <= report["changed_by_neighbours"] <= 100
    (2, True)
    """
    fold = sizes_of(model).fold
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    orders = [torch.randperm(count, generator=generator) for _ in range(groupings)]
    first = orders[0]
    stream = stream_order(labels.cpu(), stay, generator)
    by_class = first[labels.cpu()[first].argsort(stable=True)]
    if fold == 1:  # no neighbours: all orders give the same answers
        found = [answers(model, images, first)] * groupings
        streamed = in_order = neighbours = slots = found[0]
    else:
        found = [answers(model, images, order) for order in orders]
        streamed, in_order = (answers(model, images, order) for order in (stream, by_class))
        neighbours = answers(model, images, new_neighbours(first, fold, generator))
        slots = answers(model, images, next_slots(first, fold))
    right = [one == labels for one in found]
    accuracies = [percent(one) for one in right]
    in_slots = [
        sum(percent(one[order[slot::fold]]) for one, order in zip(right, orders, strict=True))
        / groupings
        for slot in range(fold)
    ]
    return {
        "accuracy": sum(accuracies) / groupings,
        "lowest_accuracy": min(accuracies),
        "highest_accuracy": max(accuracies),
        "slot_accuracy": in_slots,
        "stream_accuracy": percent(streamed == labels),
        "sorted_accuracy": percent(in_order == labels),
        "changed_by_neighbours": percent(neighbours != found[0]),
        "changed_by_slot": percent(slots != found[0]),
        "changed_by_both": percent(found[-1] != found[0]),
        "neighbours_class": _names_a_neighbour(found[0], labels, first, fold=fold),
        "strangers_class": _names_a_neighbour(found[0], labels, orders[-1], fold=fold),
    }


def _names_a_neighbour(found: Tensor, labels: Tensor, order: Tensor, *, fold: int) -> float:
    """Percent of the wrong answers that are the class of another image of the group in `order`."""
    full = order[: len(order) - len(order) % fold].view(-1, fold)
    wrong = found != labels
    hits = torch.zeros_like(wrong)
    for shift in range(1, fold):
        hits[full] |= found[full] == labels[full.roll(shift, dims=1)]
    counted = wrong[full]
    return percent(hits[full][counted]) if counted.any() else 0.0


def _copy(order: Tensor, fold: int) -> Tensor:
    require_tensor("order", order, ("images",))
    require_positive_int("fold", fold)
    return order.clone()
