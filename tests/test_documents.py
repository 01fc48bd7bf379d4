"""The documents say what is so."""

import ast
import math
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

from tests.conftest import run_search
from tests.report.test_report import renamed
from tests.tasks.published import publish, save_encoder
from tune_adaptive import AdaptiveLR, load_schedule
from tune_adaptive.records.space_files import default_space_dir, space_from_dict
from tune_adaptive.schedules import SCHEDULES, Horizon, phases
from tune_adaptive.tasks import DATASETS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_two_commands_stand_first() -> None:
    commands = re.findall(r"^    (\S.*)$", README, flags=re.M)
    assert commands[:2] == [
        "pip install -e . && python -m tune_adaptive.search",
        "pip install -e '.[test]' && pytest",
    ]


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:pip|pytest).*", script, flags=re.M)
    assert commands[:2] == ["pip install --quiet -e '.[test]'", "pytest"]


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1000


def test_the_readmes_map_is_the_tree() -> None:
    section = README.split("## Where things are")[1]
    package = ROOT / "tune_adaptive"
    rooms = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in package.iterdir()
        if path.name not in ("__pycache__", "__init__.py", "__main__.py", "py.typed")
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert set(re.findall(r"^      (\S+)", section, flags=re.M)) == rooms
    for folder in re.findall(r"^    (\S+/) ", section, flags=re.M):
        assert (ROOT / folder).is_dir(), folder


def test_the_readmes_code_runs(finished: Path) -> None:
    adaptive, winner = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exported = next(finished.glob("best/*/adaptive.toml"))
    winner = re.sub(r'"results/.*?"', repr(str(exported)), winner)
    for code in (adaptive, winner):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        names = {"AdaptiveLR": AdaptiveLR, "load_schedule": load_schedule, "optimizer": optimizer}
        exec(code, names | {"loss": torch.tensor(1.0)})


def test_the_guides_loop_runs_on_every_exported_schedule(finished: Path) -> None:
    guide = (ROOT / "docs" / "winner.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", guide, flags=re.S)
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
    assert spaces == {name for name in SCHEDULES if SCHEDULES.is_own(name)}


COMMAND = (
    r"([A-Z_]+=|python |~/|tune-adaptive |pip |pytest|prometheus |optuna-dashboard |tensorboard |"
    r"mlflow |ray |docker |kubectl |export )"
)


