"""Which hyperparameters mattered: Optuna's PED-ANOVA on an arm's full-length trials."""

import warnings

from tune_adaptive.analysis.history import History

MIN_TRIALS = 8


def importances(history: History, task: str, schedule: str) -> dict[str, float]:
    """Return each parameter's share; empty where fewer than 8 trials trained to their end.

    Watanabe, Bansal and Hutter, "PED-ANOVA", IJCAI 2023. A parameter that is there only
    under a condition is left out.
    """
    trials = [run for run in history.of("search", task, schedule) if run.status == "completed"]
    if len(trials) < MIN_TRIALS:
        return {}
    import optuna  # slow, and needed for large searches only
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    space = history.task(task).spaces[schedule]
    direction = history.task(task).metric.direction
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is experimental, and thin where trials are few
            study = optuna.create_study(direction=direction)
            for run in trials:
                study.enqueue_trial(run.spec.configuration.values())
                trial = study.ask()
                space.suggest(trial)
                assert run.last is not None
                study.tell(trial, run.last.val_metric)
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    finally:
        optuna.logging.set_verbosity(before)
