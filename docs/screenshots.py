"""Screenshots of a real search: Ray's dashboard while it runs, the report when it is done.

    python docs/screenshots.py [--to docs/images] [-- OPTIONS OF THE SEARCH]

Needs ``pip install -e '.[dashboard]' playwright`` and Chromium (Debian's ``chromium``).
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Page, TimeoutError, sync_playwright

SMALL = ("--epochs", "3", "--budget", "8", "--final-seeds", "6")
WIDTH, HEIGHT = 1280, 620  # below lie paths of the machine
NUM_LOOKS, LOOK_MS = 12, 5_000


def main(
    options: Annotated[list[str] | None, typer.Argument(help="Of the search.")] = None,
    to: Annotated[Path, typer.Option(help="Folder of the images.")] = Path("docs/images"),
) -> None:
    """Run a search, and look at it as a person would."""
    to.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("needs chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        search = subprocess.Popen(
            [
                *(sys.executable, "-u", "-m", "tune_adaptive.search", "--dashboard"),
                *("--name", "first", "--results-dir", folder, *(options or SMALL)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url, token_path = dashboard_of(search)
            token = Path(token_path).read_text(encoding="utf-8")
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT},
                extra_http_headers={"Authorization": f"Bearer {token}"},
            )
            page = context.new_page()
            for name, where, shown in (
                ("dashboard-actors", "/#/actors", "ResourceTrainable"),
                ("dashboard-cluster", "/#/cluster", "ALIVE"),
            ):
                look(page, f"{url}{where}", shown)
                shoot(page, to / f"{name}.png")
            context.close()
            for _ in search.stdout or ():
                pass
            if search.wait():
                raise SystemExit(f"the search ended with {search.returncode}")
        finally:
            search.terminate()
            search.wait()
        page = browser.new_page(viewport={"width": WIDTH, "height": 2 * HEIGHT})
        page.goto((Path(folder) / "first" / "report.html").as_uri())
        shoot(page, to / "report.png")
        browser.close()


def dashboard_of(search: "subprocess.Popen[str]") -> tuple[str, str]:
    """Read where the dashboard is, and its token, from what the search prints."""
    for line in search.stdout or ():
        if told := re.match(r"dashboard: (\S+), which asks for the token in (\S+)", line):
            return told[1], told[2]
    raise SystemExit(f"the search ended with {search.wait()} before it had a dashboard")


def look(page: Page, url: str, shown: str) -> None:
    """Go to a page, again and again until it shows what it should: it may not be ready yet."""
    for _ in range(NUM_LOOKS):
        page.goto("about:blank")  # another fragment of the same page would load nothing
        page.goto(url)
        try:
            page.get_by_text(shown).first.wait_for(timeout=LOOK_MS)
            return
        except TimeoutError:
            continue
    raise SystemExit(f"{url} does not show {shown!r}")


def shoot(page: Page, path: Path) -> None:
    """Write a screenshot once what moves has come to rest."""
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    print(path)


if __name__ == "__main__":
    typer.run(main)
