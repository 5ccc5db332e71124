"""The curriculum: a joint task of K^f answers is begun with few classes."""

from archbook.checks import as_size, require_positive_int


def curriculum_classes(
    epoch: int, classes: int, fold: int, *, parts: int = 10, gap: int = 60
) -> int:
    """min(K, max(K // parts, f) + (epoch // gap) max(K // parts, 1)) classes, epochs from 0.

    None is ever taken back. The paper's game nets train so, with parts=20 and gap=120 for lol-time
    at f = 4. Choose the model only after the last class is in: until then validation is easier.

    >>> [curriculum_classes(epoch, classes=100, fold=4) for epoch in (0, 60, 600)]
    [10, 20, 100]
    """
    for name, value in {"classes": classes, "fold": fold, "parts": parts, "gap": gap}.items():
        require_positive_int(name, value)
    epoch = as_size("epoch", epoch, least=0)
    share = classes // parts
    return min(classes, max(share, fold) + epoch // gap * max(share, 1))
