"""Options and profiles of the suite: ``--device`` runs the laws elsewhere, ``-m "not heavy"`` is the quick run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

# The same examples at every run of the quick suite; no clock in a test.
settings.register_profile(
    "quick", derandomize=True, deadline=None, max_examples=20, suppress_health_check=list(HealthCheck)
)
settings.register_profile("all", deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the laws run, e.g. cuda")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if "not heavy" in config.option.markexpr else "all")
    torch.set_num_threads(1)  # the tensors are small: more threads only wait for one another


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def seed() -> None:
    """gradgradcheck and torch's initialisers draw from the global generator: the same at every run."""
    torch.manual_seed(0)
