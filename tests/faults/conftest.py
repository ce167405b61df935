"""Fixtures shared by the fault tests: the executables, one seed for the whole run, and a scratch folder outside the checkout."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from authority import Authority, initialize

REPOSITORY = Path(__file__).resolve().parents[2]
_SEED = int(os.environ.get("COUNTERSIGN_FAULTS_SEED") or random.SystemRandom().randrange(2**32))


def pytest_report_header() -> str:
    return f"COUNTERSIGN_FAULTS_SEED={_SEED} (set it to repeat this run's choices)"


def pytest_addoption(parser) -> None:
    parser.addoption("--thorough", type=float, default=1.0, metavar="FACTOR",
                     help="multiplies rounds and cut points: 1 for every run, 10 and more by hand")


@pytest.fixture(scope="session")
def run_seed() -> int:
    return _SEED


@pytest.fixture
def seed(request) -> int:
    """Returns a number that depends on the run's seed and the test's name only."""
    value = random.Random(f"{_SEED} {request.node.name}").randrange(2**32)
    print(f"COUNTERSIGN_FAULTS_SEED={_SEED}, this test's own seed {value}")
    return value


@pytest.fixture
def chance(seed) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def thorough(request) -> float:
    return request.config.getoption("--thorough")


def _program(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable) or REPOSITORY / default)
    if not path.is_file():
        pytest.fail(f"{path} does not exist: build it or set {variable}", pytrace=False)
    return path.resolve()


@pytest.fixture(scope="session")
def executable() -> Path:
    return _program("COUNTERSIGN_BIN", "target/debug/countersign")


@pytest.fixture(scope="session")
def durability_probe() -> list[str]:
    return [str(_program("COUNTERSIGN_DURABILITY_PROBE", "target/debug/examples/durability_probe"))]


@pytest.fixture(scope="session")
def stand_in() -> list[str]:
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("stand_in.py"))]


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    if shutil.which("strace") is None:
        pytest.exit("strace is needed (Debian package strace)", returncode=2)


def unavailable(reason: str) -> None:
    """Skips, or fails where COUNTERSIGN_FAULTS_REQUIRE_ALL is set, so that CI cannot lose a test in silence."""
    if os.environ.get("COUNTERSIGN_FAULTS_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def authority(executable, tmp_path):
    """A running authority on a fresh data folder; it is ended with the test."""
    data = tmp_path / "data"
    keys = initialize(executable, data)
    with Authority(executable, data, keys, tmp_path) as running:
        running.start()
        yield running
