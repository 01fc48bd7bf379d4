"""Rows of the table of hostile inputs: options, tasks of one's own, drawings of schedules."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.hostile.row import Row, nothing

PLAN = "search --plan --precision fp32 --signals steady --schedule step"
SMALL = f"{PLAN} --epochs 1 --train-size 640"

NUMBERS = {
    "--epochs": (("0", "in .1, 1000000., got 0"), ("9999999999999999", "in .1, 1000000.")),
    "--budget": (("1e308", "in .1, 33000., got 1e.308"), ("nan", "in .1, 33000., got nan")),
    "--final-seeds": (("1000000000", "in .1, 100000."), ("-1", "in .1, 100000.")),
    "--clip-norm": (("nan", "> 0, got nan"), ("1e-400", "> 0, got 0")),
    "--seed": (("-1", "in .0, 4294967295."), ("4294967296", "in .0, 4294967295.")),
    "--max-retries": (("2147483648", "in .0, 2147483647."),),
    "--max-concurrent": (("0", "in .1, 2147483647., got 0"),),
    "--num-gpus": (("1000000", "in .0, 1024., got 1000000"),),
    "--cpus-per-trial": (("1e-300", ">= 0.01 and finite"), ("inf", ">= 0.01 and finite")),
    "--gpus-per-trial": (("nan", "in .0.01, 1., got nan"), ("1e-9", "in .0.01, 1.")),
    "--train-size": (("99999999999", "in .1, 2147483647."),),
    "--batch-size": (("0", "in .1, 2147483647., got 0"),),
    "--time-budget": (("99999999999999999999h", "> 0 and at most 316224000 s"),),
    "--checkpoint-every": (("99999999999999h", "> 0 and at most"), ("0s", "> 0 and at most")),
    "--hang-after": (("99999999999999h", "> 0 and at most"),),
    "--run-time-budget": (("1e308", "> 0 and at most"),),
}
"""By option, values that cannot be, and what the message says of them."""

BEYOND = ("--epochs", "--final-seeds", "--seed", "--max-retries", "--batch-size", "--train-size")

TASKS = {
    "../x:y": "--task ../x:y: must be package.module:variable, .*; did you mean 'x:y'",
    "./tasks_own:ok": "--task ./tasks_own:ok: must be .*; did you mean 'tasks_own:ok'",
    "folder/a.py:task": "--task folder/a.py:task: must be .*; did you mean 'folder.a:task'",
    "module:": "--task module:: must be .*; did you mean 'module:task'",
    ":task": "--task :task: must be package.module:variable",
    "a:b:c": "--task a:b:c: must be package.module:variable",
    "x..y:z": "--task x..y:z: must be package.module:variable",
    "no_such_module_here:task": "--task no_such_module_here:task: ModuleNotFoundError",
    "os:path": "--task os:path: must be a tune_adaptive.Task, is module",
    "os:no_such": "--task os:no_such: AttributeError: module 'os' has no attribute 'no_such'",
    "fashion_mnist_mini/cnn/x": "--task fashion_mnist_mini/cnn/x: unknown model 'cnn/x'",
}

NOT_APPLICABLE = (
    ("--stem cifar", "fashion_mnist_mini/cnn", "only a published resnet18"),
    ("--stem imagenet", "imdb/lstm", "only a published resnet18"),
    ("--max-length 5", "fashion_mnist_mini/mlp", "only published texts"),
    ("--model-path x", "imdb/lstm", "only bert starts from an encoder"),
    ("--model-path x", "fashion_mnist_mini/resnet18", "only bert starts from an encoder"),
    ("--augment shift", "imdb/bilstm", "only images are augmented"),
    ("--augment standard", "ag_news/bert", "only images are augmented"),
    ("--data-dir nowhere", "fashion_mnist_mini/cnn", "no task reads files"),
)

HEAD = """
import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tune_adaptive import Dataset, Examples, Task


def split(num):
    x = np.random.default_rng(num).normal(size=(num, 4)).astype(np.float32)
    return Examples(x, np.arange(num) % 2)


