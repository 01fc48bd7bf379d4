"""Schedules from elsewhere: named by a person, or offered by an installed package."""

import importlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from tests.training.test_loop import TASK
from tune_adaptive import schedules as room
from tune_adaptive.errors import InputError
from tune_adaptive.planning.arm_spaces import load_spaces
from tune_adaptive.planning.options import read_request
from tune_adaptive.planning.parsing import read_schedules
from tune_adaptive.ray_backend.own_code import pack, require, unpack
from tune_adaptive.schedules import SCHEDULES, Horizon, baselines
from tune_adaptive.schedules.registry import Schedules

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inverse_sqrt"

HALF = """
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler

def half(optimizer, horizon, *, factor=0.5):
    return ConstantLR(optimizer, factor, total_iters=horizon.total_steps)

half.space = {"parameters": {"factor": {"type": "float", "low": 0.1, "high": 0.9}}}
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Schedules:
    """A registry of its own for each test."""
    own = Schedules({name: SCHEDULES[name] for name in room._OWN})
    for home in (
        "planning.parsing",
        "planning.arm_spaces",
        "planning.options",
        "schedules",
        "ray_backend.own_code",
    ):
        monkeypatch.setattr(f"tune_adaptive.{home}.SCHEDULES", own)
    return own


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes a module and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"own_{uuid.uuid4().hex}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def spaces(*schedules: object) -> dict[str, object]:
    """What planning makes of schedules."""
    request = read_request({"schedule": list(schedules), "signals": "steady"})
    made = load_spaces(request, {TASK.name: TASK})
    return {name: [p.name for p in space.parameters] for (_, name), space in made.items()}


def test_a_builder_is_named_by_its_module(write: Callable[..., str], registry: Schedules) -> None:
    module = write(HALF)
    assert read_schedules([f"{module}:half", "step"], "--schedule") == ("half", "step")
    assert registry.origin("half") == f"{module}:half"
    assert not registry.is_own("half") and registry.is_own("step")
    own = spaces(f"{module}:half")["half"]
    assert own == ["lr", "weight_decay", "warmup_frac", "factor"]
    assert registry.outside(("step", "half")) == {"half": registry["half"]}


def test_a_builder_may_be_given_as_it_is() -> None:
    def flat(optimizer: torch.optim.Optimizer, horizon: Horizon) -> LRScheduler:
        return LambdaLR(optimizer, Flat())

    assert spaces(flat, "step")["flat"] == ["lr", "weight_decay", "warmup_frac"]


class Flat:
    def __call__(self, t: int) -> float:
        return 1.0


def test_a_space_lies_beside_the_module_and_one_in_the_folder_comes_first(
    write: Callable[..., str], tmp_path: Path, registry: Schedules
) -> None:
    module = write(HALF.partition("half.space")[0])
    beside = tmp_path / "half.toml"
    beside.write_text('[parameters.factor]\ntype = "float"\nlow = 0.2\nhigh = 0.3\ndefault = 0.25')
    request = read_request({"schedule": [f"{module}:half"], "signals": "steady"})
    made = load_spaces(request, {TASK.name: TASK})[TASK.name, "half"]
    assert made.to_dict()["factor"]["high"] == 0.3
    folder = tmp_path / "spaces"
    folder.mkdir()
    (folder / "half.toml").write_text(beside.read_text().replace("0.3", "0.4"))
    (folder / "common.toml").write_text("")
    request = read_request({"schedule": ["half"], "signals": "steady", "space": str(folder)})
    made = load_spaces(request, {TASK.name: TASK})[TASK.name, "half"]
    assert made.to_dict()["factor"]["high"] == 0.4


def test_an_installed_package_offers_its_schedules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Schedules
) -> None:
    """By the metadata that pip writes."""
    metadata = tmp_path / "inverse_sqrt_lr-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: inverse-sqrt-lr\nVersion: 1.0")
    (metadata / "entry_points.txt").write_text(
        "[tune_adaptive.schedules]\n"
        "inverse_sqrt = inverse_sqrt_lr:inverse_sqrt\n"
        "step = inverse_sqrt_lr:inverse_sqrt\n"
        "gone = no_such_module:schedule\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)
    assert "inverse_sqrt" in registry and "inverse_sqrt" in list(registry)
    assert "inverse_sqrt_lr" not in sys.modules, "listing imports nothing"
    assert registry.origin("inverse_sqrt") == "inverse_sqrt_lr:inverse_sqrt of inverse-sqrt-lr 1.0"
    assert registry["step"] is baselines.step, "none hides one of this package"
    assert spaces("inverse_sqrt", "step")["inverse_sqrt"][-1] == "shift_frac"  # type: ignore[index]
    with pytest.raises(InputError, match=r"schedule 'gone' .*No module named 'no_such_module'"):
        registry["gone"]


BUILDERS = {
    "is no function": ("own = 3", "must be a function of an optimizer and a Horizon, is int"),
    "takes too little": ("def own(optimizer): ...", "is called with an optimizer and a Horizon"),
    "needs more": ("def own(optimizer, horizon, lr): ...", "all else must have defaults"),
    "is not there": ("", "has no attribute 'own'"),
    "is in a module that raises": ("raise OSError('no')", r"py:1: OSError: no"),
}


@pytest.mark.parametrize(("text", "message"), BUILDERS.values(), ids=BUILDERS)
def test_a_builder_that_cannot_be_called_is_told_at_once(
    text: str, message: str, write: Callable[..., str]
) -> None:
    with pytest.raises(InputError, match=message):
        read_schedules(f"{write(text)}:own", "--schedule")


def test_builders_reach_a_process_that_cannot_import_them(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write(HALF + "\nclass Deep(LambdaLR):\n    pass\n")
    builders = {"half": importlib.import_module(module).half}
    packed = tmp_path / "packed"
    packed.write_bytes(pack(builders))
    code = (
        "import pathlib, sys, torch\n"
        "from tune_adaptive.ray_backend.own_code import require, unpack\n"
        "from tune_adaptive.schedules import SCHEDULES, Horizon\n"
        "assert unpack(pathlib.Path(sys.argv[1]).read_bytes()) is None\n"
        "optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)\n"
        "print(SCHEDULES['half'](optimizer, Horizon(9, timer=None)).get_last_lr())\n"
    )
    root = EXAMPLE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[0.5]", done.stderr


def test_what_a_process_cannot_load_is_told() -> None:
    why = unpack(b"cno_such_module\nown\n.")
    with pytest.raises(InputError, match=r"'own' cannot be loaded on this node: ModuleNotFound"):
        require("own", why)


def test_the_guide_shows_the_example_as_it_is() -> None:
    guide = (EXAMPLE.parents[1] / "docs" / "schedule.md").read_text(encoding="utf-8")
    package = (EXAMPLE / "inverse_sqrt_lr" / "__init__.py").read_text(encoding="utf-8")
    builder = guide.partition("```python\n")[2].partition("```")[0]
    for line in builder.splitlines()[1:]:
        assert line in package
    entry = guide.partition("```toml\n")[2].partition("```")[0]
    assert entry in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


def test_a_name_that_there_is_already_is_refused(
    write: Callable[..., str], registry: Schedules
) -> None:
    module = write(HALF.replace("half", "step"))
    with pytest.raises(InputError, match=r"a schedule 'step' already \(tune_adaptive\)"):
        registry.take(f"{module}:step")
    one, other = write(HALF), write(HALF)
    assert registry.take(f"{one}:half") == registry.take(f"{one}:half") == "half"
    with pytest.raises(InputError, match=f"a schedule 'half' already \\({one}:half"):
        registry.take(f"{other}:half")


SCHEDULERS = {
    "is no scheduler": ("return 3", "must return an LRScheduler, returned 3"),
    "raises": ("raise OSError('gone')", r"own_\w+.py:\d+: in half: OSError: gone"),
    "ends early": (
        "from torch.optim.lr_scheduler import OneCycleLR\n"
        "    return OneCycleLR(optimizer, 1.0, total_steps=horizon.total_steps - 5)",
        "Tried to step",
    ),
    "gives no number": (
        "return LambdaLR(optimizer, lambda t: float('nan') if t else 1.0)",
        "sets the learning rate to nan",
    ),
    "forgets where it is": (
        "made = ConstantLR(optimizer, 0.5, total_iters=15)\n"
        "    made.state_dict = lambda: {}\n    return made",
        "after its state_dict is loaded it gives other rates",
    ),
    "keeps what no checkpoint holds": (
        "made = ConstantLR(optimizer, 0.5)\n    made.own = object()\n    return made",
        "a checkpoint cannot hold <object",
    ),
    "observes what there is not": (
        "made = ConstantLR(optimizer, 0.5)\n"
        "    made.observe = lambda accuracy: None\n    return made",
        "observe needs accuracy",
    ),
}


@pytest.mark.parametrize(("body", "message"), SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_schedule_that_a_run_could_not_use_is_told_while_planning(
    body: str, message: str, write: Callable[..., str]
) -> None:
    text = HALF.replace(
        "return ConstantLR(optimizer, factor, total_iters=horizon.total_steps)", body
    )
    with pytest.raises(InputError, match=message):
        spaces(f"{write(text)}:half")


def test_a_parameter_that_the_space_does_not_name_keeps_its_default(
    write: Callable[..., str],
) -> None:
    module = write(HALF.replace("*, factor=0.5", "*, factor=0.5, other=1.0"))
    assert "other" not in spaces(f"{module}:half")["half"]  # type: ignore[operator]
    strange = write(HALF.replace('"factor": {', '"facter": {').replace("half", "third"))
    with pytest.raises(InputError, match=r"third.space: parameters.facter: .*'factor'"):
        spaces(f"{strange}:third")
