"""The experiments of the paper: their statistics, tables, pictures, claims and page."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from bilevelnet_bench import metrics, report
from bilevelnet_bench.cases import spirals as case
from bilevelnet_bench.cases import stack
from bilevelnet_bench.cli import app
from bilevelnet_bench.experiments import claims, depth, runs, spirals, summary
from bilevelnet_bench.experiments.runs import Run
from bilevelnet_bench.sheets import Sheet
from bilevelnet_bench.statistics import interval, paired, share_near, trend
from bilevelnet_bench.training import Settings

TINY = spirals.Plan((Settings(2, 30, 1e-2),), seeds=2, points=(60, 40))
TINY_DEPTH = depth.Plan((Settings(1, 30, 1e-2, "adam"),), seeds=2, depths=(3, 10), points=(60, 40))
NAN = math.nan


def made(version: str, accuracies: list[float], layers: int = 3, init: str = "random", **more) -> Run:
    return Run(
        "spirals", version, init, layers, "sgd", "sgd, lr 0.01", list(range(len(accuracies))), accuracies, **more
    )


# Statistics


def test_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0])
    # s = √(5/3), t_{0.975, 3} = 3.182446305284263
    assert found.mean == 2.5
    assert found.half == pytest.approx(3.182446305284263 * math.sqrt(5 / 3) / 2, rel=1e-12)
    assert interval([1.0, NAN, 2.0, 3.0, 4.0]) == found
    assert interval([7.0])[0] == 7
    assert math.isnan(interval([7.0]).half)
    assert math.isnan(interval([NAN, NAN]).mean)


def test_paired_differences_drop_what_seeds_share() -> None:
    assert paired([0.9, 0.5, 0.7], [0.8, 0.4, 0.6]) == pytest.approx((0.1, 0.0), abs=1e-12)


def test_share_near_counts_failures_as_far() -> None:
    assert share_near([1.0, 0.9, 0.89, NAN], 1.0) == 0.5


def test_trend_is_a_rank_correlation() -> None:
    assert trend([[1.0, 2.0, 9.0], [0.0, 0.1, 0.2]]) == (1.0, 0.0)
    assert trend([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])[0] == -1  # one without ranks is left out
    assert math.isnan(trend([[1.0, 2.0]]).mean)


# Tables and claims from runs alone


def test_tables_and_claims_follow_from_the_accuracies() -> None:
    found = [
        made("bregman", [0.96, 0.98, 0.97]),
        made("standard", [0.76, 0.70, 0.79]),
        made("bregman", [0.95, 0.97, 0.96], 100, impact=[[float(100 - k) for k in range(100)]] * 3),
        made("standard", [0.5, 0.5, 0.5], 100, impact=[[1.0 - k / 100 for k in range(100)]] * 3),
    ]
    accuracy = summary.accuracy(found)
    assert accuracy.rows[0] == ("3 layers, bregman, random", "0.970 ± 0.025", "0.96 to 0.98", "100%")
    assert accuracy.rows[1][3] == "0%"
    differences = {row[0]: row[1] for row in summary.differences(found).rows}
    assert differences["3 layers, random: bregman − standard"].startswith("+0.220 ± ")
    assert summary.depth_effect(found).rows[0] == ("bregman, random", "-0.010 ± 0.000")
    assert summary.impact(found).rows[0] == ("100 layers, bregman, random", "-1.00 ± 0.00", "96", "5.5")
    (sheet,) = claims.sheets(found)
    assert sheet.title == "claims of the paper; sgd, lr 0.01, 3 seeds"
    verdicts = {row[0]: row[2] for row in sheet.rows}
    assert verdicts == {
        "3 layers: bregman separates better than standard": "holds",
        "100 layers: impact increases with l, standard": "does not hold",
        "100 layers: impact decreases with l, bregman": "holds",
        "from 3 to 100 layers standard loses accuracy": "holds",
        "from 3 to 100 layers bregman loses less than 0.05": "holds",
    }


def test_a_claim_within_its_interval_is_undecided() -> None:
    found = [made("bregman", [0.9, 0.7]), made("standard", [0.7, 0.8])]
    assert [row[2] for sheet in claims.sheets(found) for row in sheet.rows] == ["undecided"]


@pytest.mark.parametrize(("far", "verdict"), [(0.9, "holds"), (0.55, "undecided"), (0.5, "does not hold")])
def test_sensitivity_to_the_start_is_paired_by_seed(far: float, verdict: str) -> None:
    ends = {"bregman": ([0.9, 0.8, 0.7], [0.95, 0.85, 0.75]), "standard": ([0.5, 0.5, 0.5], [far, 1.01 * far, far])}
    found = [
        made(version, accuracies, 30, init)
        for version, both in ends.items()
        for init, accuracies in zip(("random", "identity"), both, strict=True)
    ]
    rows = {row[0]: row for sheet in claims.sheets(found) for row in sheet.rows}
    assert rows["30 layers: standard is more sensitive to the start than bregman"][2] == verdict


def test_failed_and_interrupted_runs_are_shown_and_not_compared() -> None:
    found = [made("bregman", [NAN, NAN], status="the loss is not finite in epoch 2"), made("standard", [0.7, 0.8])]
    assert "not finite" in summary.accuracy(found).rows[0][0]
    assert not summary.differences(found).rows
    assert not claims.sheets(found)


def test_a_record_gives_back_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "spirals.jsonl"
    old, other, new = made("bregman", [0.1, 0.2]), made("standard", [NAN, 0.3]), made("bregman", [0.5, 0.6])
    for run in (old, other, new):
        metrics.record(path, what="run", **vars(run))
    metrics.record(path, what="something else")
    first, second = runs.read(path)
    assert first == new  # the last of its key
    assert math.isnan(second.accuracies[0])
    assert second.accuracies[1] == 0.3


def test_a_sheet_is_the_same_table_everywhere() -> None:
    sheet = Sheet("a < b", ("run", "x [y]"), [("p | q", "1 [0, 2]")])
    assert "| p \\| q | 1 [0, 2] |" in sheet.markdown()
    assert "<caption>a &lt; b</caption>" in sheet.html()
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(sheet.rich())
    assert "1 [0, 2]" in console.export_text()


# The experiments themselves, small


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records and pictures of both."""
    out = tmp_path_factory.mktemp("results")
    for experiment, plan in ((spirals, TINY), (depth, TINY_DEPTH)):
        assert experiment.run(plan, out, False, Console(quiet=True))
    return out


