"""What a sampler hears of a long study, and that nothing is lost of it."""

import random
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from tests.protocol.test_arms import arm, result
from tune_adaptive.protocol.arms import Arms
from tune_adaptive.protocol.storage import NUM_BEST, NUM_LATEST, BoundedStorage


def study(storage: BaseStorage, num_trials: int) -> optuna.Study:
    """A study of which a third is complete, most of the rest pruned, some failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True)
    made = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
    luck = random.Random(0)
    for number in range(num_trials):
        trial = made.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(luck.random(), step=1)
        if number % 3 == 0:
            made.tell(trial, luck.random())
        else:
            made.tell(trial, state=TrialState.FAIL if number % 50 == 1 else TrialState.PRUNED)
    return made


def test_up_to_the_bound_nothing_is_other_than_optuna_has_it() -> None:
    bounded, plain = (study(each, NUM_LATEST) for each in (BoundedStorage(), InMemoryStorage()))
    assert [t.params for t in bounded.trials] == [t.params for t in plain.trials]
    assert bounded.ask().suggest_float("x", 0, 1) == plain.ask().suggest_float("x", 0, 1)


def test_beyond_it_a_sampler_hears_of_the_latest_and_of_the_best() -> None:
    storage = BoundedStorage()
    long = study(storage, 400)
    every = storage.every_trial(long._study_id)
    assert [trial.number for trial in every] == list(range(400))
    complete = [t for t in every if t.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda t: t.value or 0.0, reverse=True)[:NUM_BEST]
    heard = {trial.number for trial in long.trials}
    assert heard == {t.number for t in best} | set(range(400 - NUM_LATEST, 400))
    assert 200 > len(heard) > NUM_LATEST
    assert long.best_trial.number == best[0].number
    pruned = long.get_trials(states=(TrialState.PRUNED,))
    assert {t.state for t in pruned} == {TrialState.PRUNED}


def test_trials_that_wait_push_none_out() -> None:
    storage = BoundedStorage()
    begun = study(storage, 100)
    for _ in range(300):
        begun.enqueue_trial({"x": 0.5})
    assert {trial.number for trial in begun.trials} == set(range(400))
    assert begun.ask().number == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_saved_study_has_every_trial(tmp_path: Path) -> None:
    one = arm(num_epochs=1, budget=230)
    while one.can_start:
        run = one.start()
        one.heard(run, result(1, 1, int(run.id[-4:]) % 7 / 10))
    assert len(one.study.trials) < 230
    Arms([one]).save_studies(tmp_path / "studies.db")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'studies.db'}")
    loaded = optuna.load_study(study_name=one.study.study_name, storage=storage)
    assert [(t.number, t.value) for t in loaded.trials] == [
        (number, number % 7 / 10) for number in range(230)
    ]
    storage.remove_session()
    storage.engine.dispose()
