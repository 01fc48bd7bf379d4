"""Whichever way a metric goes, the same experiment ends in the same answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.maker import TASK, Maker, honest
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.records import ledger
from tune_adaptive.records.metric import Metric
from tune_adaptive.report.write import write_report

ERROR = Metric("error", greater_is_better=False, margin=0.002)


class Mirrored(Maker):
    """The experiment with the share that is wrong in place of the share that is right."""

    metric = ERROR

    def plan(self):  # type: ignore[no-untyped-def]
        plan = super().plan()
        [task] = plan.tasks
        return replace(
            plan, tasks=(replace(task, metric=self.metric, chance=1 - task.of_guessing),)
        )

    def rows(self) -> list[ledger.Event]:
        return [self.mirrored(event) for event in super().rows()]

    def mirrored(self, event: ledger.Event) -> ledger.Event:
        if isinstance(event, ledger.Selected):
            return replace(event, val_metric=1 - event.val_metric)
        if not isinstance(event, ledger.EpochDone):
            return event
        result, test = event.result, event.result.test_metric
        result = replace(
            result,
            val_metric=1 - result.val_metric,
            test_metric=None if test is None else 1 - test,
        )
        return replace(event, result=result)


@pytest.fixture
def both(tmp_path: Path) -> tuple[Analysis, Analysis]:
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    maker = honest(tmp_path / "right")
    maker.run("final-adaptive-8", "adaptive", [], 200_008, status="diverged")
    wrong = Mirrored(tmp_path / "wrong", **maker.plan_fields)
    wrong.events = maker.events
    return maker.analysis(), wrong.analysis()


def test_the_verdict_is_the_same_and_its_difference_is_mirrored(
    both: tuple[Analysis, Analysis],
) -> None:
    right, wrong = (each.verdicts[TASK] for each in both)
    assert right.word == wrong.word == "better"
    assert right.margin == pytest.approx(wrong.margin)
    [ours], [theirs] = (each.comparisons[TASK] for each in both)
    assert ours.difference.mean == pytest.approx(-theirs.difference.mean)
    assert ours.superiority is not None and theirs.superiority is not None
    assert ours.superiority.mean == pytest.approx(theirs.superiority.mean)
    assert "adaptive minus step -3.00 points" in wrong.sentence


def test_audit_targets_and_costs_are_the_same(both: tuple[Analysis, Analysis]) -> None:
    right, wrong = both
    assert [check.ok for check in right.checks] == [check.ok for check in wrong.checks]
    assert right.history.baseline_of_record(TASK) == wrong.history.baseline_of_record(TASK)
    assert right.target_error(TASK) == pytest.approx(wrong.target_error(TASK))
    for ours, theirs in zip(right.arms, wrong.arms, strict=True):
        assert ours.to_target["primary"].hit_epochs == theirs.to_target["primary"].hit_epochs
    for ours, theirs in zip(right.cost_curves[TASK], wrong.cost_curves[TASK], strict=True):
        assert ours.metric == pytest.approx([1 - value for value in theirs.metric])
        assert ours.low == pytest.approx([1 - value for value in theirs.low])
    [ours], [theirs] = (each.runs_needed[TASK] for each in both)
    assert (ours.runs, ours.low, ours.high) == (theirs.runs, theirs.low, theirs.high)


def test_the_report_speaks_of_the_metric(both: tuple[Analysis, Analysis]) -> None:
    _, wrong = both
    write_report(wrong)
    text = (wrong.folder / "report.md").read_text(encoding="utf-8")
    assert "| test error [%] |" in text
    assert "P(adaptive &lt; it)" in text
    assert "accuracy" not in text


def test_a_metric_without_a_best_value_has_no_targets(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.plan_fields["tasks"] = (
        replace(
            maker.plan().tasks[0],
            metric=Metric("reward", high=float("inf"), unit="coins", margin=0.0),
        ),
    )
    analysis = maker.analysis()
    assert analysis.target_error(TASK) is None
    assert "adaptive minus step +0.03000 coins" in analysis.verdicts[TASK].sentence
    write_report(analysis)
    assert "Epochs and seconds to a target" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_a_value_that_the_metric_cannot_have_breaks_the_audit(tmp_path: Path, value: float) -> None:
    maker = honest(tmp_path)
    at = next(i for i, e in enumerate(maker.events) if isinstance(e, ledger.EpochDone))
    event = maker.events[at]
    assert isinstance(event, ledger.EpochDone)
    maker.events[at] = replace(event, result=replace(event.result, val_metric=value))
    [damage] = [each for each in maker.analysis().history.damage if "accuracy" in each]
    assert f"validation accuracy {value}: must be a finite number in [0, 1]" in damage
