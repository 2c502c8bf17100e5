"""The training loop: the same numbers again, in stacks and in two processes; schedules, early stopping, settings."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_trainings import SMALL, noisy, same

import bilevelnet as bln
from bilevelnet_bench.cases import digits, spirals, stack
from bilevelnet_bench.cases.data import Data
from bilevelnet_bench.training import Settings, train
from bilevelnet_bench.training.batches import order, split


def test_training_repeats_and_leaves_the_global_generator_alone() -> None:
    settings = Settings(2, 16, 1e-2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    runs = [train(noisy(), SMALL, settings, 1) for _ in range(2)]
    assert same(*runs)
    torch.manual_seed(5)
    train(spirals.network("bregman", 0), SMALL, settings, 1)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(runs[0], train(noisy(), SMALL, settings, 2))


def test_early_stopping_waits_for_its_patience() -> None:
    settings = Settings(60, 16, 0.3, "adam", holdout=0.25, patience=4)
    trained = train(spirals.network("bregman", 0), SMALL, settings, 0)
    measures = [epoch.measure for epoch in trained.history]
    assert trained.status == "stopped early"
    assert len(measures) == trained.best_epoch + 4 < 60
    assert min(measures) == measures[trained.best_epoch - 1]
    _, held = split(SMALL, 0, 0.25)
    with torch.no_grad():
        assert float(trained.network.objective(held.x_train, held.y_train)) == pytest.approx(min(measures), rel=1e-6)


def test_the_holdout_is_apart_and_the_mini_batches_cover_the_rest() -> None:
    fit, held = split(SMALL, 4, 0.25)
    assert (len(fit.y_train), len(held.y_train)) == (72, 24)
    rows = {tuple(x.tolist()) for part in (fit, held) for x in part.x_train}
    assert rows == {tuple(x.tolist()) for x in SMALL.x_train}
    with pytest.raises(bln.InputError, match="96 of 96 points"):
        split(SMALL, 0, 0.001)
    assert order(10, 1, 1).sort().values.tolist() == list(range(10))
    assert not torch.equal(order(10, 1, 1), order(10, 1, 2))
    assert torch.equal(order(10, [1, 2], 3)[1], order(10, 2, 3))


@pytest.mark.parametrize("version", bln.models.mlp.VERSIONS)
def test_a_stack_trains_as_its_networks_would_alone(version: str) -> None:
    seeds = [0, 4, 9]
    data = [spirals.spirals(s, train=80, test=50) for s in seeds]
    settings = Settings(4, 16, 1e-2, "adam", holdout=0.2)
    alone = [train(spirals.network(version, s), d, settings, s) for s, d in zip(seeds, data, strict=True)]
    networks = [spirals.network(version, s) for s in seeds]
    stacked = stack.stack(networks)
    together = train(stacked, stack.stack_data(data), settings, seeds)
    stack.unstack(stacked, networks)
    assert together.accuracy == [t.accuracy for t in alone]
    for epoch, parts in zip(together.history, zip(*(t.history for t in alone), strict=True), strict=True):
        # 1e-5: 20 steps of Adam in float32, which divides by the root of squared gradients
        assert epoch.loss == pytest.approx(sum(p.loss for p in parts), rel=1e-5)
    for network, one in zip(networks, alone, strict=True):
        for a, b in zip(network.parameters(), one.network.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)  # as above, and lr times 20 steps are 0.2


def test_a_stack_holds_references_and_widths_that_differ() -> None:
    networks = [digits.network("bregman", s).double() for s in range(3)]
    stacked = stack.stack(networks).double()
    z = 0.1 + 0.8 * torch.rand(3, 5, 64, dtype=torch.float64)
    for one, x, want in zip(networks, z, stacked(z), strict=True):
        torch.testing.assert_close(one(x), want, rtol=1e-12, atol=1e-12)  # sums of 64 terms in another order
    with torch.no_grad():
        for p in stacked.parameters():
            p.mul_(0.5)
    stack.unstack(stacked, networks)
    for one, x, want in zip(networks, z, stacked(z), strict=True):
        torch.testing.assert_close(one(x), want, rtol=1e-12, atol=1e-12)


def test_schedules_are_their_formulas() -> None:
    steps = Settings(200, 1, 0.1, schedule="steps", milestones=(91, 136))
    assert [steps.lr_at(e) for e in (0, 90, 91, 135, 136)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    cosine = Settings(10, 1, 2.0, schedule="cosine")
    assert [cosine.lr_at(e) for e in (0, 5)] == pytest.approx([2.0, 1.0])
    assert Settings(10, 1, 0.5).lr_at(9) == 0.5


def test_schedules_reach_the_optimizer() -> None:
    """Plain gradient descent on one batch: the weights are those of the formula."""
    data = Data(SMALL.x_train[:8], SMALL.y_train[:8], SMALL.x_test, SMALL.y_test)
    settings = Settings(3, 8, 0.5, schedule="steps", milestones=(1, 2), factor=0.5)
    trained = train(spirals.network("bregman", 0), data, settings, 0).network
    want = spirals.network("bregman", 0)
    for lr in (0.5, 0.25, 0.125):
        gradients = torch.autograd.grad(want.objective(data.x_train, data.y_train), list(want.parameters()))
        with torch.no_grad():
            for p, g in zip(want.parameters(), gradients, strict=True):
                p -= lr * g
    for a, b in zip(trained.parameters(), want.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # the order of the points differs: some ulp


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "rmsprop"}, "known: sgd, adam, adamw"),
        ({"schedule": "linear"}, "known: constant, cosine, steps"),
        ({"epochs": 0}, "epochs is a whole number, at least 1, not 0"),
        ({"batch": 2.5}, "batch is a whole number, at least 1, not 2.5"),
        ({"lr": -1.0}, "lr is above 0"),
        ({"lr": float("inf")}, "lr is above 0 and finite, not inf"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum is of sgd"),
        ({"milestones": (3,)}, "milestones is of the schedule"),
        ({"schedule": "steps"}, "milestones is of the schedule .*, not \\(\\)"),
        ({"holdout": 1.0}, "holdout"),
        ({"patience": 0}, "patience"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(bln.InputError, match=message):
        Settings(**{"epochs": 1, "batch": 1, "lr": 0.1, **wrong})


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bilevelnet_bench")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _record(out: Path) -> dict:
    (line,) = (out / "train.jsonl").read_text().splitlines()  # one process writes
    return json.loads(line)


def test_two_processes_give_the_curve_of_one(tmp_path: Path) -> None:
    """Batches of 15 and a last one of 10 points: shares of 8 and 7, of which the sum is the batch."""
    words = (*TWO, "train", "spirals", "--epochs", "3", "--batch", "15", "--out", str(tmp_path))
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = _record(tmp_path)
    one = train(spirals.network("bregman", 0), spirals.spirals(0), Settings(3, 15, 1e-2), 0)
    assert two["processes"] == 2
    # 1e-5: means of float32 in another order, over 200 steps
    assert two["losses"] == pytest.approx([epoch.loss for epoch in one.history], rel=1e-5)
    assert {"torch", "machine", "bilevelnet", "date"} <= set(two)
    assert two["settings"]["lr"] == 1e-2


ENDS = """
import os
from bilevelnet_bench.training import Settings, parallel, train
from bilevelnet_bench.cases import spirals
with parallel.session():
    train(spirals.network("bregman", 0), spirals.spirals(0), Settings(1, 50, 1e-2), 0)
threads = {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
assert not [name for name in threads if "gloo" in name or "store" in name], threads
"""


def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    """One that drops a tensor while the interpreter ends aborts the process, now and then."""
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    words = [sys.executable, *TWO[:5], str(script)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.heavy
def test_an_interruption_of_two_processes_keeps_the_best(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group, and torchrun sends it once more: both processes end in the same step."""
    words = (*TWO, "train", "spirals", "--epochs", "9999", "--out", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        try:
            for _ in range(600):
                if list(tmp_path.glob("checkpoints/*.pt")):
                    break
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    record = _record(tmp_path)
    assert (record["status"], record["processes"]) == ("interrupted", 2)
    assert record["losses"][record["best_epoch"] - 1] == min(record["losses"])
    assert errors.count("Traceback") == errors.count("raise SignalException") == 1, errors  # torchrun's own
