"""Rows of the table of hostile inputs: signals."""

from tests.hostile.row import Row

ALL = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"),
    *("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU"),
)
TINY = (
    "search --results-dir {here} --name cut --schedule step --train-size 320 --epochs 1 --budget 1 "
    "--final-seeds 1 --precision fp32 --signals steady --max-concurrent 1"
)

QUICK = {
    "while data are read": (TINY, "tune_adaptive.planning.prepare.share_out"),
    "while it is calibrated": (f"{TINY} --plan", "tune_adaptive.planning.prepare.measure_task"),
    "while the plan is printed": (f"{TINY} --plan", "tune_adaptive.watch.plan_summary.promised"),
}
"""Before the plan is written: nothing was begun."""

AT_A_STAGE = {
    "as the search begins": "tune_adaptive.protocol.run.execute",
    "in the search": "tune_adaptive.protocol.stages.Stages.heard",
    "in the selection": "tune_adaptive.protocol.stages._rerun",
    "in the final stage": "tune_adaptive.protocol.stages._canary",
}
"""After the plan is written: it can be resumed."""

REPORTS = {
    "while the report is written again": (
        "report {finished}",
        "tune_adaptive.commands.report.write_report",
    ),
    "while schedules are exported": (
        "export {finished}",
        "tune_adaptive.report.export.write_whole",
    ),
    "while the status is read": ("status {finished}", "tune_adaptive.records.ledger.read"),
    "while the ledger is read": ("report {finished}", "tune_adaptive.records.ledger.read"),
}

ROWS: tuple[Row, ...] = (
    *(
        Row(f"{signal} {when}", command, 4, "interrupted: nothing was begun$", **sent)
        for signal in ALL
        for when, (command, during) in QUICK.items()
        for sent in [{"signal": signal, "during": during}]
    ),
    *(
        Row(f"{signal} {when}", command, 4, "interrupted$", signal=signal, during=during)
        for signal in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
        for when, (command, during) in REPORTS.items()
    ),
    *(
        Row(f"{signal} once the folder is there", TINY, 4, "interrupted$", **sent)
        for signal in ALL
        for sent in [{"signal": signal, "during": "tune_adaptive.protocol.run._run"}]
    ),
    *(
        Row(f"{signal} {when}", TINY, 4, "interrupted$", slow=True, signal=signal, during=during)
        for other, (when, during) in zip(ALL, AT_A_STAGE.items(), strict=False)
        for signal in (other, "SIGUSR1")  # of each stage two: they take seconds
    ),
    *(
        Row(
            f"{signal} while the report is written",
            *(TINY, 4, "interrupted: the search is finished; its report may be incomplete$"),
            **{"slow": True, "signal": signal, "during": "tune_adaptive.report.write.write_report"},
        )
        for signal in ("SIGTERM", "SIGUSR1")
    ),
    # With a Ray of its own, whose handlers and processes are others than the tests'.
    *(
        Row(
            f"{signal}, when it says {line!r}",
            *(TINY, 4, "interrupted"),
            **{"slow": True, "signal": signal, "during": line, "environment": {"LINES": "25"}},
        )
        for signal, line in (
            ("SIGTERM", "nothing to compare"),  # Ray starts
            ("SIGUSR1", "search: "),
            ("SIGUSR1 to all", "search: "),
            ("SIGHUP to all", "final: "),
            ("SIGTERM", "canary-2 completed"),  # Ray closes
        )
    ),
    Row(
        "a terminal of no columns",
        f"{TINY} --plan",
        0,
        "plan of",
        environment={"COLUMNS": "0"},
        slow=True,
    ),
    *(
        Row(f"--nice {nice}", f"{TINY} --nice {nice}", 2, message)
        for nice, message in (
            ("-1", r"--nice must be in \[0, 19\], got -1"),
            ("20", r"--nice must be in \[0, 19\], got 20"),
            ("5 --address auto", "--nice is for a Ray of our own"),
        )
    ),
)
