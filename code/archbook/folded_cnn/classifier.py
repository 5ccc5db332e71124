"""A folded net for those who have single images: one at a time, or any number at once."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_finite, require_input, value_checks
from archbook.folded_cnn.folding import fold_images, unfold_logits
from archbook.folded_cnn.networks import sizes_of


class FoldedClassifier(nn.Module):
    """Groups images, runs the folded `model`, gives each image its logits, in the images' order.

    Called with a batch, it answers all of it. As a server it takes images as they come (`push`),
    answers whenever a group is full, and on `flush` answers those that still wait. However the
    images arrive, the groups are the same, and so are the answers.

    A last group that is not full is filled up with its own images, again and again: with images,
    since the net has never seen an empty slot, and with its own, since others' may never come.
    It then costs as much as a full one. Serve with `model.eval()`: batch norm in training mode
    would mix the images of all groups, fillers included.

    >>> model = NoScopeCNN(16, 16, classes=2, filters=4, dense=8, fold=4)
    >>> server = FoldedClassifier(model).eval()
    >>> server.push(torch.rand(3, 3, 16, 16)).shape  # three wait for a fourth
    torch.Size([0, 2])
    >>> server.push(torch.rand(3, 3, 16, 16)).shape, server.flush().shape
    (torch.Size([4, 2]), torch.Size([2, 2]))
    """

    waiting: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.fold, self.classes, *self.image = sizes_of(model)
        self.model = model
        # a buffer moves with the model; what waits today is no part of its weights
        empty = next(model.parameters()).detach().new_empty(0, *self.image)
        self.register_buffer("waiting", empty, persistent=False)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The logits of all `images`; none are left waiting, and those that wait stay so."""
        self._check(images)
        return self._logits(images)

    def push(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "answers classes"]:
        """Let images come in; the logits of all groups that are now full, perhaps none."""
        self._check(images)
        if len(self.waiting):
            images = torch.cat([self.waiting, images])
        full = images.shape[0] - images.shape[0] % self.fold
        self.waiting = images[full:].detach().clone()  # not the memory of the caller
        return self._logits(images[:full])

    def flush(self) -> Float[Tensor, "answers classes"]:
        """The logits of the images that wait, fewer than `fold`; none wait after."""
        images, self.waiting = self.waiting, self.waiting[:0]
        return self._logits(images)

    def _check(self, images: Tensor) -> None:
        require_input("images", images, ("batch", *self.image), next(self.model.parameters()))
        require_finite("images", images)  # here, since a bad image would spoil a whole group

    def _logits(self, images: Tensor) -> Tensor:
        if not images.shape[0]:
            return images.new_empty(0, self.classes)
        groups, over = images, images.shape[0] % self.fold
        if over:
            full, last = images[:-over], images[-over:]
            rounds = -(-self.fold // over)
            groups = torch.cat([full, last.repeat(rounds, 1, 1, 1)[: self.fold]])
        with value_checks(False):  # the images are checked
            logits = self.model(fold_images(groups, self.fold))
        return unfold_logits(logits, self.fold)[: images.shape[0]]
