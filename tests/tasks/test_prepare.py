"""From files to arrays: sources, formats, bad files, the cache, prefetching."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.published import png, publish, save_encoder, write_parquet
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.system.console import run_command
from tune_adaptive.tasks import DATASETS, TaskOptions, make_task, make_tasks, prepare
from tune_adaptive.tasks.data import Dataset
from tune_adaptive.tasks.pretrained import find_checkpoint
from tune_adaptive.tasks.tokens import Words


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tune_adaptive" / "prepared"


def load(task: str, data_dir: Path, **options: int) -> Dataset:
    return make_task(task, TaskOptions(data_dir=data_dir, **options)).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].hub])
def test_every_data_set_is_read_in_the_hubs_own_columns(name: str, tmp_path: Path) -> None:
    publish(tmp_path, name)
    model = "mlp" if DATASETS[name].shape else "lstm"
    data = load(f"{name}/{model}", tmp_path)
    assert [len(split) for split in data.splits.values()] == [90, 10, 40]
    assert data.describe().num_classes == DATASETS[name].num_classes
    if shape := DATASETS[name].shape:
        assert data.train.x.shape[1:] == shape
        # The class was written into the pixels.
        assert (data.test.x.reshape(40, -1).min(axis=1) // 20 == data.test.y).all()
    else:
        assert data.train.x.dtype == np.int32
        assert data.vocab_size > 4


def test_texts_are_read_from_csv_and_json_lines_alike(tmp_path: Path) -> None:
    publish(tmp_path / "a", "imdb")
    arrays = load("imdb/lstm", tmp_path / "a").sha256()
    import pyarrow.parquet as pq

    for form in ("csv", "jsonl"):
        folder = tmp_path / form / "imdb"
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            table = pq.read_table(tmp_path / "a" / "imdb" / f"{split}-00000-of-00001.parquet")
            frame = table.to_pandas()
            if form == "csv":
                frame.to_csv(folder / f"{split}.csv", index=False)
            else:
                frame.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
        assert load("imdb/lstm", tmp_path / form).sha256() == arrays


def test_images_are_read_from_a_folder_per_class(tmp_path: Path) -> None:
    for split, num in (("train", 4), ("test", 2)):
        for label in range(10):
            folder = tmp_path / "mnist" / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(num):
                (folder / f"{index}.png").write_bytes(
                    png(np.full((28, 28), 10 * label + index, np.uint8))
                )
    data = load("mnist/mlp", tmp_path)
    assert [len(split) for split in data.splits.values()] == [36, 4, 20]
    assert (data.train.x[:, 0, 0, 0] // 10 == data.train.y).all()


def test_a_validation_split_of_its_own_is_used(tmp_path: Path) -> None:
    folder = publish(tmp_path, "imdb")
    shutil.copy(
        folder / "test-00000-of-00001.parquet", folder / "validation-00000-of-00001.parquet"
    )
    data = load("imdb/lstm", tmp_path)
    assert len(data.validation) == 40
    assert (data.validation.x == data.test.x).all()


def test_the_vocabulary_is_of_the_training_split_alone(tmp_path: Path) -> None:
    folder = publish(tmp_path, "imdb")
    texts = ["unheard words here"] * 20 + ["the good"] * 20
    write_parquet(
        folder / "test-00000-of-00001.parquet", {"text": texts, "label": [0] * 20 + [1] * 20}
    )
    data = load("imdb/lstm", tmp_path)
    assert (data.test.x[:20, :3] == 1).all(), "unknown"
    assert (data.test.x[20:, :2] > 1).all()


def test_words_are_lower_cased_frequent_ones_and_cut_at_the_length() -> None:
    tokenizer = Words(max_length=3, min_frequency=2).fit(["The film, the film", "rare"])
    assert tokenizer.vocab_size == 4, "padding, unknown, the, film"
    [ids, unknown] = tokenizer.encode(["FILM the film the", "rare ,"])
    assert ids[0] == ids[2] != ids[1]
    assert len(ids) == 3
    assert unknown == [1, 1]


# ------------------------------------------------------------------------- bad files

Spoil = Callable[[Path], object]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(**changes: object) -> Spoil:
    def spoil(path: Path) -> None:
        import pyarrow.parquet as pq

        columns = pq.read_table(path).to_pydict()
        for name, change in changes.items():
            columns[name] = change(columns[name])  # type: ignore[operator]
        write_parquet(path, columns)

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("mnist", truncate, "cannot be read, truncated perhaps"),
        ("mnist", lambda path: path.unlink(), r"no train-\*\.parquet there, nor a folder train/"),
        ("imdb", lambda path: path.unlink(), r"no train-\*\.parquet there, nor train-\*\.csv"),
        ("imdb", truncate, "cannot be read, truncated perhaps"),
        (
            "imdb",
            lambda path: write_parquet(path, {"review": ["x"], "label": [0]}),
            r"needs the columns text and label, has \['review', 'label'\]",
        ),
        (
            "mnist",
            lambda path: write_parquet(path, {"picture": ["x"], "label": [0]}),
            r"needs the columns image \(or img\) and label",
        ),
        (
            "imdb",
            rewrite(label=lambda old: [*old[:-1], 2]),
            r"row 99: label 2; must be an integer in \[0, 1\]",
        ),
        ("imdb", rewrite(text=lambda old: [*old[:7], "  ", *old[8:]]), "row 7: the text is empty"),
        (
            "imdb",
            lambda path: write_parquet(path, {"text": np.array([], str), "label": [0][:0]}),
            "train: is empty",
        ),
        ("ag_news", rewrite(label=lambda old: [min(each, 2) for each in old]), "of class 3"),
        (
            "mnist",
            rewrite(
                image=lambda old: [*old[:3], {"bytes": png(np.zeros((8, 9), np.uint8))}, *old[4:]]
            ),
            "row 3: an image of 8 x 9; must be 28 x 28 x 1",
        ),
        (
            "mnist",
            rewrite(image=lambda old: [{"bytes": b"no image"}, *old[1:]]),
            "row 0: not an image",
        ),
        (
            "mnist",
            rewrite(image=lambda old: [{"bytes": None}, *old[1:]]),
            "row 0: no image bytes",
        ),
    ],
)
def test_bad_files_are_told_and_leave_nothing(
    name: str, spoil: Spoil, message: str, tmp_path: Path, cache: Path
) -> None:
    spoil(publish(tmp_path, name) / "train-00000-of-00001.parquet")
    model = "mlp" if DATASETS[name].shape else "lstm"
    with pytest.raises(InputError, match=message):
        load(f"{name}/{model}", tmp_path)
    assert not cache.exists() or {path.suffix for path in cache.iterdir()} <= {".lock"}


def test_a_folder_that_was_named_must_have_the_data(tmp_path: Path) -> None:
    publish(tmp_path, "imdb")
    with pytest.raises(InputError, match="has no folder mnist; there is imdb"):
        load("mnist/cnn", tmp_path)


# ------------------------------------------------------------------------- the cache


def test_what_was_prepared_is_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "mnist")
    first = load("mnist/mlp", tmp_path)
    monkeypatch.setattr(prepare, "read_files", None)
    assert load("mnist/mlp", tmp_path).sha256() == first.sha256()
    assert len(list(cache.glob("*.npz"))) == 1


def test_a_cache_without_locks_or_room_is_done_without(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int = 0) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    publish(tmp_path, "mnist")
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        first = load("mnist/mlp", tmp_path)
        assert list(cache.glob("*.npz")) == []
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)  # the disk is full
        assert load("mnist/mlp", tmp_path).sha256() == first.sha256()
        assert {path.suffix for path in cache.iterdir()} <= {".lock"}
    assert load("mnist/mlp", tmp_path).sha256() == first.sha256()
    assert len(list(cache.glob("*.npz"))) == 1


def test_other_files_or_options_are_prepared_anew(tmp_path: Path, cache: Path) -> None:
    folder = publish(tmp_path, "imdb")
    seen = {load("imdb/lstm", tmp_path).sha256()}
    seen.add(load("imdb/lstm", tmp_path, max_length=3).sha256())
    seen.add(load("imdb/lstm", tmp_path, train_size=20).sha256())
    rewrite(text=lambda old: [f"changed {text}" for text in old])(
        folder / "train-00000-of-00001.parquet"
    )
    seen.add(load("imdb/lstm", tmp_path).sha256())
    assert len(seen) == len(list(cache.glob("*.npz"))) == 4


def test_a_killed_preparation_or_a_damaged_entry_is_made_again(tmp_path: Path, cache: Path) -> None:
    publish(tmp_path, "mnist")
    whole = load("mnist/mlp", tmp_path)
    [entry] = cache.glob("*.npz")
    size = entry.stat().st_size
    for keep in (0, 10, size // 2, size - 1):
        os.truncate(entry, keep)
        assert prepare.load_arrays(entry) is None
        entry.with_suffix(".partial").write_bytes(b"left by a kill")
        assert load("mnist/mlp", tmp_path).sha256() == whole.sha256()
        assert entry.stat().st_size == size
    content = bytearray(entry.read_bytes())
    content[size // 2] ^= 1
    entry.write_bytes(content)
    assert load("mnist/mlp", tmp_path).sha256() == whole.sha256()


def test_without_a_cache_it_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    publish(tmp_path, "mnist")
    assert len(load("mnist/mlp", tmp_path).train) == 90


# ------------------------------------------------------------------- the hub, and without


def hub_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_hubs_cache_is_read_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = DATASETS["ag_news"].hub
    assert hub is not None
    hub_cache(monkeypatch, tmp_path / "hub")
    snapshot = tmp_path / "hub" / "datasets--fancyzhx--ag_news" / "snapshots" / hub.revision
    publish(tmp_path / "made", "ag_news")
    shutil.copytree(tmp_path / "made" / "ag_news", snapshot / hub.folder)
    task = make_task("ag_news/lstm")
    assert task.notes["data"] == f"hub: fancyzhx/ag_news@{hub.revision}"
    assert len(task.load().train) == 90
    snapshot.rename(snapshot.with_name("0" * 40))
    with pytest.raises(EnvironmentFault):
        make_task("ag_news/lstm").load()


def test_without_network_and_cache_it_says_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache(monkeypatch, tmp_path)
    with pytest.raises(EnvironmentFault) as told:
        make_task("mnist/cnn").load()
    for part in (
        "ylecun/mnist",
        str(tmp_path),
        "tune_adaptive prefetch --task mnist",
        "--data-dir",
    ):
        assert part in str(told.value)
    with pytest.raises(EnvironmentFault, match=r"google-bert/bert-base-uncased.*not in the local"):
        make_task("imdb/bert")


def test_a_cached_download_that_broke_off_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = DATASETS["mnist"].hub
    assert hub is not None
    hub_cache(monkeypatch, tmp_path / "hub")
    snapshot = tmp_path / "hub" / "datasets--ylecun--mnist" / "snapshots" / hub.revision
    made = publish(tmp_path / "made", "mnist")
    shutil.copytree(made, snapshot / hub.folder)
    test = snapshot / hub.folder / "test-00000-of-00001.parquet"
    test.unlink()
    with pytest.raises(EnvironmentFault, match="only in part in the local hub cache"):
        make_task("mnist/cnn").load()

    def download(*args: object, local_files_only: bool, **kwargs: object) -> str:
        if not local_files_only:
            shutil.copy(made / test.name, test)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert len(make_task("mnist/cnn").load().test) == 40


def test_a_split_that_was_cut_into_files_must_have_all_of_them(tmp_path: Path) -> None:
    folder = publish(tmp_path, "imdb")
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00001-of-00003.parquet")
    with pytest.raises(InputError) as told:
        load("imdb/lstm", tmp_path)
    assert str(told.value).splitlines() == [
        f"{folder}: no train-0000{index}-of-00003.parquet there" for index in (0, 2)
    ]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("*.safetensors", r"has no weights \(\*\.safetensors\)"),
        ("config.json", "has no config.json"),
        ("tokenizer.json", r"has no tokenizer \(tokenizer\.json or vocab\.txt\)"),
    ],
)
def test_a_model_path_that_lacks_a_part(missing: str, message: str, tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "encoder")
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(InputError, match=message):
        find_checkpoint(str(folder))


def test_large_weights_must_have_all_their_files(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "encoder")
    weights = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(InputError, match=r"has no model-00002-of-00002\.safetensors"):
        find_checkpoint(str(folder))


def test_a_tokenizer_must_not_know_more_tokens_than_its_encoder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = save_encoder(tmp_path / "encoder")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["brand-new"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="its tokenizer has 17 tokens, its embedding 16"):
        make_task("imdb/bert", TaskOptions(model_path=str(folder), max_length=16))


def test_a_model_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        find_checkpoint(str(tmp_path / "nowhere"))


def test_broken_weights_and_models_that_do_not_classify(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    options = TaskOptions(model_path=str(folder))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(InputError, match="no sequence classifier for 'vit'"):
        make_task("imdb/bert", options)
    (folder / "config.json").write_text(json.dumps(config))
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(InputError, match="cannot be read"):
        make_task("imdb/bert", options)


def test_what_was_prefetched_is_searched_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tune_adaptive.commands.prefetch import main

    hub_cache(monkeypatch, tmp_path / "empty")
    for name in ("imdb", "mnist"):
        publish(tmp_path / "data", name)
    save_encoder(tmp_path / "encoder")
    out = tmp_path / "out"
    arguments = ["--task", "imdb/bert", "--task", "mnist/cnn", "--task", "fashion_mnist_mini/cnn"]
    arguments += ["--data-dir", str(tmp_path / "data"), "--model-path", str(tmp_path / "encoder")]
    monkeypatch.setattr("sys.argv", ["prefetch", *arguments, "--to", str(out)])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert not end.value.code
    printed = capsys.readouterr().out
    assert f"--model-path {out / 'encoder'}" in printed
    assert f"--data-dir {out}" in printed
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "encoder")
    options = TaskOptions(data_dir=out, model_path=str(out / "encoder"), max_length=8)
    texts, images = make_tasks(["imdb/bert", "mnist/cnn"], options)
    assert texts.load().train.x.shape == (90, 8)
    assert len(images.load().train) == 90
