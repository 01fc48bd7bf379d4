"""A Ray Tune script by someone who knows it: a class Trainable, reused; data stay loaded."""

from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from usual import Data, Training, read_work, write_done


class Trial(tune.Trainable):
    """Trains one epoch a step."""

    def setup(self, config: dict[str, float], work: dict[str, Any]) -> None:
        """Load the data once a process."""
        self.work, self.data = work, Data(work)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, float]) -> bool:
        """Begin another trial in this process."""
        self.training = Training(new_config, self.data, self.work)
        return True

    def step(self) -> dict[str, float]:
        """Train one epoch."""
        return self.training.epoch()


def main() -> None:
    """Search."""
    work = read_work()
    ray.init(address="local", num_cpus=work["slots"], include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(Trial, work=work), {"cpu": 1}),
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
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="usual",
            storage_path=work["folder"],
            verbose=0,
            stop={"training_iteration": work["num_epochs"]},
        ),
    )
    grid = tuner.fit()
    write_done(work, [result.metrics for result in grid])


if __name__ == "__main__":
    main()
