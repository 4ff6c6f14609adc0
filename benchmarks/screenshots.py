"""The pictures of docs/dashboard.md: `python benchmarks/screenshots.py RUNS NAME docs/images`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "pipelines" / "dashboard"))
from browsing import Visit, opened_browser, served

PAGES = {"overview": "", "conversations": "/conversations?q=you"}
WIDTH, HEIGHT = 1000, 700


def main() -> None:
    """Take them."""
    runs, name, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    with served(runs) as url, opened_browser() as browser:
        visit = Visit(browser, viewport={"width": WIDTH, "height": HEIGHT})
        for picture, path in PAGES.items():
            visit.page.goto(f"{url}/runs/{name}{path}")
            visit.page.wait_for_selector("svg.chart, [data-row]")
            target = out / f"dashboard-{picture}.png"
            visit.page.screenshot(path=target)
            print(target)
        visit.close()


if __name__ == "__main__":
    main()
