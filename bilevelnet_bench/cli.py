"""bilevelnet-bench: the demo, the experiments of the paper, and the timings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import typer
from rich.console import Console

from bilevelnet import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

INTERRUPTED = 130  # as a shell reports Ctrl-C

Out = Annotated[Path, typer.Option(help="Folder of the pictures and the records (JSON lines).")]
Quick = Annotated[bool, typer.Option("--quick", help="A small version, to see that it runs; its figures say nothing.")]
Compiled = Annotated[bool, typer.Option("--compiled", help="Also with torch.compile on both sides (minutes).")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoints in OUT/checkpoints, to the same numbers.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]


@app.command()
def demo(out: Out = Path("results"), quick: Quick = False) -> None:
    """Train Bregman and standard networks, draw them, solve their lower levels again, time a step."""
    from . import demo as experiment

    experiment.run(experiment.QUICK if quick else experiment.FULL, out, Console())


@app.command("spirals")
def spirals_command(out: Out = Path("results"), quick: Quick = False, resume: Resume = False) -> None:
    """Two spirals, 3 layers of 2 neurons: Bregman, euclidean and standard, 10 seeds; figures and tables."""
    from .experiments import spirals

    _experiment(spirals, out, quick, resume)


@app.command("depth")
def depth_command(out: Out = Path("results"), quick: Quick = False, resume: Resume = False) -> None:
    """Two spirals, 3, 10, 30 and 100 layers of 2 neurons: accuracy against depth, impact against the layer."""
    from .experiments import depth

    _experiment(depth, out, quick, resume)


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="spirals or digits.")] = "spirals",
    version: Annotated[str, typer.Option(help="bregman, euclidean or standard.")] = "bregman",
    init: Annotated[str, typer.Option(help="random, zero or identity.")] = "random",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of 2 neurons, of the spirals: 3 unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the data, the start and the mini-batches.")] = 0,
    epochs: Annotated[int, typer.Option(help="Epochs.")] = 200,
    batch: Annotated[int, typer.Option(help="Points of a mini-batch, over all processes.")] = 16,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-2,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = "sgd",
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    schedule: Annotated[str, typer.Option(help="constant, cosine or steps.")] = "constant",
    milestones: Annotated[str, typer.Option(help="Of steps: epochs after which lr falls tenfold, e.g. 91,136.")] = "",
    holdout: Annotated[float, typer.Option(help="Share of the training points kept apart to choose by.")] = 0.0,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better one.")] = None,
    out: Out = Path("results"),
    resume: Resume = False,
) -> None:
    """Train one network. Also: torchrun --nproc-per-node 2 -m bilevelnet_bench train ...

    After Ctrl-C torchrun adds a SignalException of its own to what the training prints.
    """
    from .experiments import single
    from .training import Settings

    with _console() as console:
        try:
            steps = tuple(int(m) for m in milestones.split(",") if m)
        except ValueError as failure:
            raise typer.BadParameter(f"milestones are whole numbers: 91,136, not {milestones}") from failure
        settings = Settings(
            epochs, batch, lr, optimizer, momentum, weight_decay, schedule, steps, holdout=holdout, patience=patience
        )
        if layers and task != "spirals":
            raise typer.BadParameter(f"it is of the spirals, not of {task}", param_hint="--layers")
        depth = {"layers": layers or 3} if task == "spirals" else {}
        _exit_if_interrupted(
            single.run(task, settings, seed, out, resume, console, version=version, init=init, **depth)
        )


@app.command()
def report(out: Out = Path("results")) -> None:
    """All results so far as OUT/report.html, pictures included, and as OUT/report.md."""
    from . import report as page

    with _console() as console:
        page.run(out, console)


@app.command()
def kernels(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    compiled: Compiled = False,
) -> None:
    """Chains against nn.Sequential, closed forms against cvxpylayers, and the precision of a deep chain."""
    from . import kernels as timings

    torch.set_num_threads(threads)
    timings.run(timings.QUICK if quick else timings.FULL, out, compiled, Console())


@app.command()
def solvers(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    only: Annotated[str | None, typer.Option(help="Only the cases whose name contains this.")] = None,
) -> None:
    """The solvers and quadratic programs against entmax, jaxopt, qpth, qpax and cvxpylayers, where installed."""
    from . import solvers as timings

    torch.set_num_threads(threads)
    chosen = timings.chosen(only, quick)
    if not chosen:
        raise typer.BadParameter(f"no case has {only!r} in its name", param_hint="--only")
    timings.run(chosen, out, Console())


@app.command("import")
def import_command(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    only: Annotated[str | None, typer.Option(help="Only the problems whose name contains this.")] = None,
) -> None:
    """Problems of cvxpy through from_cvxpy against cvxpylayers: a sample's time, building a layer, errors."""
    from . import imports as timings

    torch.set_num_threads(threads)
    if not timings.run(timings.QUICK if quick else timings.FULL, only, out, Console()):
        raise typer.BadParameter(f"no problem has {only!r} in its name", param_hint="--only")


@app.command("resnet")
def resnet_command(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    compiled: Annotated[bool, typer.Option("--compiled", help="Every network under torch.compile (minutes).")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Under autocast to bfloat16.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels last in memory.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is a GPU.")] = "cpu",
) -> None:
    """A training step of ResNet20: Bregman on the dual state, standard, and by the inverse of the activation."""
    from . import resnet as timings

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("torch sees no GPU here", param_hint="--device")
    torch.set_num_threads(threads)
    mode = timings.Mode(device, bfloat16, channels_last, compiled)
    timings.run(timings.QUICK if quick else timings.FULL, mode, out, Console())


def _experiment(module: ModuleType, out: Path, quick: bool, resume: bool) -> None:
    with _console() as console:
        plan = module.QUICK if quick else module.FULL
        _exit_if_interrupted(module.run(plan, out, resume, console))


@contextmanager
def _console() -> Iterator[Console]:
    """Where to print, silent in all processes of torchrun but the first; errors that name their remedy as messages."""
    from .training import NonFiniteLoss, parallel

    with parallel.session() as first:
        try:
            yield Console(quiet=not first)
        except (InputError, NonFiniteLoss) as failure:
            typer.echo(f"Error: {failure}", err=True)
            raise typer.Exit(1) from failure
        except KeyboardInterrupt as failure:  # outside a training, which catches its own
            typer.echo("Interrupted: --resume goes on from the checkpoints of a training.", err=True)
            raise typer.Exit(INTERRUPTED) from failure


def _exit_if_interrupted(whole: bool) -> None:
    if not whole:
        raise typer.Exit(INTERRUPTED)
