"""One run while it trains: loops, clock, checkpoints, progress."""

import math
import random
import sys
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from drawing import seeded
from torch import nn

from archbook.running import Run, checkpoint, cosine_adam, fit, fit_best, warmed_adamw
from archbook.running.fitting import warmed_cosine


@pytest.fixture
def start(tmp_path):
    """A new process would make a new Run over the same folder: so does this."""

    def new_run(**settings):
        settings = {"checkpoint_seconds": 0.0, "quiet": True, **settings}
        return Run("cpu", 0, folder=tmp_path, cell="toy-0", **settings)

    return new_run


class Crash(Exception):
    pass


def test_without_a_folder_a_run_counts_and_saves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run()
    assert list(run.steps(3)) == [0, 1, 2]
    for _ in run.steps(3, "left early"):
        break
    run.forget()
    assert list(tmp_path.iterdir()) == []


def test_a_loop_goes_on_after_a_crash_with_all_states_put_back(start):
    def go(crash_at=None):
        run = start()
        model, shuffle = nn.Linear(2, 2), torch.Generator()
        seen, best = [], {}
        for step in run.steps(5, "fit", model=model, shuffle=shuffle, seen=seen, best=best):
            if step == crash_at:
                raise Crash
            with torch.no_grad():
                model.weight.fill_(step)
            best["step"] = step
            drawn = torch.rand(2, generator=shuffle).tolist()
            # the global generators are the ones under test
            noise = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
            seen.append((step, drawn, noise))
        return seen, best, model.weight.detach()[0, 0].item()

    torch.manual_seed(0)
    with pytest.raises(Crash):
        go(crash_at=3)
    torch.rand(100)  # another process has other numbers
    seen, best, weight = go()
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4]
    assert len({str(drawn) for _, *drawn in seen}) == 5
    assert (best, weight) == ({"step": 4}, 4.0)


def test_a_crash_is_not_taken_for_an_early_end(start):
    def crash():
        for _ in start().steps(5, "fit"):
            raise Crash

    with pytest.raises(Crash):
        crash()
    assert list(start().steps(5, "fit")) == [0, 1, 2, 3, 4]


def test_an_early_end_is_kept_once_the_next_loop_starts(start):
    run = start(checkpoint_seconds=1e9)
    for step in run.steps(5, "first"):
        if step == 2:
            break
    next(run.steps(5, "second"))
    assert list(start().steps(5, "first")) == []


def test_a_finished_loop_is_not_run_again_and_its_state_is_there(start):
    kept = []
    for step in start().steps(3, "fit", kept=kept):
        kept += [step]
    again = []
    assert list(start().steps(3, "fit", kept=again)) == []
    assert again == [0, 1, 2]


def test_a_checkpoint_of_other_settings_is_left_aside(start, capsys):
    assert len(list(start(tag="order 4").steps(3, "fit"))) == 3
    assert list(start(tag="order 8", quiet=False).steps(3, "fit")) == [0, 1, 2]
    assert "other settings" in capsys.readouterr().out


def test_a_resumed_loop_says_so(start, capsys):
    assert len(list(start().steps(3, "fit"))) == 3
    assert list(start(quiet=False).steps(3, "fit")) == []
    assert "toy-0: resumed at step 3 after 0 s" in capsys.readouterr().out


def test_forget_deletes_the_checkpoints_of_this_cell_alone(start, tmp_path):
    other = tmp_path / "toy-0.5-0.12345678.pt"
    other.write_bytes(b"")
    run = start()
    assert len(list(run.steps(2, "fit"))) == 2
    assert len(list(tmp_path.iterdir())) == 2
    run.forget()
    assert list(tmp_path.iterdir()) == [other]