def test_experiments_write_runs_and_pictures(results: Path) -> None:
    found = runs.read(results / "spirals.jsonl")
    assert len(found) == 7
    assert {(r.version, r.init) for r in found} >= {("euclidean", "random"), ("standard", "zero")}
    assert all(len(r.accuracies) == 2 and len(r.probes[0]) == 4 and len(r.impact[0]) == 3 for r in found)
    for name in ("spirals-layers", "spirals-accuracy", "depth-accuracy", "depth-impact-adam"):
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((results / "spirals.jsonl").read_text().splitlines()[0])
    assert record["all_settings"]["batch"] == 30
    assert {"torch", "bilevelnet", "machine"} <= set(record)


def test_euclidean_and_standard_are_one_network_from_the_identity(results: Path) -> None:
    found = {r.version: r for r in runs.read(results / "spirals.jsonl") if r.init == "identity"}
    for a, b in zip(found["euclidean"].impact, found["standard"].impact, strict=True):
        assert a == pytest.approx(b, rel=1e-4)  # W + I and W + z round differently, over some steps in float32


def test_an_experiment_goes_on_where_it_was(results: Path, tmp_path: Path, monkeypatch) -> None:
    calls, loss = [], stack.total_loss

    def stopping(prediction, label):
        calls.append(1)
        if len(calls) == 7:  # 2 batches and 2 epochs a job: in the second job's second epoch
            raise KeyboardInterrupt
        return loss(prediction, label)

    monkeypatch.setattr(stack, "total_loss", stopping)
    monkeypatch.setattr(spirals, "QUICK", TINY)
    stopped = CliRunner().invoke(app, ["spirals", "--quick", "--out", str(tmp_path)])
    assert stopped.exit_code == 130
    assert "--resume goes on" in stopped.output
    assert [r.status for r in runs.read(tmp_path / "spirals.jsonl")] == 2 * ["finished"] + 2 * ["interrupted"]
    again = CliRunner().invoke(app, ["spirals", "--quick", "--resume", "--out", str(tmp_path)])
    assert again.exit_code == 0
    assert runs.read(tmp_path / "spirals.jsonl") == runs.read(results / "spirals.jsonl")


