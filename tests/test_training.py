"""The training loop: the same numbers again, after a stop, in stacks and in two processes; and what it refuses."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import bilevelnet as bln
from bilevelnet_bench.cases import digits, spirals, stack
from bilevelnet_bench.cases.data import Data
from bilevelnet_bench.training import NonFiniteLoss, Settings, Trained, accuracy, train
from bilevelnet_bench.training import checkpoint as files
from bilevelnet_bench.training.batches import order, split

SMALL = spirals.spirals(0, train=96, test=40)


def same(a: Trained, b: Trained) -> bool:
    """To the bit: what happened, and the weights that are left."""
    states = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return a.history == b.history and all(torch.equal(x, y) for x, y in states)


def noisy(seed: int = 0) -> bln.models.BilevelNetwork:
    """With dropout, so that the state of torch's generator counts."""
    network = spirals.network("bregman", seed)
    return bln.models.BilevelNetwork(network.chain, nn.Sequential(nn.Dropout(0.2), network.head))


@pytest.fixture(autouse=True)
def interruptible():
    """A shell starts background jobs with Ctrl-C ignored; here it interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Stop:
    """A loss that is cross-entropy, and at its ``at``-th call sends what Ctrl-C does."""

    def __init__(self, at: int):
        self.calls, self.at = 0, at

    def __call__(self, prediction, label):
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return nn.functional.cross_entropy(prediction, label)


@pytest.mark.parametrize("more", [{}, {"momentum": 0.9, "schedule": "cosine"}, {"optimizer": "adam"}], ids=str)
def test_resume_continues_to_the_same_bits(tmp_path: Path, more: dict) -> None:
    settings = Settings(5, 16, 1e-2, holdout=0.25, **more)
    whole = train(noisy(), SMALL, settings, 3)
    stopped = noisy()
    stopped.loss = Stop(2 * (5 + 1) + 3)  # in the third epoch of 5 batches and a hold-out
    first = train(stopped, SMALL, settings, 3, path=tmp_path / "a.pt")
    assert (first.status, len(first.history)) == ("interrupted", 2)
    second = train(noisy(7), SMALL, settings, 3, path=tmp_path / "a.pt", resume=True)  # its own start is forgotten
    assert second.status == "finished"
    assert same(whole, second)
    assert same(whole, train(noisy(8), SMALL, settings, 3, path=tmp_path / "a.pt", resume=True))  # nothing to do
    assert not list(tmp_path.glob("*.part"))


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


def test_an_interruption_keeps_the_best(tmp_path: Path) -> None:
    settings = Settings(50, 16, 0.3, "adam")
    network = spirals.network("standard", 0)
    network.loss = Stop(6 * 12 + 2)
    trained = train(network, SMALL, settings, 0)
    losses = [epoch.loss for epoch in trained.history]
    assert len(losses) == 12
    assert trained.best_epoch == 1 + losses.index(min(losses)) < 12  # such a rate does not end at its best
    again = train(spirals.network("standard", 0), SMALL, Settings(trained.best_epoch, 16, 0.3, "adam"), 0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.network.parameters(), strict=True))
    assert trained.accuracy == accuracy(network, SMALL)


def test_an_interruption_before_the_first_epoch_ends_keeps_the_start() -> None:
    network = spirals.network("standard", 0)
    network.loss = Stop(3)
    trained = train(network, SMALL, Settings(2, 16, 0.1), 0)
    start = spirals.network("standard", 0)
    assert (trained.status, trained.history) == ("interrupted", [])
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), start.parameters(), strict=True))


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
        ({"epochs": 0}, "epochs is at least 1, not 0"),
        ({"lr": -1.0}, "lr is above 0"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum is of sgd"),
        ({"milestones": (3,)}, "milestones is of the schedule"),
        ({"holdout": 1.0}, "holdout"),
        ({"patience": 0}, "patience"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(bln.InputError, match=message):
        Settings(**{"epochs": 1, "batch": 1, "lr": 0.1, **wrong})


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    train(noisy(), SMALL, Settings(1, 16, 1e-2), 0, path=path)
    with pytest.raises(bln.InputError, match=r"another training .*settings .*0\.02"):
        train(noisy(), SMALL, Settings(1, 16, 2e-2), 0, path=path, resume=True)
    with pytest.raises(bln.InputError, match="seeds 0, now 1"):
        train(noisy(), SMALL, Settings(1, 16, 1e-2), 1, path=path, resume=True)


class Payload:
    """What a pickle may run."""

    def __reduce__(self):
        return (os.mkdir, ("this must not run",))


@pytest.mark.parametrize("content", ["text", "pickle", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_without_running_it(tmp_path: Path, monkeypatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    if content == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save(Payload() if content == "pickle" else [1, 2], path)
    with pytest.raises(bln.InputError, match="delete it"):
        train(noisy(), SMALL, Settings(1, 16, 1e-2), 0, path=path, resume=True)
    assert not (tmp_path / "this must not run").exists()


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.pt"
    files.save(path, {"number": 1})

    def torn(state, file):
        file.write(b"half a")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="no space"):
        files.save(path, {"number": 2})
    assert files.load(path, {})["number"] == 1
    assert os.listdir(tmp_path) == ["a.pt"]


def overflowing(layer: int) -> bln.models.BilevelNetwork:
    """ρ = exp, of which one layer is so steep that the first step overflows there."""
    chain = bln.models.BregmanMLP([2, 2, 2, 2], "boltzmann_shannon", version="standard", init="zero")
    with torch.no_grad():
        chain[layer].coupling.bias.fill_(200.0)
    return bln.models.BilevelNetwork(chain, nn.Linear(2, 2))


def poisoned(layer: int) -> bln.models.BilevelNetwork:
    network = spirals.network("bregman", 0)
    with torch.no_grad():
        network.chain[layer].coupling.weight[0, 0] = math.nan
    return network


class Root(nn.Module):
    """√|z|, finite with an infinite derivative at 0."""

    def forward(self, z):
        return z.abs().sqrt()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_loss_that_is_not_finite_names_the_layer(layer: int) -> None:
    with pytest.raises(NonFiniteLoss, match=rf"epoch 1, step 1; it began in layer {layer + 1}: its z") as found:
        train(overflowing(layer), SMALL, Settings(2, 16, 1e-2), 0)
    assert (found.value.epoch, found.value.step) == (1, 1)
    with pytest.raises(NonFiniteLoss, match=rf"layer {layer + 1}: its coupling.weight"):
        train(poisoned(layer), SMALL, Settings(2, 16, 1e-2), 0)


def test_a_gradient_that_is_not_finite_names_its_place() -> None:
    chain = bln.models.BregmanMLP([2, 2, 2], "atan", version="standard", init="zero")
    network = bln.models.BilevelNetwork(chain, nn.Sequential(Root(), nn.Linear(2, 2)))
    with pytest.raises(NonFiniteLoss, match=r"the gradient is not finite .* the gradient of layer 2: coupling\.bias"):
        train(network, SMALL, Settings(2, 16, 1e-2), 0)


def test_input_and_head_are_named_too() -> None:
    data = Data(SMALL.x_train.clone(), *SMALL[1:])
    network = bln.models.BilevelNetwork(bln.models.BregmanMLP([2, 2], "tanh", version="standard"), nn.Linear(2, 2))
    with torch.no_grad():
        network.head.weight.fill_(math.inf)
    with pytest.raises(NonFiniteLoss, match=r"the head: its weight"):
        train(network, data, Settings(1, 16, 1e-2), 0)


def _run(*words: str, out: Path) -> dict:
    words = (*words, "train", "spirals", "--epochs", "3", "--batch", "15", "--out", str(out))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (out / "train.jsonl").read_text().splitlines()
    assert len(lines) == 1  # one process writes
    return json.loads(lines[0])


def test_two_processes_give_the_curve_of_one(tmp_path: Path) -> None:
    """Batches of 15 and a last one of 10 points: shares of 8 and 7, of which the sum is the batch."""
    two = _run("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bilevelnet_bench", out=tmp_path)
    one = train(spirals.network("bregman", 0), spirals.spirals(0), Settings(3, 15, 1e-2), 0)
    assert two["processes"] == 2
    # 1e-5: means of float32 in another order, over 200 steps
    assert two["losses"] == pytest.approx([epoch.loss for epoch in one.history], rel=1e-5)
    assert {"torch", "machine", "bilevelnet", "date"} <= set(two)
    assert two["settings"]["lr"] == 1e-2
