"""Equal care: every candidate of an experiment gets its settings from the same small search.

Ours, not Optuna's or Ray Tune's: what is searched is a handful of declared settings, each a cell
like any other that resumes and is kept with its curve; there is nothing to sample or to prune.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from archbook.files import as_json

Trial = Mapping[str, Any]  # the fields that a trial changes, with their values
Best = Literal["lowest", "highest"]

LAST = 0.1  # of a curve: a best point there says that training was too short


def grid(**values: Sequence[Any]) -> list[Trial]:
    """Every combination: grid(learning_rate=(1e-3, 3e-3), dropout=(0.0, 0.1)) is four trials.

    >>> grid(learning_rate=(1e-3, 3e-3), dropout=(0.0, 0.1))[:2]
    [{'learning_rate': 0.001, 'dropout': 0.0}, {'learning_rate': 0.001, 'dropout': 0.1}]
    """
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def is_late(curve: Sequence[float], best: Best) -> bool:
    """Whether the best point lies in the last tenth: training went on getting better."""
    pick = min if best == "lowest" else max
    return curve.index(pick(curve)) >= len(curve) - math.ceil(LAST * len(curve))


def still_improving(
    results: Mapping[str, Any], metric: str, best: Best, variants: Sequence[str] = ()
) -> tuple[int, int]:
    """How many runs were, of how many with a `curve_METRIC`; of these variants, or of all.

    >>> runs = [{"variant": "ours", "metrics": {"curve_loss": [3.0, 2.0, 1.0, 1.5]}}]
    >>> still_improving({"runs": runs}, "loss", "lowest")  # none of one
    (0, 1)
    """
    curves = [
        run["metrics"][f"curve_{metric}"]
        for run in results["runs"]
        if run["metrics"].get(f"curve_{metric}") and (not variants or run["variant"] in variants)
    ]
    if not curves:
        raise ValueError(f"wanted runs of {variants or 'any'} with curve_{metric}, given none")
    return sum(is_late(curve, best) for curve in curves), len(curves)


@dataclass(frozen=True)
class Search:
    """What an experiment searches before its full runs, and what a reader may hold it to.

    Every variant of size full is in exactly one of `trials`, `like` and `untrained`. The metric
    is measured on validation data, and `curve_METRIC` holds it over the run.

    >>> rates = grid(learning_rate=(1e-3, 3e-3))
    >>> search = Search("valid_loss", "lowest", trials={"ours": rates, "mlp": rates})
    >>> search.seeds, list(search.trials)
    ((1000,), ['ours', 'mlp'])
    """

    metric: str  # "valid_nrmse": a run's number on validation data
    best: Best
    trials: Mapping[str, Sequence[Trial]]  # candidate -> its trials, as many for each
    like: Mapping[str, str] = field(default_factory=dict)  # an ablation -> whose settings it takes
    untrained: Sequence[str] = ()  # nothing to choose: nearest neighbours, the mean
    short: Trial = field(default_factory=dict)  # what a trial changes beside, {"epochs": 20}
    seeds: Sequence[int] = (1000,)  # of the trials; none of a full run
    # A variant whose best point is among the last tenth of its curve -> why that is long enough.
    late: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.best not in ("lowest", "highest"):
            raise ValueError(f"wanted best to be lowest or highest, given {self.best!r}")
        counts = {variant: len(trials) for variant, trials in self.trials.items()}
        if not counts or min(counts.values()) < 2 or len(set(counts.values())) > 1:
            raise ValueError(
                f"wanted at least two trials, as many for each candidate, given {counts or 'none'}"
            )
        if strangers := sorted(set(self.like.values()) - set(counts)):
            raise ValueError(f"wanted like to name candidates of trials, given {strangers}")

    def cells(self, full: Mapping[str, Any]) -> dict[str, Any]:
        """The configurations of size search, from those of size full."""
        self._check(full)
        return {
            _name(variant, number): dataclasses.replace(full[variant], **{**self.short, **trial})
            for variant, trials in self.trials.items()
            for number, trial in enumerate(trials, start=1)
        }

    def settled(self, full: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """The configurations of size full, each with the settings that `found` likes best.

        `found` is the results file of size search. A search of other settings than the code's is
        refused: its answer is to another question.
        """
        self._check(full)
        wanted = {name: as_json(dataclasses.asdict(one)) for name, one in self.cells(full).items()}
        given = {run["variant"]: run["config"] for run in found["runs"]}
        if other := sorted(name for name in wanted | given if wanted.get(name) != given.get(name)):
            raise ValueError(
                "wanted the results of the search as the code declares it now; run --size search "
                f"again: missing, or of other settings, are {other}"
            )
        return {
            variant: dataclasses.replace(one, **self._chosen(variant, found))
            for variant, one in full.items()
        }

    def _chosen(self, variant: str, found: Mapping[str, Any]) -> Trial:
        if variant in self.untrained:
            return {}
        candidate = self.like.get(variant, variant)
        names = {_name(candidate, i): t for i, t in enumerate(self.trials[candidate], start=1)}
        scores = {
            name: statistics.fmean(
                run["metrics"][self.metric] for run in found["runs"] if run["variant"] == name
            )
            for name in names
        }
        pick = min if self.best == "lowest" else max
        return names[pick(scores, key=scores.__getitem__)]

    def _check(self, full: Mapping[str, Any]) -> None:
        places = [*self.trials, *self.like, *self.untrained]
        if sorted(places) != sorted(full):
            raise ValueError(
                "wanted each variant of size full once in trials, like or untrained: "
                f"{sorted(full)}, given {sorted(places)}"
            )

    def faults(self, results: Mapping[str, Any]) -> list[str]:
        """What forbids a full run's results to judge: no curve kept, or training cut too short."""
        found: list[str] = []
        late: set[str] = set()
        for run in results["runs"]:
            variant, cell = run["variant"], f"{run['variant']} seed {run['seed']}"
            if variant in self.untrained:
                continue
            curve = run["metrics"].get(f"curve_{self.metric}")
            if not curve:
                found.append(f"{cell}: no curve_{self.metric}")
                continue
            if is_late(curve, self.best):
                late.add(variant)
                if variant not in self.late:
                    found.append(f"{cell}: its best point is among the last tenth of its curve")
        found += [f"{v}: a reason in late, but no such run" for v in sorted(set(self.late) - late)]
        return found


def _name(variant: str, trial: int) -> str:
    return f"{variant}+{trial}"
