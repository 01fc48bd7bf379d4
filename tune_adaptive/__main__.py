"""The ``tune-adaptive`` command; ``python -m tune_adaptive`` is the same."""

import runpy
import sys

COMMANDS = ("search", "status", "report", "export", "verify", "doctor", "prefetch", "schedules")


def main() -> None:
    """Run the command named by the first argument."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in COMMANDS:
        print(f"usage: tune-adaptive {{{'|'.join(COMMANDS)}}} [--help]", file=sys.stderr)
        sys.exit(0 if command in ("-h", "--help") else 2)
    sys.argv = [f"tune-adaptive {command}", *sys.argv[2:]]
    module = "tune_adaptive.search" if command == "search" else f"tune_adaptive.commands.{command}"
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
