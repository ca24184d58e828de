import pytest

from gpt2_lightning.runs.curves import curves, groups_of
from gpt2_lightning.runs.run import Run
from tests.runs.conftest import Write


def test_seeds_are_drawn_as_mean_and_band(write_run: Write):
    names = ["first", "second", "other"]
    runs = [Run(write_run("first")), Run(write_run("second", seed=1)), Run(write_run("other", lr=0.02))]
    (runs[1].folder / "metrics.csv").write_text("step,val/nll\n2,9.0\n4,3.51\n")
    groups = groups_of(runs, names)
    assert [(group.label, len(group.runs)) for group in groups] == [("first (2 seeds)", 2), ("other", 1)]
    figure = curves(groups, "val/nll")
    assert figure is not None
    drawn = [[float(y) for y in trace.y] for trace in figure.data]  # pyright: ignore
    least, most, mean, alone = drawn
    assert (least, most, alone) == ([2.51], [3.51], [2.52])
    assert mean == pytest.approx([3.01])
    assert curves(groups, "val/nothing") is None


def test_one_seed_that_ran_twice_is_counted_as_one(write_run: Write):
    groups = groups_of([Run(write_run("a")), Run(write_run("b"))], ["a", "b"])
    assert [group.label for group in groups] == ["a (2 runs of 1 seed)"]
