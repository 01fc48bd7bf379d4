"""A folder that a stranger sent: opened, exported, verified and resumed, and nothing in it runs."""

import html.parser
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.protocol.test_resume import cut
from tests.tasks.published import publish, save_encoder
from tune_adaptive import load_schedule
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.errors import InputError
from tune_adaptive.report.export import export
from tune_adaptive.report.write import write_report
from tune_adaptive.tasks import TaskOptions, make_task

TASK = "fashion_mnist_mini-cnn"
COMMAND = Path(sys.executable).with_name("tune-adaptive")
"""As installed, it does not put the working directory on Python's path; `python -m` does."""

MODULES = (
    *("tune_adaptive", "task", "conftest", "sitecustomize", "usercustomize", "search_spaces"),
    *("torch", "ray", "optuna", "numpy", "pandas", "typer", "matplotlib", "filelock", "psutil"),
    *("json", "random", "copy", "pickle", "safetensors", "transformers", "fashion_mnist_mini"),
)
PICKLES = (
    *("checkpoints/last.pt", "checkpoints/model.pkl", "checkpoints/model.safetensors"),
    *("checkpoints/search-0000/checkpoint.pt", "checkpoint_000000/.metadata.pkl", "tuner.pkl"),
    *(".tune_metadata", "trainable.pkl", "experiment_state-2026-01-01_00-00-00.json"),
    *("searcher-state-2026.pkl", "search_gen_state-2026.json", "basic-variant-state-2026.json"),
    *("studies.db", "studies.db-journal", "studies.db-wal", "journal.log", "params.pkl"),
    *("trials.parquet", "epochs.parquet", "runs.parquet", "verdict.json", "report.html"),
    *(f"best/{TASK}/weights.safetensors", f"best/{TASK}/weights.pt", "best/step.pkl"),
    *("signals/replayed.jsonl", "figures/figure.pkl", "lock.owner", "data.npz", "data.npy"),
)