data = Dataset(split(64), split(20), split(20))


def build(data):
    return nn.Linear(4, 2)


"""
LINE = HEAD.count("\n") + 1


NORMALISED = "Task('own/x', data, lambda d: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)))"


OWN = {
    "one logit and a binary loss": (
        "loss = lambda z, y: binary_cross_entropy_with_logits(z[:, 0], y.float())\n"
        "task = Task('own/x', data, lambda d: nn.Linear(4, 1), loss)",
        r"own/x: its model must return logits of shape \(N, K\) = \(64, 2\), .* is \(64, 1\)",
    ),
    "a model that returns a tuple": (
        "class Two(nn.Linear):\n    def forward(self, x):\n        return super().forward(x), x\n"
        "task = Task('own/x', data, lambda d: Two(4, 2))",
        "own/x: its model must return logits, a tensor of numbers .*, is tuple",
    ),
    "a model that returns classes": (
        "class Classes(nn.Linear):\n    def forward(self, x):\n"
        "        return super().forward(x).argmax(1)\n"
        "task = Task('own/x', data, lambda d: Classes(4, 2))",
        r"own/x: its model must return logits, .*, is int64 of shape \(64,\)",
    ),
    "a model that squeezes a batch of one": (
        "class Squeezed(nn.Linear):\n    def forward(self, x):\n"
        "        return super().forward(x).squeeze()\n"
        "task = Task('own/x', data, lambda d: Squeezed(4, 2))",
        r"own/x: its model must return logits of shape \(N, K\) = \(1, 2\)",
    ),
    "a loss per example": (
        "task = Task('own/x', data, build, nn.CrossEntropyLoss(reduction='none'))",
        r"own/x: its loss must be one number, .* is float32 of shape \(64,\)",
    ),
    "a loss that is no tensor": (
        "task = Task('own/x', data, build, lambda z, y: 1.0)",
        "own/x: its loss must be one number, .* is float",
    ),
    "a loss that is detached": (
        "task = Task('own/x', data, build, lambda z, y: cross_entropy(z, y).detach())",
        "own/x: its loss cannot be differentiated",
    ),
    "a frozen model": (
        "task = Task('own/x', data, lambda d: build(d).requires_grad_(False))",
        "own/x: its model has no parameter to train: all are frozen",
    ),
    "one model for all runs": (
        "model = build(data)\ntask = Task('own/x', data, lambda d: model)",
        "own/x: build must return a fresh model each time",
    ),
    "weights that all models share": (
        "weights = torch.zeros(2, 4)\n\n\ndef shared(data):\n    model = build(data)\n"
        "    model.weight = nn.Parameter(weights)\n    return model\n\n\n"
        "task = Task('own/x', data, shared)",
        "own/x: build must return a fresh model each time",
    ),
    "build returns no model": (
        "task = Task('own/x', data, lambda d: 'model')",
        "own/x: build must return a torch.nn.Module, is str",
    ),
    "build raises": (
        "def broken(data):\n    raise ValueError('no such layer')\n\n\n"
        "task = Task('own/x', data, broken)",
        rf"own/x: its model: (.*/)?MODULE.py:{LINE + 1}: in broken: ValueError: no such layer",
    ),
    "data raise": (
        "def load():\n    return open('nowhere.csv')\n\n\ntask = Task('own/x', load, build)",
        rf"own/x: its data: (.*/)?MODULE.py:{LINE + 1}: in load: FileNotFoundError",
    ),
    "data of another kind": (
        "task = Task('own/x', lambda: [data], build)",
        "own/x: its data must be a Dataset, is list",
    ),
    "the loss raises": (
        "def loss(logits, y):\n    return logits.nope\n\n\ntask = Task('own/x', data, build, loss)",
        rf"own/x: a training batch of 64 examples: (.*/)?MODULE.py:{LINE + 1}: in loss: Attribute",
    ),
    "features of another width": (
        "task = Task('own/x', data, lambda d: nn.Linear(5, 2))",
        "own/x: a training batch of 64 examples: RuntimeError: mat1 and mat2 shapes",
    ),
    "a module with a syntax error": ("def f(:\n", rf".*MODULE.py:{LINE}: SyntaxError"),
    "a module that raises": ("1 / 0\n", rf".*MODULE.py:{LINE}: ZeroDivisionError"),
    "a module that exits": ("raise SystemExit(0)\n", rf".*MODULE.py:{LINE}: SystemExit: 0"),
    "an optimizer there is not": (
        "task = Task('own/x', data, build, optimizer='rmsprop')",
        "--task own/x: optimizer must be one of adam, adamw, sgd, got 'rmsprop'",
    ),
    "a batch size that is a text": (
        "task = Task('own/x', data, build, batch_size='64')",
        r"--task own/x: batch_size must be a whole number in \[1, 2147483647\], got '64'",
    ),
    "a table with an augmentation of its own": (
        "task = Task('own/x', data, build, augment='shift')",
        "own/x: augment = 'shift': images alone, its data are features",
    ),
    "labels one-hot": (
        "hot = Dataset(Examples(data.train.x, np.eye(2)[data.train.y]), *[data.test] * 2)\n"
        "task = Task('own/x', hot, build)",
        "own/x: validation: y is int64 of shape",
    ),
    "labels as texts": (
        "named = Dataset(Examples(data.train.x, data.train.y.astype(str)), *[data.test] * 2)\n"
        "task = Task('own/x', named, build)",
        "own/x: train: ",
    ),
    "a batch of one with batch norm": (
        f"from dataclasses import replace\ntask = replace({NORMALISED}, batch_size=1)",
        "own/x: a training batch of 1 example: ValueError: Expected more than 1 value per channel",
    ),
}
"""Modules of a person's own, and the first line of the message."""