def commands() -> Iterator[str]:
    """Every command that a document shows, in its indented blocks, without its remark."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^    (\S.*)$", text, flags=re.M):
            if re.match(COMMAND, line):
                yield re.sub(r"\s+#.*", "", line).strip()


ELSEWHERE = {
    "pip install": ".ci/run, and the README's own two commands",
    "pytest": ".ci/run",
    "python examples/": "tests/test_examples.py",
    "python docs/screenshots.py": "tests/watch/test_watching.py",
    "prometheus --config.file": "tests/watch/test_watching.py",
    "optuna-dashboard ": "tests/watch/test_watching.py",
    "python -m tune_adaptive.search --address": "tests/ray_backend/test_nodes.py, with a cluster",
    "python -m tune_adaptive.search --resume results/first --address": (
        "tests/ray_backend/test_nodes.py"
    ),
    "python -m tune_adaptive.search --signals replay": "tests/test_search.py, with a recording",
    "tensorboard ": "its reader in tests/watch/test_trackers.py",
    "mlflow ": "its client in tests/watch/test_trackers.py",
    **dict.fromkeys(
        ("ray ", "docker ", "kubectl ", "export ", "~/"),
        "nowhere: they need machines; tests/test_cluster_files.py checks their files and options",
    ),
    "python -m tune_adaptive.search --task hub:": "tests/tasks/test_folders.py, from a cache",
    "python -m tune_adaptive.search --schedule inverse_sqrt": (
        "tests/schedules/test_registry.py, where it is installed"
    ),
    "python -m tune_adaptive prefetch": "tests/tasks/test_prepare.py, from files",
}
"""Commands that another test runs, by how they begin."""


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of a user who has followed the guides."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(finished, place / "results" / "first")
    renamed(finished, place / "results" / "second", ('name = "small"', 'name = "second"'))
    (place / "examples").symlink_to(ROOT / "examples")
    for name, source in DATASETS.items():
        if source.hub is not None:
            publish(place / "data", name, num_train=6000 if name == "mnist" else 100)
    save_encoder(place / "encoder")
    labels = ["good" if row % 2 else "bad" for row in range(60)]
    rows = [f"{label} film {row},{label}" for row, label in enumerate(labels)]
    (place / "reviews.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    for row, label in enumerate(labels):
        (place / "pictures" / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + row, 30)).save(place / "pictures" / label / f"{row}.png")
    own = place / "mymodule.py"
    own.write_text(
        "from torch.optim.lr_scheduler import ConstantLR\n\n"
        "from tests.training.test_loop import TASK as task\n\n\n"
        "def builder(optimizer, horizon):\n    return ConstantLR(optimizer, 1.0)\n"
    )
    (place / "inverse_sqrt_lr").symlink_to(ROOT / "examples" / "inverse_sqrt" / "inverse_sqrt_lr")
    (place / "mypackage").mkdir()
    (place / "mypackage" / "schedules.py").write_text("from inverse_sqrt_lr import inverse_sqrt\n")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [each for each in dict.fromkeys(commands()) if not each.startswith(tuple(ELSEWHERE))],
)
def test_every_command_of_the_documents_does_what_it_says(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Searches as plans, which check every option; everything else in full."""
    monkeypatch.chdir(place)
    command = command.replace("DIR", str(place / "data"))
    words = shlex.split(command.replace("FOLDER_OR_HUB_ID", str(place / "encoder")))
    words = [word for word in words if not word.startswith("WANDB_MODE=")]
    if words[:3] == ["python", "-m", "tune_adaptive.search"]:
        options = words[3:]
        if "--resume" in options:  # it has ended
            assert run_search(*options) == 2
            assert "it ran to its end" in capsys.readouterr().err
            return
        added = ["--results-dir", str(place / "new")]
        added += ["--plan"] * ("--plan" not in options)
        published = {name for name, source in DATASETS.items() if source.hub is not None}
        if "--data-dir" not in options and {word.split("/")[0] for word in options} & published:
            added += ["--data-dir", str(place / "data")]
        if any("gpus" in word for word in options) and "--num-gpus" not in options:
            added += ["--num-gpus", "1"]
        if any("bert" in word for word in options):
            added += ["--max-length", "16"]
            added += ["--model-path", str(place / "encoder")] * ("--model-path" not in options)
        if "--preset" in options:  # its own tasks take minutes to measure
            added += ["--task", "fashion_mnist_mini/cnn"]
        if "auto" in options:
            added += ["--max-concurrent", "1"]
        monkeypatch.syspath_prepend(str(ROOT))  # of a task of one's own
        assert run_search(*options, *added) == 0, capsys.readouterr().err
        return
    if words[0] == "python":
        words[0] = sys.executable
    if words[0] == "tune-adaptive":
        words[:1] = [sys.executable, "-m", "tune_adaptive"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    # The doctor may find something; two seeds promise little to whoever verifies.
    allowed = {"doctor": (0, 3), "verify": (0, 1)}.get("".join(words[3:4]), (0,))
    assert done.returncode in allowed, done.stderr
    assert done.stderr == ""


def test_what_other_tests_run_is_still_in_the_documents() -> None:
    there = list(commands())
    for begins in ELSEWHERE:
        assert any(command.startswith(begins) for command in there), begins


def test_every_guide_is_linked_and_every_link_leads_somewhere() -> None:
    linked = set()
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"
                linked.add((path.parent / target).resolve())
    assert {path.resolve() for path in (ROOT / "docs").glob("*.md")} <= linked


def test_the_guides_schedule_can_be_built_and_searched() -> None:
    text = (ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")
    text = text[text.index("## One of this package") :]
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    [toml] = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    names = vars(phases) | {"math": math}
    exec(code, names)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = names["inverse_sqrt"](optimizer, Horizon(100, warmup_steps=0, timer=None))
    for _ in range(30):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(math.sqrt(10 / 40))
    for _ in range(100):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(math.sqrt(10 / 110)), "held"
    space = tomllib.loads(toml)["parameters"]
    own = {name: {k: v for k, v in each.items() if k != "reason"} for name, each in space.items()}
    own["shift_frac"]["default"] = 0.1
    assert [parameter.name for parameter in space_from_dict(own, "guide").parameters] == [
        "shift_frac"
    ]


OLD_WORDS = (
    r"told apart|tells? apart|witness(es)?|recipes?|baseline of record|untuned (as|defaults)",
    r"go(es)? on|went on|gone on|going on|hears?|heard|(is|are|was|were) told|at once",
    r"begun anew|handed out again|not found above|(is|are|was|were) found (above|below)",
    r"speaks?|refused|without a word|what was found",
)
"""Private words that the documents once had; DESIGN's glossary gives the field's words."""


def prose(path: Path) -> str:
    """The text of a document without code and without what is printed."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|<!-- table.*?<!-- end -->", "", text, flags=re.S)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    return " ".join(re.sub(r"`[^`]*`", "", text).split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_documents_use_the_fields_words(path: Path) -> None:
    pattern = rf"\b({'|'.join(OLD_WORDS)})\b"
    assert [each[0] for each in re.finditer(pattern, prose(path), flags=re.I)] == []


MODULES = sorted((ROOT / "tune_adaptive").rglob("*.py"))


def messages(path: Path) -> Iterator[str]:
    """The texts of a module that a person may see: all but docstrings and single words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in described and " " in node.value.strip():
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_help_and_messages_use_the_fields_words(path: Path) -> None:
    pattern = rf"\b({'|'.join(OLD_WORDS)})\b"
    assert [text for text in messages(path) if re.search(pattern, text, flags=re.I)] == []


def test_the_reports_use_the_fields_words() -> None:
    pattern = rf"\b({'|'.join(OLD_WORDS)})\b"
    for path in (ROOT / "tune_adaptive" / "report" / "templates").iterdir():
        texts = re.findall(r'"[^"]* [^"]*"', path.read_text(encoding="utf-8"))
        assert [text for text in texts if re.search(pattern, text, flags=re.I)] == []


def test_the_site_is_built_from_every_guide_and_asks_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for guide in (ROOT / "docs").glob("*.md"):
        page = (tmp_path / guide.with_suffix(".html").name).read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|iframe)[^>]* src=.?(https?:)?//", page)
        assert not re.search(r"<link[^>]* href=.?(https?:)?//", page)


def test_the_oldest_versions_are_tested() -> None:
    """Each lower bound is the version that ``.ci/oldest`` installs, of what it pins."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    bounds = {}
    for each in map(Requirement, document["project"]["dependencies"]):
        [bounds[each.name]] = [one.version for one in each.specifier if one.operator == ">="]
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert bounds.keys() <= pinned.keys()
    for name, bound in bounds.items():
        assert Version(pinned[name]).release[: len(bound.split("."))] == Version(bound).release, (
            name
        )


def test_the_hooks_and_workflows_name_what_exists() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    [repo] = hooks["repos"]
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff", "ruff-format", "mypy"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = {re.split(r"[>=<\[]", each)[0] for each in project["optional-dependencies"]["test"]}
    assert {hook["entry"].split()[0] for hook in repo["hooks"]} <= tested
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["ci"]["steps"]
    [runs] = [step["run"] for step in steps if "run" in step]
    assert ".ci/${{ matrix.script }}" in runs
    for name in workflow["jobs"]["ci"]["strategy"]["matrix"]["script"]:
        assert (ROOT / ".ci" / name).stat().st_mode & 0o100
    [version] = [step["with"]["python-version"] for step in steps if "with" in step]
    assert project["requires-python"] == f">={version}"
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [path.stem for path in forms] == ["bug", "question"]
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert all({"type", "attributes"} <= set(each) for each in form["body"])
