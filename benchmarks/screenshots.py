"""The pictures in docs/images: `python benchmarks/screenshots.py RUNS NAME docs/images`.

RUNS is a folder of runs, NAME one of them, reported by this version (`realchat report --redo`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "pipelines" / "dashboard"))
from browsing import Visit, opened_browser, served

DESKTOP, PHONE = (1100, 760), (390, 844)
PAGES = {
    "report": ("report.html", DESKTOP, "light"),
    "report-phone": ("report.html", PHONE, "dark"),
    "dashboard-conversations": ("/conversations?q=you", DESKTOP, "light"),
    "dashboard-sides": ("/sides", DESKTOP, "dark"),
    "dashboard-live": ("/live", DESKTOP, "light"),
}
"""Each picture's page, its screen in pixels and its colours."""
COLOURS = 64
"""A page has few: a palette makes a picture a third as large, and nobody sees it."""


def main() -> None:
    """Take them."""
    from PIL import Image

    runs, name, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    with served(runs) as url, opened_browser() as browser:
        for picture, (path, (width, height), scheme) in PAGES.items():
            options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            visit = Visit(browser, **options)
            file = (runs / name / path.lstrip("/")).resolve()
            visit.page.goto(file.as_uri() if file.is_file() else f"{url}/runs/{name}{path}")
            visit.page.wait_for_selector("svg.chart, [data-row], #ended")
            target = out / f"{picture}.png"
            visit.page.screenshot(path=target)
            visit.close()
            with Image.open(target) as taken:
                taken.convert("RGB").quantize(COLOURS).save(target, optimize=True)
            print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