class Bomb:
    """What unpickles it, touches a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def plant(folder: Path, canary: Path) -> None:
    """Put a bomb at every name that our folder, Ray, torch, Optuna or Python may look for."""
    for number, name in enumerate(PICKLES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pt":
            torch.save({"model": Bomb(canary)}, path)
        elif path.suffix in (".npy", ".npz"):
            array = np.array([Bomb(canary)], dtype=object)
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=True)
        else:
            path.write_bytes(pickle.dumps(Bomb(canary), protocol=number % 6))
    for name in MODULES:
        line = f"open({str(canary)!r}, 'a').write({name + chr(10)!r})\n"
        (folder / f"{name}.py").write_text(line)
    (folder / "matplotlibrc").write_text("text.usetex: True\nbackend: module://task\n")


def told_of(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command from within ``folder``, or Python where it is named."""
    command = arguments if arguments[0] == sys.executable else (str(COMMAND), *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_the_bombs_are_live(tmp_path: Path, canary: Path) -> None:
    plant(tmp_path / "folder", canary)
    for load in (
        lambda: pickle.loads((tmp_path / "folder" / "tuner.pkl").read_bytes()),
        lambda: torch.load(tmp_path / "folder" / "checkpoints" / "last.pt", weights_only=False),
        lambda: np.load(tmp_path / "folder" / "data.npy", allow_pickle=True),
        lambda: subprocess.run(
            [sys.executable, "-c", "import task"], cwd=tmp_path / "folder", check=True
        ),
    ):
        load()
        assert canary.exists()
        canary.unlink()


@pytest.mark.slow
def test_nothing_runs_when_it_is_opened(finished: Path, tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(finished, folder)
    plant(folder, canary)
    text = (folder / "plan.toml").read_text()
    for arguments in (
        (sys.executable, "-P", "-m", "tune_adaptive", "report", "."),
        ("report", "."),
        ("export", "."),
        ("export", f"best/{TASK}/step.toml"),
        ("verify", f"best/{TASK}/step.toml", "--seeds", "1"),
        ("status", "."),
        ("search", "--resume", "."),  # it ran to its end
    ):
        done = told_of(folder, *arguments)
        assert not canary.exists(), f"{arguments}: {canary.read_text()}"
        assert done.returncode in ((2,) if arguments[0] == "search" else (0, 1)), done.stderr
        assert "Traceback" not in done.stderr
    load_schedule(folder / "best" / TASK / "adaptive.toml")
    assert not canary.exists()
    assert (folder / "plan.toml").read_text() == text
    assert "<svg" in (folder / "report.html").read_text(), "written over what was planted"


@pytest.mark.slow
def test_a_strangers_plan_names_no_code(finished: Path, tmp_path: Path, canary: Path) -> None:
    """A person's own task is imported for a person, who names it on the command line."""
    folder = cut(finished, tmp_path / "stranger", "step-0000")
    plant(folder, canary)
    for name in ("plan.toml", "ledger.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("fashion_mnist_mini/cnn", "task:task"))
    done = told_of(folder, "search", "--resume", ".")
    assert done.returncode == 2
    assert "no name of a task" in done.stderr
    for name in ("plan.toml", "ledger.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("task:task", "task/task"))
    done = told_of(folder, "search", "--resume", ".")
    assert done.returncode == 2
    assert "a task of your own; give it again" in done.stderr
    assert not canary.exists()


@pytest.mark.slow
def test_nothing_runs_when_it_is_resumed(finished: Path, tmp_path: Path, canary: Path) -> None:
    """From within the folder, so that its modules lie where Ray's workers begin."""
    last = f"contention-{TASK}-adaptive-1-feedback_off"
    folder = cut(finished, tmp_path / "stranger", last)
    plant(folder, canary)
    done = told_of(folder, "search", "--resume", ".")
    assert not canary.exists(), canary.read_text()
    assert done.returncode == 0, done.stderr
    assert Analysis(folder).history.closed


def test_a_strangers_encoder_brings_no_code(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--model-path` takes a folder, and a best/*.toml may name one."""
    folder = save_encoder(tmp_path / "encoder")
    line = f"open({str(canary)!r}, 'a').write('code')\n"
    (folder / "modeling_evil.py").write_text(f"{line}class Evil: ...\n")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        torch.save({"model": Bomb(canary)}, folder / name)
    classes = ("AutoConfig", "AutoTokenizer", "AutoModel", "AutoModelForSequenceClassification")
    for name in ("config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        config["auto_map"] = {each: "modeling_evil.Evil" for each in classes}
        config["_attn_implementation"] = config["attn_implementation"] = "evil/kernels"
        (folder / name).write_text(json.dumps(config))
    publish(tmp_path / "data", "imdb")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    task = make_task("imdb/bert", TaskOptions(tmp_path / "data", str(folder), max_length=16))
    model = task.build(task.load().describe())
    assert type(model).__module__.startswith("tune_adaptive.")
    assert all(type(part).__module__ != "modeling_evil" for part in model.modules())
    assert not canary.exists()


WRITTEN = ("*.html", "*.md", "*.json", "*.parquet", "figures/*.svg", "best/*/*.toml")


def victims(outside: Path) -> Callable[[], None]:
    """Return a check that what lies outside is as it was."""
    outside.mkdir()
    for name in ("file", "folder/kept"):
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_text("mine, without a newline at its end")
    before = sorted(outside.rglob("*"))

    def check() -> None:
        assert sorted(outside.rglob("*")) == before
        for name in ("file", "folder/kept"):
            assert (outside / name).read_text() == "mine, without a newline at its end"

    return check


def test_a_link_is_replaced_and_never_written_through(finished: Path, tmp_path: Path) -> None:
    """One in the place of every file that report and export write, and of every draft."""
    folder = tmp_path / "stranger"
    shutil.copytree(finished, folder)
    untouched = victims(tmp_path / "outside")
    paths = [path for name in WRITTEN for path in folder.glob(name)]
    assert len(paths) > len(WRITTEN)
    for path in paths:
        path.unlink()
        path.symlink_to(tmp_path / "outside" / "file")
        path.with_name(f"{path.name}.draft").symlink_to(tmp_path / "outside" / "file")
    analysis = Analysis(folder)
    write_report(analysis)
    export(analysis)
    untouched()
    for path in paths:
        assert not path.is_symlink()
        assert path.read_bytes() == (finished / path.relative_to(folder)).read_bytes()
    assert list(folder.rglob("*.draft")) == []


@pytest.mark.parametrize(
    ("name", "write"), [("figures", write_report), ("best", export), (f"best/{TASK}", export)]
)
def test_a_folder_that_is_a_link_is_not_written_into(
    finished: Path, tmp_path: Path, name: str, write: Callable[[Analysis], list[Path]]
) -> None:
    folder = tmp_path / "stranger"
    shutil.copytree(finished, folder)
    untouched = victims(tmp_path / "outside")
    shutil.rmtree(folder / name)
    (folder / name).symlink_to(tmp_path / "outside" / "folder")
    with pytest.raises(InputError, match=f"{name}: is a link, which could lead anywhere"):
        write(Analysis(folder))
    untouched()


@pytest.mark.parametrize(
    "name",
    ["ledger.jsonl", "lock", "lock.owner", "studies.db", "signals", "signals/next.jsonl", "x/y/z"],
)
def test_an_experiment_with_a_link_in_it_is_not_resumed(
    search: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    folder = cut(finished, tmp_path / "stranger", "step-0000")
    untouched = victims(tmp_path / "outside")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "outside" / ("folder" if name == "signals" else "file"))
    assert search("--resume", str(folder)) == 2
    assert f"{name}: is a link, which could lead anywhere" in capsys.readouterr().err
    untouched()


class Tags(html.parser.HTMLParser):
    """Collects the tags and attributes of a page that could run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.could_run: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "embed", "form", "base", "foreignobject"):
            self.could_run.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.could_run.append(f"{tag} {name}={value}")


HOSTILE = (
    "\"'></code></svg>--><script>alert(1)</script><img src=x onerror=alert(1)>![x](http://e/x)"
)


def test_a_strangers_words_are_words(finished: Path, tmp_path: Path) -> None:
    """In every text that a plan or a ledger holds and a page may show."""
    folder = tmp_path / "stranger"
    shutil.copytree(finished, folder)
    plan = folder / "plan.toml"
    text, quoted = plan.read_text(), json.dumps(HOSTILE)
    for name in ("command", "created", "device", "system", "torch", "data", "data_sha256"):
        head, tail = text.split(f"\n{name} = ", 1)
        text = f"{head}\n{name} = {quoted}\n{tail.split(chr(10), 1)[1]}"
    text = text.replace("\n[tasks.notes]", f"\n[tasks.notes]\n{quoted} = {quoted}", 1)
    plan.write_text(text)
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    for row in rows:
        if row["event"] == "run_ended" and "step" in row["run_id"]:
            row |= {"status": "failed", "message": f"Traceback\n{HOSTILE}"}
        for held in (row, row.get("run", {})):
            if "configuration" in held:
                held["configuration"]["parameters"][HOSTILE] = HOSTILE
    rows += [{"event": HOSTILE}, {"event": "epoch", HOSTILE: HOSTILE}]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(Analysis(folder))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert Tags(page).could_run == []
    for line in (folder / "report.md").read_text(encoding="utf-8").splitlines():
        is_code = line.startswith("    ")
        assert is_code or not any(part in line for part in ("<script", "<img", "](http"))
    for drawing in (folder / "figures").iterdir():
        assert "<script" not in drawing.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_terminal_is_told_nothing_to_obey(finished: Path, tmp_path: Path) -> None:
    """Not in what is shown of a file, nor in why it is refused."""
    text = (finished / "best" / TASK / "step.toml").read_text()
    title = r"\u001b]0;owned\u0007"
    for old, new in (
        ('task = "', f'task = "{title}'),
        ('optimizer = "', f'task = "x"\n"{title}" = "'),
        ("format = 2", f'format = "{title}"'),
        ("[parameters]", f'[parameters]\n"{title}" = 1'),
    ):
        (tmp_path / "step.toml").write_text(text.replace(old, new, 1))
        done = told_of(tmp_path, "export", "step.toml")
        assert done.returncode in (0, 2)
        assert "owned" in done.stdout + done.stderr or "step.toml" in done.stderr
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "a/../../escaped", "a\\\\b", "."])
@pytest.mark.parametrize("what", ["small", "fashion_mnist_mini/cnn", "exponential"])
def test_no_name_leads_out_of_the_folder(
    finished: Path, tmp_path: Path, what: str, name: str
) -> None:
    folder = tmp_path / "deep" / "stranger"
    shutil.copytree(finished, folder)
    for file in ("plan.toml", "ledger.jsonl"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(f'"{what}"', f'"{name}"'))
    before = sorted(path for path in tmp_path.rglob("*") if folder not in path.parents)
    with pytest.raises(InputError):
        write_report(Analysis(folder))
    assert sorted(p for p in tmp_path.rglob("*") if folder not in p.parents) == before


SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "MY_SECRET")
CANARY = "canary-4f1d-do-not-write-this-down"

FAILING = """
import os

import numpy as np
import torch
from torch import nn

from tune_adaptive import Dataset, Examples, Task

rng = np.random.default_rng(0)


def split(n):
    x = rng.normal(size=(n, 4)).astype(np.float32)
    return Examples(x, (x[:, 0] > 0).astype(np.int64))


def build(data):
    secret = os.environ["MY_SECRET"]
    if torch.initial_seed() == 2:  # that of a trial
        raise RuntimeError("a failure with a secret among its locals")
    return nn.Linear(4, 2)


task = Task("own/failing", Dataset(split(200), split(50), split(50)), build, num_epochs=1)
"""


@pytest.fixture
def ray_dir() -> Iterator[Path]:
    """A folder for Ray's own files; the paths of its sockets must be short."""
    folder = tempfile.mkdtemp(prefix="ray-")
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_secrets_of_the_environment_never_reach_a_file(tmp_path: Path, ray_dir: Path) -> None:
    """Not by way of a traceback, either, nor of what Ray writes beside it."""
    (tmp_path / "failing.py").write_text(FAILING)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tune_adaptive.search", "--task", "failing:task"),
            *("--name", "secret", "--budget", "4", "--final-seeds", "1", "--precision", "fp32"),
            *("--schedule", "step", "--schedule", "constant", "--max-concurrent", "1"),
        ],
        cwd=tmp_path,
        env=os.environ | dict.fromkeys(SECRETS, CANARY) | {"RAY_TMPDIR": str(ray_dir)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "secret"
    failed = [run for run in Analysis(folder).runs if run.status == "failed"]
    assert failed and "a failure with a secret among its locals" in failed[0].message
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 10
    by_ray = [path for path in ray_dir.rglob("*") if path.is_file()]
    assert "runtime_env_agent.log" in {path.name for path in by_ray}
    told = {path: path.read_bytes() for path in (*written, *by_ray)}
    assert [path for path, content in told.items() if CANARY.encode() in content] == []
    assert CANARY not in done.stdout + done.stderr
    umask = os.umask(0)
    os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in written}
    assert {name for name, mode in modes.items() if mode != 0o666 & ~umask} <= {"lock"}


@pytest.mark.parametrize(
    "option",
    [
        ("--data-dir", f"https://me:{CANARY}@host/data"),
        ("--model-path", f"https://me:{CANARY}@host/model"),
        ("--space", f"https://me:{CANARY}@host/spaces"),
        ("--signals", f"replay:https://me:{CANARY}@host/x.jsonl"),
    ],
)
def test_a_url_with_a_password_is_refused_before_a_file_is_written(
    search: Callable[..., int], tmp_path: Path, option: tuple[str, str]
) -> None:
    task = ("--task", "imdb/bert" if option[0] == "--model-path" else "mnist/cnn")
    out = tmp_path / "out"
    assert search("--results-dir", str(out), "--name", "x", *task, *option) == 2
    assert not out.exists()
