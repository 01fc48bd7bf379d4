"""Which packages are here, in which version: for a checkout that was never installed, too."""

import importlib.metadata
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
"""Of a checkout; a wheel has metadata instead."""
UNKNOWN = "unknown"


def is_installed(module: str) -> bool:
    """Whether the top-level ``module`` is a module or package with code in it.

    A mere folder of its name, such as the ``./wandb`` that W&B leaves where it ran, is a
    namespace package to Python: ``find_spec`` finds it, and importing it succeeds.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # ValueError: a stand-in in sys.modules, without a spec
        return False
    return spec is not None and spec.origin is not None


def meets(requirement: str) -> bool:
    """Whether a package is here in a version that ``requirement`` allows; an unknown one counts.

    Args:
        requirement: As pip takes it, of a package that is imported by its own name.
    """
    wanted = Requirement(requirement)
    if not is_installed(wanted.name):
        return False
    found = version(wanted.name)
    return found == UNKNOWN or wanted.specifier.contains(found, prereleases=True)


def version(package: str) -> str:
    """Return the version of a package that this one requires, or of this one.

    Without metadata (a checkout on ``PYTHONPATH``, a package copied beside the others) it is what
    ``pyproject.toml`` or the module's ``__version__`` says, else ``unknown``.
    """
    try:
        if found := importlib.metadata.version(package):
            return found
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without one
        pass
    if package == "tune-adaptive":
        try:
            document = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
            return str(document["project"]["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return UNKNOWN
    try:
        return str(getattr(import_module(package), "__version__", UNKNOWN))
    except Exception:  # whatever a broken package raises
        return UNKNOWN


def has_metadata() -> bool:
    """Whether this package was installed, and not just put on Python's path."""
    try:
        importlib.metadata.distribution("tune-adaptive")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def requirements() -> list[str]:
    """Return what this package requires, as it is written in its metadata or ``pyproject.toml``."""
    try:
        return importlib.metadata.requires("tune-adaptive") or []
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        document = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
        return [str(each) for each in document["project"]["dependencies"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def owners(module: str) -> list[str]:
    """Return the packages that installed the top-level ``module``; none for a person's own file."""
    return sorted(set(importlib.metadata.packages_distributions().get(module, ())))