def test_an_interruption_between_trainings_ends_in_one_line(tmp_path: Path, monkeypatch) -> None:
    def stopping(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(spirals, "QUICK", TINY)
    monkeypatch.setattr(spirals, "run_all", stopping)
    done = CliRunner().invoke(app, ["spirals", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert done.output == "Interrupted: --resume goes on from the checkpoints of a training.\n"


def test_impact_is_the_mean_move(results: Path) -> None:
    run = next(
        r for r in runs.read(results / "depth.jsonl") if (r.version, r.init, r.depth) == ("bregman", "identity", 3)
    )
    network, data = case.network("bregman", 0, init="identity"), case.spirals(0, 60, 40)
    with torch.no_grad():
        z = network.representations(data.x_test)
    # 1e-6: ρ(ρ⁻¹(z)) up to |z| = 1.57, where tan turns an ulp of z into some hundred of its own
    assert [float((b - a).norm(dim=1).mean()) for a, b in pairwise(z)] == pytest.approx([0.0] * 3, abs=1e-6)
    assert min(run.impact[0]) > 0  # trained, it moves


# The page


def test_the_report_holds_tables_pictures_and_where_it_ran(results: Path) -> None:
    metrics.record(results / "kernels.jsonl", what="chain", case="a", seconds={"chain": metrics.spread([1.0, 2.0])})
    done = CliRunner().invoke(app, ["report", "--out", str(results)])
    assert done.exit_code == 0
    page, text = (results / "report.html").read_text(), (results / "report.md").read_text()
    assert page.count("data:image/png;base64,") == 4
    for content in (page, text):
        assert "All figures on this page are CPU figures: no GPU was used." in content
        assert "claims of the paper; sgd, lr 0.01, batch 30, 2 epochs, 2 seeds" in content
        assert "1.5 [1.25, 1.75]" in content
        assert "bregman separates better than standard" in content
        assert torch.__version__ in content
    assert "![spirals-layers](spirals-layers.png)" in text


def test_the_report_names_the_cards() -> None:
    assert "NVIDIA H100" in report.devices([{"device": "cpu"}, {"device": "NVIDIA H100"}])
    assert "all others are CPU" in report.devices([{}, {"device": "NVIDIA H100"}])


def test_a_plain_table_keeps_the_last_of_what_has_the_same_words() -> None:
    records = [{"what": "t", "case": "a", "x": 1.0, "torch": "2"}, {"what": "t", "case": "a", "x": 2.0}]
    assert report.plain("t", records) == Sheet("t", ["case", "x"], [["a", "2"]])


def test_a_table_of_few_records_with_many_figures_is_turned() -> None:
    figures = {f"x{k}": float(k) for k in range(9)}
    sheet = report.plain("t", [{"what": "t", **figures}])
    assert sheet.columns == ("", "record 1")
    assert sheet.rows[2] == ("x2", "2")


@pytest.mark.parametrize("line", ['{"what": "run", "ver', "", '{"a": 1}', "[1]"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    log = tmp_path / "train.jsonl"
    metrics.record(log, what="training", x=1.0)
    log.write_text(log.read_text() + line + "\n")
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "train.jsonl, line 2, is no record" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report",), "no records"),
        (("train", "--version", "other"), "known: bregman, euclidean, standard"),
        (("train", "letters"), "known: spirals, digits"),
        (("train", "--lr", "-1"), "lr is above 0"),
        (("train", "digits", "--layers", "5"), "of the spirals, not of digits"),
        (("train", "--schedule", "steps", "--milestones", "3,x"), "milestones"),
    ],
    ids=["report", "version", "task", "lr", "layers", "milestones"],
)
def test_commands_say_what_is_wrong(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert not (tmp_path / "train.jsonl").exists()


def test_train_records_its_settings_and_curve(tmp_path: Path) -> None:
    words = ["train", "digits", "--version", "euclidean", "--epochs", "2", "--batch", "100", "--optimizer", "adamw"]
    done = CliRunner().invoke(app, [*words, "--holdout", "0.2", "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads((tmp_path / "train.jsonl").read_text())
    assert record["settings"]["optimizer"] == "adamw"
    assert len(record["losses"]) == len(record["accuracies"]) == 2
    assert record["losses"][1] < record["losses"][0]