class Clock:
    """Stands for the module `time`; it goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


def test_only_the_time_inside_loops_counts_and_resumes_add_up(start, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("archbook.running.run.time", clock)
    run = start()
    clock.now += 50
    seen = []
    for _ in run.steps(2, "fit"):
        clock.now += 20
        seen.append(run.seconds)
    clock.now += 50
    assert seen == [20, 40]
    assert run.seconds == 40
    resumed = start()
    assert list(resumed.steps(2, "fit")) == []
    assert resumed.seconds == run.seconds


def test_a_time_budget_ends_a_loop():
    run = Run(quiet=True)
    taken = []
    for step in run.steps(10**9):
        if run.seconds > 0.02:
            break
        taken.append(step)
    assert 0.02 < run.seconds < 5
    assert taken == list(range(len(taken)))


def test_the_interval_between_checkpoints_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ARCHBOOK_CHECKPOINT_SECONDS", "0")
    steps = Run(folder=tmp_path, quiet=True).steps(5)
    next(steps), next(steps)
    assert len(list(tmp_path.glob("*.pt"))) == 1
    steps.close()


def test_between_checkpoints_nothing_is_written(start, tmp_path):
    steps = start(checkpoint_seconds=1e9).steps(5)
    next(steps), next(steps)
    assert list(tmp_path.iterdir()) == []
    steps.close()


@pytest.mark.parametrize("total", [-1, 2.5])
def test_a_bad_number_of_steps_is_refused(total):
    with pytest.raises(ValueError, match="wanted a number of steps >= 0"):
        Run().steps(total)


def test_two_loops_of_one_name_are_refused():
    run = Run()
    run.steps(1, "fit")
    with pytest.raises(ValueError, match="different desc.*'fit'"):
        run.steps(1, "fit")


def test_a_loop_inside_a_loop_is_refused():
    run = Run(quiet=True)
    outer = run.steps(2, "outer")
    next(outer)
    with pytest.raises(RuntimeError, match="one loop at a time, given 'inner'"):
        run.steps(2, "inner")
    outer.close()


def test_a_state_that_cannot_be_saved_is_refused_at_the_first_step():
    with pytest.raises(TypeError, match="state 'rate': wanted an object.*given float"):
        next(Run().steps(2, rate=0.5))


def test_a_list_of_foreign_objects_is_refused_when_it_is_saved(start):
    with pytest.raises(TypeError, match="cannot hold safely"):
        list(start().steps(3, things=[Crash]))


def test_a_checkpoint_with_other_states_is_refused(start):
    assert len(list(start().steps(2, "fit", a=[]))) == 2
    with pytest.raises(ValueError, match=r"wanted states \['a'\] as saved, given \['b'\]"):
        next(start().steps(2, "fit", b=[]))


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_generator_of_a_card_is_saved_too(monkeypatch, kind):
    held = [torch.tensor([1])]

    def put(state, *_):
        held[0] = state

    monkeypatch.setattr(getattr(torch, kind), "get_rng_state", lambda *_: held[0].clone())
    monkeypatch.setattr(getattr(torch, kind), "set_rng_state", put)
    saved = checkpoint.capture_random(torch.device(kind))
    held[0] = torch.tensor([2])
    checkpoint.restore_random(saved, torch.device(kind))
    assert held[0].item() == 1


@pytest.mark.parametrize(("watched", "wanted"), [(False, ["2/5"]), (True, ["1/5", "2/5", "3/5"])])
def test_progress_is_a_bar_on_a_terminal_and_a_line_a_minute_in_a_log(
    monkeypatch, capsys, watched, wanted
):
    now = iter(range(0, 10_000, 40))  # seconds: every step takes 40 of them
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched, raising=False)
    bar = Run(cell="toy-0")._progress(5, 0, "toy-0 fit")
    bar._time = lambda: next(now)
    bar.start_t = bar.last_print_t = bar._time()
    for _ in range(3):
        bar.update()
    told = capsys.readouterr().err
    bar.close()
    assert "toy-0 fit" in told
    assert [f"{n}/5" for n in range(1, 6) if f"{n}/5" in told] == wanted


# ---- the shared training loop ----


def fitted(run, steps: int = 60) -> tuple[nn.Module, dict]:
    torch.manual_seed(0)
    model, draw = nn.Linear(3, 1), seeded(run.seed)

    def loss():
        x = torch.randn(8, 3, generator=draw)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    rule = warmed_adamw(model, 0.1, steps)
    return model, fit(run, model, loss, steps=steps, rule=rule, clip=1.0, draw=draw)


def test_fit_lowers_the_loss_and_draws_its_curve():
    model, curve = fitted(Run(quiet=True))
    assert curve["curve_step"] == list(range(1, 61))
    assert curve["curve_loss"][-1] < 0.1 * curve["curve_loss"][0]
    assert model.training


@pytest.mark.slow
def test_a_killed_fit_ends_with_the_same_numbers(start, monkeypatch):
    whole, wanted = fitted(Run(quiet=True))

    def crash(*args):
        if next(calls) == 30:
            raise Crash
        return clip(*args)

    clip, calls = nn.utils.clip_grad_norm_, iter(range(1000))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", crash)
    with pytest.raises(Crash):
        fitted(start())
    model, curve = fitted(start())
    assert curve == wanted
    assert torch.equal(model.weight, whole.weight)


def test_a_look_sees_the_losses_since_the_last_one_and_keeps_its_own_curve():
    seen: list[tuple[int, int]] = []
    model = nn.Linear(3, 1)

    def look(step, losses):
        seen.append((step, len(losses)))

    curve = fit(
        Run(quiet=True),
        model,
        lambda: model(torch.ones(3)).square().sum(),
        steps=7,
        rule=cosine_adam(model, 0.1, 7),
        look=look,
        every=3,
    )
    assert curve == {}
    assert seen == [(3, 3), (6, 3)]


def test_a_gradient_is_cut_only_where_a_norm_is_given():
    def moved(clip: float | None) -> float:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        rule = optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        fit(Run(quiet=True), model, lambda: 5 * model.weight.sum(), steps=1, rule=rule, clip=clip)
        return 1.0 - model.weight.item()

    assert moved(None) == 5.0
    assert moved(1.0) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("best", "place"), [("lowest", 0), ("highest", 2)])
def test_the_weights_of_the_best_look_are_kept(best, place):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 2.0)
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    rule = sgd, torch.optim.lr_scheduler.ConstantLR(sgd, 1.0)
    seen = []

    def score():
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append((model.weight.item() - 1) ** 2)
        return seen[-1]

    chosen, found = fit_best(
        Run(quiet=True),
        model,
        lambda: model.weight.sum(),  # the weight falls by one in each step: 1, 0, -1
        score,
        steps=3,
        rule=rule,
        metric="valid_error",
        best=best,
        looks=3,
    )
    assert seen == [0.0, 1.0, 4.0]
    assert found["curve_valid_error"] == seen
    assert found["curve_step"] == [1, 2, 3]
    assert found["valid_error"] == seen[place]
    assert found["step"] == place + 1
    assert chosen.weight.item() == 1.0 - place
    assert not chosen.training
    assert model.weight.item() == -1.0


# ---- checkpoints ----


class Planted:
    def __reduce__(self):
        return print, ("executed",)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_of_it_runs(tmp_path, capsys):
    torch.save({"next": 3, "state": Planted()}, tmp_path / "planted.pt")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        checkpoint.load(tmp_path / "planted.pt")
    assert capsys.readouterr().out == ""


def test_after_a_minute_one_step_is_saved_and_then_none_for_a_minute(start, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda path, packed: saved.append(packed))
    clock = iter(range(0, 10_000, 7))  # seconds: one look at the clock a step, one a save
    monkeypatch.setattr("archbook.running.run.time.monotonic", lambda: next(clock))
    for _ in start(checkpoint_seconds=60.0).steps(40):
        pass
    assert len(saved) == 5  # every ninth step, and the last


# ---- what the pages say of training ----


def test_the_rate_rises_for_a_twentieth_of_the_steps_and_falls_along_a_cosine():
    rate = warmed_cosine(100)
    assert [rate(step) for step in (0, 3)] == pytest.approx([0.2, 0.8])
    assert [rate(step) for step in (5, 50)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi / 20)), 0.5]
    )
