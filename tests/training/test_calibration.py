"""How long an epoch takes, and in which precision."""

import pytest

from tests.training.test_loop import material
from tune_adaptive.training.calibration import Calibration, calibrate
from tune_adaptive.training.loop import Material

__all__ = ["material"]  # a fixture


def test_calibration_keeps_what_was_asked_for(material: Material) -> None:
    assert calibrate(material, "fp32").precision == "fp32"
    assert calibrate(material, "bf16").precision == "bf16"
    assert calibrate(material, "auto").epoch_s > 0


def test_auto_is_fp32_where_the_hardware_has_no_bf16(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_adaptive.training.calibration._has_bf16", lambda device: False)
    found = calibrate(material, "auto")
    assert isinstance(found, Calibration)
    assert found.precision == "fp32"
