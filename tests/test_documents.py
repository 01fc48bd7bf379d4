"""The documents say what is so."""

import re
from pathlib import Path

import torch

from tune_adaptive import load_schedule
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.spaces import default_space_dir

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_stand_first() -> None:
    commands = re.findall(r"^    (\S.*)$", README, flags=re.M)
    assert commands[:2] == [
        "pip install -e . && python -m tune_adaptive.search",
        "pip install -e '.[test]' && pytest",
    ]


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[test]'\npytest\n" in script


def test_the_readmes_loop_runs_on_every_exported_schedule(finished: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    for path in sorted((finished / "best").rglob("*.toml")):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        batches = [(torch.rand(8, 4), torch.randint(0, 2, (8,))) for _ in range(20)]
        listening = path.stem == "adaptive"
        lines = [line for line in code.splitlines() if listening or "observe" not in line]
        lines[0] = f"best = load_schedule({str(path)!r})"
        names = {"load_schedule": load_schedule, "torch": torch}
        exec("\n".join(lines), names | {"model": model, "batches": batches})


def test_every_schedule_has_its_space_and_every_space_its_schedule() -> None:
    spaces = {path.stem for path in default_space_dir().glob("*.toml")} - {"common"}
    assert spaces == set(SCHEDULES)
