"""A view that fails disturbs nothing."""

import pytest

from tune_adaptive.records.ledger import Closed, Event
from tune_adaptive.watch.isolated import Isolated


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), BrokenPipeError()])
def test_it_is_told_once_and_hears_no_more(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    heard = []

    def view(event: Event) -> None:
        heard.append(event)
        if len(heard) == 2:
            raise error

    guest = Isolated("the view", view)
    for number in range(5):
        guest(Closed(number, 0.0))
    assert len(heard) == 2
    assert capsys.readouterr().err.count("the view is left out from here on") == 1


def test_an_interruption_is_none_of_its_faults() -> None:
    def view(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Isolated("the view", view)(Closed(0, 0.0))
