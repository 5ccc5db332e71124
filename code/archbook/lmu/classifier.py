"""A class for a whole sequence: the last output of a parallel LMU, read by a linear layer."""

from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_positive_int
from archbook.lmu.network import LMU


class LMUClassifier(nn.Module):
    """x (batch, time, input) -> logits (batch, classes), the psMNIST network of 2021 (Table 1).

    The write is linear and starts by handing the first input on as it is, as the published code of
    2019 does; so the window holds the signal from the first step of training.

    >>> model = LMUClassifier(1, 64, 10, order=16, theta=784.0)
    >>> model(torch.rand(2, 784, 1)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        classes: int,
        *,
        order: int,
        theta: float,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        require_positive_int("classes", classes)
        self.input_dropout = nn.Dropout(input_dropout)
        self.body = LMU(
            input_size,
            hidden_size,
            1,
            order=order,
            theta=theta,
            return_sequences=False,
            write_activation=nn.Identity(),
        )
        nn.init.zeros_(self.body.U_x.weight)
        nn.init.ones_(self.body.U_x.weight[:, :1])
        nn.init.zeros_(self.body.U_x.bias)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, classes)

    def forward(self, x: Float[Tensor, "batch time input"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.dropout(self.body(self.input_dropout(x))))
