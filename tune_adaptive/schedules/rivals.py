"""Two rivals that change the optimizer instead of the schedule: the extra ``[rivals]``.

Their optimizers stand in ``optimizers.RIVALS``.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.schedules.baselines import constant, cosine
from tune_adaptive.schedules.horizon import Horizon


def schedule_free(optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
    """Hold the base learning rate; the averaging in AdamWScheduleFree replaces annealing.

    Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
    """
    return constant(optimizer, horizon)


def prodigy(
    optimizer: Optimizer, horizon: Horizon, *, d_coef: float = 1.0, final_ratio: float = 0.0
) -> LRScheduler:
    """Cosine on Prodigy, which estimates the learning rate itself; the recipe's is not used.

    Mishchenko and Defazio, "Prodigy", ICML 2024.

    Args:
        optimizer: A Prodigy with ``lr`` 1.
        horizon: The run it plans for.
        d_coef: Factor on its estimate, > 0; its authors' preferred knob.
        final_ratio: lr(T) / lr(0), in [0, 1].
    """
    for group in optimizer.param_groups:
        group["d_coef"] = d_coef
    return cosine(optimizer, horizon, final_ratio=final_ratio)
