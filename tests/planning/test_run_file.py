"""Run files: what is written asks for the same again, and what is wrong is named."""

import json
from pathlib import Path

import pytest

import tune_adaptive
from tests.conftest import run_search
from tune_adaptive import search
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.planning.options import read_request
from tune_adaptive.planning.run_file import read_run_file, write_run_file

GIVEN = {
    "task": ["mnist/cnn", "imdb/lstm"],
    "schedule": "step",
    "time_budget": "2h",
    "gpus_per_trial": {"imdb/lstm": 0.5},
    "results_dir": Path("some where"),
    "clip_norm": 1.5,
    "ablations": None,
}


def test_what_is_written_asks_for_the_same(tmp_path: Path) -> None:
    write_run_file(tmp_path / "run.toml", GIVEN)
    assert read_request(read_run_file(tmp_path / "run.toml")) == read_request(GIVEN)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("seed = 3")
    with pytest.raises(InputError, match=r"--save-config .*is there already"):
        write_run_file(tmp_path / "run.toml", GIVEN)
    assert (tmp_path / "run.toml").read_text() == "seed = 3"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="--save-config"):
        write_run_file(tmp_path / "no" / "run.toml", GIVEN)


def test_a_file_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text("seed = 3")
    monkeypatch.setattr(search, "prepare", None)
    assert run_search("--plan", "--save-config", str(tmp_path / "run.toml")) == 2
    assert run_search("--plan", "--seed", "-1", "--save-config", str(tmp_path / "new.toml")) == 2
    assert not (tmp_path / "new.toml").exists()


def test_a_task_of_the_file_is_needed_again_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "prepare", interrupted)
    monkeypatch.setattr(
        search, "_where_it_ended", lambda context, *_: [*search._options_again(context)]
    )
    run = tmp_path / "run.toml"
    run.write_text('task = "tests.training.test_loop:TASK"\naddress = "auto"\n')
    assert run_search("--config", str(run)) == 4
    told = capsys.readouterr().err
    assert "--task: tests.training.test_loop:TASK: --address: auto" in told


def test_what_is_typed_goes_before_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, saved = tmp_path / "run.toml", tmp_path / "saved.toml"
    run.write_text('epochs = 2\ntrain_size = 320\nseed = 5\nsignals = "steady"\n')
    asked = ["--results-dir", str(tmp_path), "--schedule", "step", "--plan", "--json"]
    asked += ["--config", str(run), "--seed", "6", "--save-config", str(saved)]
    assert run_search(*asked) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["seed"], plan["signals"], plan["schedules"]) == (6, "steady", ["step"])
    assert [task["num_epochs"] for task in plan["tasks"]] == [2]
    again = read_request(read_run_file(saved))
    assert (again.seed, again.num_epochs, again.results_dir) == (6, 2, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "run.toml: unknown option 'epoch'; did you mean 'epochs'"),
        ("epochs = 0\nseed = 2.5", "--seed 2.5: must be a whole number\n--epochs must be in"),
        ("epochs = [", "run.toml: not TOML"),
        ("[task]\nname = 3", "unknown task|--task name=3"),
        ("quiet = true", "unknown option 'quiet'"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        tune_adaptive.search(config=tmp_path / "run.toml", schedule="step", quiet=True)


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search("--config", "no/such.toml") == 2
    assert "no/such.toml: cannot be read" in capsys.readouterr().err
