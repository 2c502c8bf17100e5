"""Interrupted trainings: resumed to the same bits, and checkpoints that are refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from small_trainings import SMALL, noisy, same
from torch import nn

import bilevelnet as bln
from bilevelnet_bench.cases import spirals
from bilevelnet_bench.training import Settings, accuracy, train
from bilevelnet_bench.training import checkpoint as files


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


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    train(noisy(), SMALL, Settings(1, 16, 1e-2), 0, path=path)
    with pytest.raises(bln.InputError, match=r"another training \(settings lr 0\.01, now 0\.02\)"):
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