OWN_OPTIONS = (
    ("--augment shift", "--augment shift: only images are augmented"),
    ("--stem cifar", "--stem cifar: only a published resnet18"),
    ("--max-length 3", "--max-length 3: only published texts"),
    ("--data-dir x", "--data-dir x: no task reads files"),
    ("--train-size 65", "--train-size 65: there are 64 training examples"),
    ("--batch-size 65", "--batch-size 65: own/x has 64 training examples"),
)


def written(module: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / f"{module}.py").write_text(HEAD + text)

    return write


def own(number: int, name: str, text: str, message: str, options: str = "", code: int = 2) -> Row:
    module = f"hostile_{number}"  # none is imported twice
    return Row(
        f"own task: {name}",
        f"{PLAN} --epochs 1 --task {module}:task {options}",
        code,
        message.replace("MODULE", module),
        written(module, text),
    )


PLAIN = "task = Task('own/x', data, build)"

ROWS: tuple[Row, ...] = (
    Row("an unknown schedule", "search --schedule stepp --plan", 2, "unknown schedule 'stepp'"),
    *(
        Row(f"{option} {value}", f"search --plan {option} {value}", 2, f"{option} must be {told}")
        for option, cases in NUMBERS.items()
        for value, told in cases
    ),
    *(
        Row(
            f"{option} beyond 64 bits",
            f"search --plan {option} {10**40}",
            2,
            f"{option}: must be a number of at most 64 bits",
        )
        for option in BEYOND
    ),
    *(Row(f"--task {name}", f"{SMALL} --task {name}", 2, told) for name, told in TASKS.items()),
    *(
        Row(f"{option} for {task}", f"search --plan --task {task} {option}", 2, f"{option}: {told}")
        for option, task, told in NOT_APPLICABLE
    ),
    Row(
        "an option for none of several tasks",
        "search --plan --task fashion_mnist_mini/cnn --task imdb/lstm --stem cifar",
        2,
        "--stem cifar: only a published resnet18",
    ),
    Row(
        "all and one schedule", "search --plan --schedule all --schedule step", 2, "--schedule all"
    ),
    Row("a schedule twice", f"{SMALL} --schedule step", 2, "schedule 'step' is given twice"),
    Row("an option twice", f"{SMALL} --epochs 2", 2, "--epochs is given twice"),
    Row("an option twice, once with =", f"{SMALL} --seed 1 --seed=2", 2, "--seed is given twice"),
    Row("a switch and its contrary", f"{SMALL} --ablations --no-ablations", 2, "--ablations is"),
    Row("ablations of no schedule", f"{SMALL} --ablations", 2, "--ablations: only adaptive and"),
    Row(
        "a run's time for no schedule",
        "search --plan --schedule step --run-time-budget 9",
        2,
        "--run-time-budget: only adaptive can plan in time",
    ),
    *(
        Row(f"{option} empty", f"{SMALL} {option}=", 2, f"{option} '': is empty")
        for option in ("--name", "--storage-path", "--model-path", "--address", "--contention")
    ),
    Row(
        "a folder whose name is not UTF-8",
        f"{PLAN} --epochs 1 --task mnist/cnn --data-dir \udcff",
        2,
        "--data-dir .*not UTF-8",
    ),
    Row("a factor of contention", f"{SMALL} --contention 99999x@4%", 2, "--contention .*1000"),
    Row("a duration in other digits", "search --plan --time-budget ٣h", 2, "--time-budget .*8h"),
    Row("more in a batch than there is", f"{SMALL} --batch-size 641", 2, "--batch-size 641: .*640"),
    Row("without the studied schedule", f"{SMALL} --schedule constant", 0, "no verdict"),
    Row(
        "batch norm and batches of one",
        f"{SMALL} --task fashion_mnist_mini/resnet18 --stem imagenet --batch-size 1",
        2,
        "fashion_mnist_mini/resnet18: a training batch of 1 example: ValueError: Expected more",
    ),
    *(own(number, name, *case) for number, (name, case) in enumerate(OWN.items())),
    *(
        own(100 + number, f"with {option}", PLAIN, told, option)
        for number, (option, told) in enumerate(OWN_OPTIONS)
    ),
    own(
        200,
        "the odd example is left out",
        f"task = {NORMALISED}",
        "1 of 64 training examples is left out, alone in its batch",
        "--batch-size 63",
        0,
    ),
    own(201, "--augment none on a table", PLAIN, "estimated", "--augment none", 0),
    own(
        202,
        "a loss that is not a number at first",
        "task = Task('own/x', data, build, lambda z, y: cross_entropy(z, y) * float('nan'))",
        "own/x: its loss on a training batch of 64 is nan: every run would diverge",
    ),
    *(
        Row(f"plot with {options}", f"schedules plot {options}", code, told, given)
        for options, code, told, given in (
            ("step --total-steps 0", 2, r"--total-steps must be in \[1, 1000000\], got 0", nothing),
            ("step --total-steps 99999999999", 2, "--total-steps must be in", nothing),
            ("step --complexity 2", 2, r"--complexity must be in \[0, 1\], got 2", nothing),
            ("step --complexity nan", 2, "--complexity must be in", nothing),
            ("stpe adaptve", 2, "unknown schedule 'stpe'; did you mean 'step'", nothing),
            ("step --out x.docx", 2, "--out x.docx: must end in one of", nothing),
            ("step --out {here}", 2, "--out .*: must end in one of", nothing),
            ("step --out no/x.png", 3, "--out no/x.png: cannot be written: No such", nothing),
            (
                "step --out x.png",
                3,
                "--out x.png: cannot be written: Is a directory",
                lambda folder: (folder / "x.png").mkdir(),
            ),
        )
    ),
    *(
        Row(f"{command} of what is not there", f"{command} nowhere", 2, f"{re.escape('nowhere')}: ")
        for command in ("report", "export", "status", "verify")
    ),
    Row("a report elsewhere", "report nowhere --out x", 2, "--out x: one experiment's report"),
    Row("report into a file", "report {finished} {finished} --out x", 2, ".*given twice"),
    Row(
        "prefetch an encoder for none", "prefetch --task mnist/cnn --model-path x --to y", 2, "--mo"
    ),
    Row("resume with an option", "search --resume nowhere --budget 2", 2, "--budget: decided by"),
)
