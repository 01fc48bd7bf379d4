"""The expensive promises: the README's commands as a new user would type them."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tune_adaptive.analysis.estimates import Analysis

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
EXPORTED = ("adaptive", "step", "exponential")


def test_the_default_job_ends_with_a_verdict_and_busy_slots(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_adaptive.search", "--name", "first"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "Ray is silent"
    folder = tmp_path / "results" / "first"
    for name in ("report.html", "report.md", "verdict.json", "studies.db", "trials.parquet"):
        assert (folder / name).stat().st_size > 0
    for schedule in EXPORTED:
        assert (folder / "best" / "fashion_mnist_mini-cnn" / f"{schedule}.toml").is_file()
    verdict = Analysis(folder).verdicts["fashion_mnist_mini/cnn"]
    assert verdict.word in ("better", "worse", "equivalent", "inconclusive")
    assert verdict.sentence in " ".join(done.stdout.split())
    busy = re.search(r"slots busy training: (\d+)%", done.stdout)
    assert busy is not None
    assert int(busy[1]) >= 75


def test_a_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    """Built and installed apart; its dependencies are those of this environment."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    [site] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel],
        check=True,
    )
    ours = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
    (site / "dependencies.pth").write_text(f"{ours}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = subprocess.run(
        [python, "-c", "import tune_adaptive; print(tune_adaptive.__file__)"],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.strip() == str(site / "tune_adaptive" / "__init__.py")
    done = subprocess.run(
        [
            *(python, "-m", "tune_adaptive.search", "--name", "wheel", "--epochs=1", "--budget=1"),
            *("--final-seeds=1", "--train-size=640"),
        ],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert (empty / "results" / "wheel" / "report.html").is_file()
