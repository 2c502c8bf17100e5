"""Several processes, each with its share of every mini-batch: what torchrun starts, or one process alone."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from threading import Event

import torch
from torch import Tensor, nn
from torch import distributed as dist

_interrupted = Event()  # this process got Ctrl-C under torchrun


def world() -> tuple[int, int]:
    """(rank, size) of the process group, (0, 1) where there is none."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextlib.contextmanager
def session() -> Iterator[bool]:
    """Join the group that torchrun's environment names, on gloo or, where each process has a GPU, nccl.

    Gives whether this process is the one that writes and prints. Without torchrun it does nothing.
    Ctrl-C, which torchrun sends to every process once more, then only asks for an end: ``mean`` raises it in all.
    """
    started = "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized()
    if started:
        # What DistributedDataParallel imports has the group of that moment as a default argument. Imported before there
        # is one, nothing holds the group beyond the end of this session.
        import torch.distributed.nn.functional

        gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        dist.init_process_group("nccl" if gpus and torch.cuda.is_available() else "gloo")
        signal.signal(signal.SIGINT, lambda *_: _interrupted.set())
    try:
        yield world()[0] == 0
    finally:
        if started:
            # Not before the group is freed are gloo's threads joined: one that still drops a tensor while the
            # interpreter ends aborts the process.
            dist.destroy_process_group()
            gc.collect()


def wrap(module: nn.Module) -> nn.Module:
    """DistributedDataParallel, whose gradient is the mean over the processes; the module itself where it is alone."""
    return nn.parallel.DistributedDataParallel(module) if world()[1] > 1 else module


def share(index: Tensor) -> tuple[Tensor, float]:
    """This process's part of a mini-batch (…, n) and the weight of its mean: size · part/n.

    The mean over processes of weight · mean(part) is the mean over the batch, also where n is no multiple of the size.
    A process without a part takes the first point at weight 0.
    """
    rank, size = world()
    part, n = index[..., rank::size], index.shape[-1]
    return (part, size * part.shape[-1] / n) if part.shape[-1] else (index[..., :1], 0.0)


def mean(value: Tensor) -> Tensor:
    """The mean of a detached number over the processes. KeyboardInterrupt in all of them where one was interrupted."""
    size = world()[1]
    if size == 1:
        return value
    both = torch.stack([value, torch.full_like(value, _interrupted.is_set())])
    dist.all_reduce(both)
    if both[1]:
        raise KeyboardInterrupt
    return both[0] / size
