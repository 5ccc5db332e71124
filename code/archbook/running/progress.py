"""Progress with the time left: a bar where somebody watches, a line a minute in a log."""

import sys
import time
from types import TracebackType

from tqdm import tqdm  # not tqdm.auto, which warns where ipywidgets is missing

LINE_EVERY = 60.0  # seconds


class Progress:
    """Counts steps; `with Progress(total, first, label) as bar: bar.update()`."""

    def __init__(self, total: int, first: int, label: str, quiet: bool = False):
        self._total = total
        self._first = first
        self._done = first
        self._label = label
        self._quiet = quiet
        self._started = self._told = time.monotonic()
        self._bar: tqdm | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=first, desc=label, leave=False)

    def update(self) -> None:
        """One more step is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif not self._quiet and time.monotonic() - self._told >= LINE_EVERY:
            self._told = time.monotonic()
            print(self.line(self._told - self._started), flush=True)

    def line(self, elapsed: float) -> str:
        """What a log is told after `elapsed` seconds of this process."""
        per_step = elapsed / max(1, self._done - self._first)
        left = per_step * (self._total - self._done)
        share = f"{self._done}/{self._total} steps"
        return f"  {self._label}: {share}, {clock(elapsed)} so far, about {clock(left)} left"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
