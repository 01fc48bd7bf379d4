"""Plain Optuna: one process, trial after trial, all cores to torch, the data loaded once."""

import optuna
import torch
from usual import Data, Training, read_work, write_done


def main() -> None:
    """Search."""
    work = read_work()
    torch.set_num_threads(work["slots"])
    data = Data(work)
    done = []

    def objective(trial: optuna.Trial) -> float:
        config = {
            name: trial.suggest_float(name, each["low"], each["high"], log=each["log"])
            for name, each in work["space"].items()
        }
        training = Training(config, data, work)
        for epoch in range(1, work["num_epochs"] + 1):
            metrics = training.epoch()
            trial.report(metrics["val_metric"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        done.append({**metrics, "training_iteration": epoch})
        return metrics["val_metric"]

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.NopPruner(),  # a rung at T would throw full runs away
    )
    for trial in work["trials"]:
        study.enqueue_trial(trial)
    study.optimize(objective, n_trials=len(work["trials"]))
    write_done(work, done)


if __name__ == "__main__":
    main()
