"""Optuna's storage in memory, of which samplers hear a bounded number of trials."""

import copy
import heapq
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

NUM_LATEST = 175
NUM_BEST = 25  # as many as TPE ever calls good


class BoundedStorage(InMemoryStorage):
    """Keeps all trials of one study; samplers hear of the latest 175 begun and of the best 25.

    TPE's time for one more trial grows with those it hears of: 3 ms of CPU at 200, 12 ms at
    1,200. It models the 25 best as good, and of the others weighs the oldest least. Values are
    maximised.
    """

    def __init__(self) -> None:
        super().__init__()
        self._best: list[tuple[float, int]] = []  # a heap of (value, -number), the worst first

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set them, and note whether the trial is one of the best."""
        done = super().set_trial_state_values(trial_id, state, values)
        if state is TrialState.COMPLETE and values is not None:
            heapq.heappush(self._best, (values[0], -self.get_trial_number_from_id(trial_id)))
            if len(self._best) > NUM_BEST:
                heapq.heappop(self._best)
        return done

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return what samplers hear of, and what waits, in order of their numbers."""
        waiting = (TrialState.WAITING,)
        if states == waiting:
            return super().get_all_trials(study_id, deepcopy, states)
        trials = self.every_trial(study_id)
        num_begun = len(trials) - len(super().get_all_trials(study_id, False, waiting))
        num_old = max(0, num_begun - NUM_LATEST)
        best = sorted(-number for _, number in self._best if -number < num_old)
        heard = [trials[number] for number in best] + trials[num_old:]
        heard = [trial for trial in heard if states is None or trial.state in states]
        return copy.deepcopy(heard) if deepcopy else heard

    def every_trial(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials there are, in order of their numbers."""
        return super().get_all_trials(study_id, deepcopy=False)
