"""A usual Ray Tune script: a function trainable that loads its data, OptunaSearch and ASHA."""

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from usual import Data, Training, read_work, write_done


def train(config: dict[str, float], work: dict) -> None:
    """Train one trial to its end."""
    training = Training(config, Data(work), work)
    for _ in range(work["num_epochs"]):
        tune.report(training.epoch())


def main() -> None:
    """Search."""
    work = read_work()
    ray.init(address="local", num_cpus=work["slots"], include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, work=work), {"cpu": 1}),
        param_space={
            name: (tune.loguniform if each["log"] else tune.uniform)(each["low"], each["high"])
            for name, each in work["space"].items()
        },
        tune_config=tune.TuneConfig(
            metric="val_metric",
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=work["trials"], seed=0),
            scheduler=ASHAScheduler(max_t=work["num_epochs"], grace_period=work["num_epochs"]),
            num_samples=len(work["trials"]),
            max_concurrent_trials=work["slots"],
        ),
        run_config=tune.RunConfig(name="usual", storage_path=work["folder"], verbose=0),
    )
    grid = tuner.fit()
    write_done(work, [result.metrics for result in grid])


if __name__ == "__main__":
    main()
