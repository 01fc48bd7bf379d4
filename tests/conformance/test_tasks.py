"""Every task there is, on a small folder in the layout of its published data."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tasks.published import publish, save_encoder
from tune_adaptive.records.runs import Configuration, Recipe, RunSpec
from tune_adaptive.tasks import (
    DATASETS,
    MODELS,
    TASKS,
    Description,
    Task,
    TaskOptions,
    make_task,
    make_tasks,
)
from tune_adaptive.tasks.data import Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.loop import Material, train
from tune_adaptive.training.preflight import sample, try_out

CPU = torch.device("cpu")
GPU = torch.device("cuda")
TEXT_MODELS = [name for name, model in MODELS.items() if model.kind == "text"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TaskOptions:
    folder = tmp_path_factory.mktemp("published")
    for name, source in DATASETS.items():
        if source.hub is not None:
            publish(folder, name)
    encoder = save_encoder(folder / "encoder")
    return TaskOptions(
        data_dir=folder, model_path=str(encoder), train_size=24, max_length=16, batch_size=8
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def prepared(name: str, options: TaskOptions, device: torch.device = CPU) -> tuple[Task, Material]:
    [task, _] = make_tasks([name, "imdb/bert"], options)
    data = task.load()
    few = Examples(*(array[:40] for array in data.validation.arrays))
    splits = (Split.of(split, device) for split in (data.train, few))
    return task, Material(task, data.describe(), *splits)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_and_repeats_itself(name: str, options: TaskOptions) -> None:
    _, material = prepared(name, options)
    configuration = Configuration("adaptive", Recipe())
    run = RunSpec("r", "final", name, configuration, 3, num_epochs=1, signals="steady")
    [first], [again] = (list(train(run, material, lambda: material.validation)) for _ in range(2))
    assert first.num_steps == 3
    assert first.epoch_equivalents == 1.0
    assert not first.diverged
    for metric in ("train_loss", "val_loss", "val_metric", "test_metric", "lrs"):
        assert getattr(first, metric) == getattr(again, metric)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_can_be_tried_out(name: str, options: TaskOptions) -> None:
    task, material = prepared(name, options)
    first = sample(task.load(), task.batch_size)
    for num_train in (24, 25):  # the second with a last batch of one
        tried = try_out(
            *(task, material.description, *first),
            num_train=num_train,
            precision="fp32",
            on_gpu=False,
        )
        assert tried is None


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TASKS)
def test_an_epoch_never_waits_for_the_gpu(
    name: str, precision: str, options: TaskOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first batch's draw until its last loss is read, an epoch synchronises nothing."""
    randperm, stack = torch.randperm, torch.stack

    def start(*args: object, **kwargs: object) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("error")
        return randperm(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

    def end(tensors: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
        if tensors[0].ndim == 0:  # the losses
            torch.cuda.set_sync_debug_mode("default")
        return stack(tensors, dim)

    monkeypatch.setattr(torch, "randperm", start)
    monkeypatch.setattr(torch, "stack", end)
    _, material = prepared(name, options, GPU)
    run = RunSpec("r", "final", name, Configuration("step"), 0, num_epochs=1, precision=precision)
    try:
        [epoch] = train(run, material)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert epoch.num_steps == 5
    assert math.isfinite(epoch.train_loss)


@pytest.mark.parametrize("name", TASKS)
def test_a_model_is_drawn_from_the_seed_and_learns_with_all_its_weights(
    name: str, options: TaskOptions
) -> None:
    task, material = prepared(name, options)

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return task.build(material.description)

    model, same, other = build(0), build(0), build(1)
    pairs = zip(model.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert not all(torch.equal(ours, theirs) for ours, theirs in pairs)
    x = material.train.x[:6]
    inputs = (x, material.train.lengths[:6]) if material.train.lengths is not None else (x.float(),)
    logits = model(*inputs)
    assert logits.shape == (6, DATASETS[name.split("/")[0]].num_classes)
    task.loss(logits, material.train.y[:6]).backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("model_name", TEXT_MODELS)
def test_padding_reaches_no_logit(model_name: str, options: TaskOptions) -> None:
    """A text alone and in a batch of longer ones, whatever stands in the padding."""
    task, material = prepared(f"ag_news/{model_name}", options)
    torch.manual_seed(0)
    model = task.build(material.description).eval()
    tokens, lengths = material.train.x, material.train.lengths
    assert lengths is not None and material.train.widths is not None
    assert material.train.widths.min() < material.train.widths.max()
    with torch.inference_mode():
        together = model(tokens, lengths)
        noise = torch.where(torch.arange(tokens.shape[1]) < lengths[:, None], tokens, 5)
        assert torch.allclose(model(noise, lengths), together, atol=1e-6)
        for row, length in enumerate(material.train.widths):
            alone = model(tokens[row : row + 1, :length], lengths[row : row + 1])
            assert torch.allclose(alone[0], together[row], atol=1e-5)


@pytest.mark.parametrize("model_name", TEXT_MODELS)
def test_every_token_reaches_the_logits(model_name: str, options: TaskOptions) -> None:
    task, material = prepared(f"ag_news/{model_name}", options)
    torch.manual_seed(0)
    model = task.build(material.description).eval()
    assert material.train.widths is not None
    row = int(np.argmax(material.train.widths))
    length = int(material.train.widths[row])
    with torch.inference_mode():
        tokens = material.train.x[row : row + 1, :length].clone()
        before = model(tokens, torch.tensor([length]))
        for place in range(length):
            changed = tokens.clone()
            changed[0, place] = (tokens[0, place] + 1) % material.description.vocab_size
            assert not torch.equal(model(changed, torch.tensor([length])), before)


def test_the_backward_layer_reads_from_the_last_token_to_the_first() -> None:
    from tune_adaptive.tasks.text import RecurrentClassifier

    torch.manual_seed(0)
    model = RecurrentClassifier(50, 3, bidirectional=True).eval()
    reference = nn.LSTM(128, 128, batch_first=True, bidirectional=True)
    state = {
        **{f"{k}": v for k, v in model.forwards.state_dict().items()},
        **{f"{k}_reverse": v for k, v in model.backwards.state_dict().items()},  # type: ignore[union-attr]
    }
    reference.load_state_dict(state)
    tokens, lengths = torch.randint(0, 50, (4, 9)), torch.tensor([9, 1, 4, 6])
    packed = nn.utils.rnn.pack_padded_sequence(
        model.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
    )
    _, (last, _) = reference(packed)
    expected = model.head(torch.cat([last[0], last[1]], dim=1))
    assert torch.allclose(model(tokens, lengths), expected, atol=1e-6)


@pytest.mark.parametrize(("stem", "kernel", "size"), [("cifar", 3, 32), ("imagenet", 7, 8)])
def test_the_stem_is_what_was_asked_for(stem: str, kernel: int, size: int) -> None:
    from tune_adaptive.tasks import vision

    data = Description("image", 10, (32, 32, 3), complexity=None)  # type: ignore[arg-type]
    model = vision.resnet18(data, stem=stem)  # type: ignore[arg-type]
    assert model.conv1.kernel_size == (kernel, kernel)
    features = model.maxpool(model.relu(model.bn1(model.conv1(torch.zeros(1, 3, 32, 32)))))
    assert features.shape[2] == size
    task = make_task("cifar10/resnet18", TaskOptions(stem=stem))  # type: ignore[arg-type]
    assert task.notes["stem"] == stem
