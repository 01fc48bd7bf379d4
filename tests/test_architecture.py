"""What the import contracts in pyproject.toml cannot say of the package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tune_adaptive"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path, at_top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reaches(start: str) -> set[str]:
    """Everything that importing ``start`` imports at the top of modules, ours followed."""
    paths = {name_of(path): path for path in MODULES}
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in paths:
            parents = name.split(".")
            waiting += [".".join(parents[:i]) for i in range(1, len(parents))]
            waiting += imports_of(paths[name], at_top_only=True)
    return {name.split(".")[0] for name in seen} | seen


@pytest.mark.parametrize(
    "module",
    [
        "analysis",
        "records",
        "report",
        "watch",
        "commands.doctor",
        "commands.export",
        "commands.report",
        "commands.status",
    ],
)
def test_what_follows_the_search_needs_neither_torch_nor_ray(module: str) -> None:
    within = [
        name for path in MODULES if (name := name_of(path)).startswith(f"tune_adaptive.{module}")
    ]
    assert within
    for name in within:
        assert not reaches(name) & {"torch", "ray"}, name


def test_the_top_level_has_fewer_than_twenty_names() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) < 20


MAX_LINES, MAX_FUNCTION_LINES = 400, 80


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


CODE_IN_DATA = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "shelve", "marshal"),
    *("joblib", "yaml", "ruamel"),
}
RUNS_TEXT = {"eval", "exec", "compile", "__import__", "unsafe_load", "full_load", "read_pickle"}
MUST_BE = {"allow_pickle": "False", "trust_remote_code": "False", "shell": "False"}


def what_could_run(source: str) -> list[str]:
    """Every place of a module where what it reads could run: code in data, or data as code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found += [name for name in names if name.split(".")[0] in CODE_IN_DATA]
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                found += [alias.name for alias in node.names if alias.name == "load"]
        elif isinstance(node, ast.keyword):
            if node.arg in MUST_BE and ast.unparse(node.value) != MUST_BE[node.arg]:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            last = called.rpartition(".")[2]
            is_method = called.partition(".")[0] not in ("builtins", called)
            if last in RUNS_TEXT and not (is_method and last in ("eval", "compile")):
                found.append(called)  # model.eval() and re.compile() are another matter
            if called in ("torch.load", "load") and given.get("weights_only") != "True":
                found.append(called)
            if called in ("os.system", "os.popen"):
                found.append(called)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_is_read_can_run(path: Path) -> None:
    """No pickle, no YAML, no code from the hub, no weights but as tensors, no shell."""
    assert what_could_run(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import cPickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle as c",
        "import dill",
        "import joblib",
        "import shelve",
        "import marshal",
        "import yaml",
        "from ruamel.yaml import YAML",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
        "builtins.eval(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
    ],
)
def test_that_wall_would_be_noticed_to_fall(line: str) -> None:
    assert what_could_run(line) != []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "json.loads(text)",
        "model.eval()",
        "re.compile(text)",
        "subprocess.run(command)",
    ],
)
def test_that_wall_has_doors(line: str) -> None:
    assert what_could_run(line) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tune_adaptive", ("ray", "transformers", "datasets", "torch")),
        ("tune_adaptive.commands.report", ("ray", "torch")),
        ("tune_adaptive.commands.export", ("ray", "torch")),
        ("tune_adaptive.commands.status", ("ray", "torch")),
        ("tune_adaptive.commands.doctor", ("ray", "torch", "psutil", "pynvml")),
        ("tune_adaptive.schedules", ("ray", "transformers", "datasets")),
    ],
)
def test_importing_loads_only_what_it_needs(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([n for n in {absent!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
