"""Epochs of mini-batches, with a checkpoint after each, the best weights so far, and a stop that leaves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import bilevelnet as bln

from ..cases.data import Data
from . import checkpoint, parallel
from .batches import Seeds, order, pick, split
from .diagnosis import NonFiniteLoss, backward_place, forward_place
from .settings import Settings

Accuracy = Any  # a number, or a list of them, one a network of a stack


class Epoch(NamedTuple):
    """Training loss, the measure of what is best (loss on the hold-out, or again that of training), test accuracy.

    A loss is that of the whole objective: for a stack the sum over its networks. Nothing is chosen on the test set.
    """

    loss: float
    measure: float
    accuracy: Accuracy


@dataclass
class Trained:
    """``status``: "finished" leaves the last weights, "stopped early" and "interrupted" the best ones.

    ``history``: what each epoch ended with; ``best_epoch``, counted from 1, has the smallest measure. ``accuracy``: on
    the test set, of the weights that are left.
    """

    network: bln.models.BilevelNetwork
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    status: str = "finished"
    accuracy: Accuracy = math.nan

    @property
    def accuracies(self) -> list[Accuracy]:
        """After each epoch."""
        return [epoch.accuracy for epoch in self.history]

    @property
    def best(self) -> float:
        """The smallest measure, ∞ before the first."""
        return self.history[self.best_epoch - 1].measure if self.best_epoch else math.inf


def train(
    network: bln.models.BilevelNetwork,
    data: Data,
    settings: Settings,
    seeds: Seeds,
    label: str = "training",
    path: Path | None = None,
    resume: bool = False,
) -> Trained:
    """min over θ of the network's objective on the training points; Ctrl-C keeps the best so far.

    ``seeds`` orders the mini-batches: a number, or of a stack of networks with data (S, n, …) one each. ``label``
    names the progress bar. ``path``: a checkpoint, written after every epoch; ``resume`` continues from it to the
    same numbers, bit by bit. Under a process group each process takes its share of every mini-batch.
    Raises NonFiniteLoss with the layer where it began; InputError for a checkpoint of another training.
    """
    run = _Run(network, data, settings, seeds, path)
    with torch.random.fork_rng():
        torch.manual_seed(run.first_seed)  # of dropout and the like; mini-batches have generators of their own
        if resume and path is not None and path.exists():
            run.restore(path)
        try:
            run.go(label)
        except KeyboardInterrupt:
            run.trained.status = "interrupted"
    if run.trained.status != "finished":
        network.load_state_dict(run.best_state)
    run.trained.accuracy = accuracy(network, data)
    return run.trained


def accuracy(network: Callable[[Tensor], Tensor], data: Data) -> Any:
    """The share of test points whose largest score is their label's: a number, or a list, one a network of a stack."""
    with torch.no_grad():
        return (network(data.x_test).argmax(-1) == data.y_test).double().mean(-1).tolist()


class _Objective(nn.Module):
    # DistributedDataParallel wraps a forward
    def __init__(self, network: bln.models.BilevelNetwork):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.network.objective(x, y)


class _Run:
    """One training in progress."""

    def __init__(
        self, network: bln.models.BilevelNetwork, data: Data, settings: Settings, seeds: Seeds, path: Path | None
    ):
        self.network, self.data, self.settings, self.path = network, data, settings, path
        self.seeds: Seeds = seeds if isinstance(seeds, int) else list(seeds)
        self.first_seed = seeds if isinstance(seeds, int) else seeds[0]
        self.fit, self.held = split(data, seeds, settings.holdout)
        self.optimizer = settings.build(network.parameters())
        self.objective = parallel.wrap(_Objective(network))
        self.trained = Trained(network)
        self.best_state = _copy(network.state_dict())

    def go(self, label: str) -> None:
        from tqdm import tqdm

        trained, settings = self.trained, self.settings
        done = len(trained.history)
        quiet = parallel.world()[0] > 0
        layout = "{desc} |{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        form = {"desc": label, "bar_format": layout, "leave": False, "disable": quiet}
        with tqdm(range(done, settings.epochs), initial=done, total=settings.epochs, **form) as bar:
            for epoch in bar:
                if settings.patience is not None and epoch - trained.best_epoch >= settings.patience:
                    trained.status = "stopped early"
                    return
                last = self._epoch(epoch)
                if self.path is not None and not quiet:
                    checkpoint.save(self.path, self.state())
                test = torch.tensor(last.accuracy).mean()
                bar.set_postfix(loss=f"{last.loss:.3g}", test=f"{test:.3f}", refresh=False)

    def _epoch(self, epoch: int) -> Epoch:
        trained, loss = self.trained, 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr_at(epoch)
        n = self.fit.y_train.shape[-1]
        self.network.train()
        for step, index in enumerate(order(n, self.seeds, epoch + 1).split(self.settings.batch, dim=-1)):
            loss += self._step(index, epoch + 1, step + 1) * index.shape[-1] / n
        self.network.eval()
        measure = loss
        if self.settings.holdout:
            with torch.no_grad():
                measure = float(self.network.objective(self.held.x_train, self.held.y_train))
        done = Epoch(loss, measure, accuracy(self.network, self.data))
        best = _copy(self.network.state_dict()) if measure < trained.best else None
        trained.history.append(done)  # first: Ctrl-C between the two leaves no best epoch that history lacks
        if best is not None:
            trained.best_epoch, self.best_state = epoch + 1, best
        return done

    def _step(self, index: Tensor, epoch: int, step: int) -> float:
        part, weight = parallel.share(index)
        x, y = pick(self.fit.x_train, part), pick(self.fit.y_train, part)
        self.optimizer.zero_grad()
        try:
            loss = weight * self.objective(x, y)
        except bln.SolveError as failure:  # a chain refuses a state that is not finite before there is a loss
            raise NonFiniteLoss("the chain's state", epoch, step, forward_place(self.network, x)) from failure
        value = float(parallel.mean(loss.detach()))
        if not math.isfinite(value):
            raise NonFiniteLoss("the loss", epoch, step, forward_place(self.network, x))
        loss.backward()
        norm = nn.utils.get_total_norm(p.grad for p in self.network.parameters() if p.grad is not None)
        if not bool(norm.isfinite()):
            raise NonFiniteLoss("the gradient", epoch, step, backward_place(self.network))
        self.optimizer.step()
        return value

    def _identity(self) -> dict[str, Any]:
        return {"settings": asdict(self.settings), "seeds": self.seeds}

    def state(self) -> dict[str, Any]:
        """All that the next epochs depend on, and what is known of the past ones."""
        return {
            **self._identity(),
            "network": self.network.state_dict(),
            "best": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "history": [tuple(epoch) for epoch in self.trained.history],
            "best_epoch": self.trained.best_epoch,
            "random": torch.get_rng_state(),
        }

    def restore(self, path: Path) -> None:
        state = checkpoint.load(path, self._identity())
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best"]
        self.trained = Trained(self.network, [Epoch(*e) for e in state["history"]], state["best_epoch"])
        torch.set_rng_state(state["random"])


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
