"""Is the rule the right one? Untuned AdaptiveLR against untuned linear and tuned StepLR.

    python benchmarks/rule.py

On the embedded task: ``adaptive`` and ``linear`` with their defaults from three base
learning rates, and ``step`` tuned by 16 full runs (random samples of its search space, the
best by validation accuracy), each on the same fresh seeds. One run costs one run; the tuned
StepLR cost 16. Signals are steady, so only numerics of the machine can move the figures.
"""

import optuna
import torch

from tune_adaptive.analysis.stats import mean_interval
from tune_adaptive.planning.arm_spaces import builder_defaults
from tune_adaptive.records.runs import RECIPE_NAMES, Configuration, Recipe, RunSpec
from tune_adaptive.records.space_files import default_space_dir, load_space
from tune_adaptive.tasks import make_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material, train

TASK = "fashion_mnist_mini/cnn"
NUM_EPOCHS = 8
NUM_TRIALS = 16
SEARCH_SEED = 0
FINAL_SEEDS = range(200_000, 200_005)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    task = make_task(TASK)
    data = task.load()
    material = Material(
        task, data.describe(), Split.of(data.train, cpu), Split.of(data.validation, cpu)
    )
    test = Split.of(data.test, cpu)
    precision = calibrate(material, "auto", by_clock=False).precision

    def accuracies(configuration: Configuration, seed: int) -> tuple[float, float]:
        """Train once; return the validation and the test accuracy."""
        run = RunSpec("", "final", TASK, configuration, seed, NUM_EPOCHS, precision, "steady")
        *_, last = train(run, material, lambda: test)
        return last.val_metric, last.test_metric or 0.0

    def row(name: str, configuration: Configuration, num_tuning_runs: int) -> None:
        tests = [accuracies(configuration, seed)[1] for seed in FINAL_SEEDS]
        mean = mean_interval(tests)
        low, high = 100 * (mean.low or 0), 100 * (mean.high or 0)
        print(
            f"| {name} | {configuration.recipe.lr:.2g} | {num_tuning_runs} "
            f"| {100 * mean.mean:.2f} [{low:.2f}, {high:.2f}] | {mean.n} |",
            flush=True,
        )

    print("| schedule | base lr | runs to tune | test accuracy [%], 95% interval | n |")
    print("|---|---|---|---|---|")
    for lr in (1e-4, 1e-3, 1e-2):
        for schedule in ("adaptive", "linear"):
            row(f"{schedule}, untuned", Configuration(schedule, Recipe(lr=lr)), 0)

    space = load_space(
        default_space_dir(),
        "step",
        TASK,
        common_defaults={name: getattr(Recipe(), name) for name in RECIPE_NAMES},
        schedule_defaults=builder_defaults("step"),
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEARCH_SEED))
    tried = []
    for index in range(NUM_TRIALS):
        configuration = Configuration.from_values("step", space.suggest(study.ask()))
        tried.append((accuracies(configuration, SEARCH_SEED + index)[0], index, configuration))
    best = max(tried)[2]
    row(f"step, best of {NUM_TRIALS}", best, NUM_TRIALS)


if __name__ == "__main__":
    main()
