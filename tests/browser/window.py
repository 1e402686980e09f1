"""What the tests do with a browser, in the words of a reader."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

WEB = Path(__file__).parent / "node_modules"
_SETTLED = "const done = arguments[arguments.length - 1]; requestAnimationFrame(() => requestAnimationFrame(done));"

#: of chromium: no window, and nothing of its own in the background
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


class Window:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def fresh(self) -> None:
        """A desktop in daylight with nothing open."""
        self.driver.get("about:blank")
        self.media()
        self.size(1280, 900)
        self.complaints()

    def load(self, where: Path | str) -> None:
        """Open a page that may be forbidden to run scripts."""
        self.driver.get(where.as_uri() if isinstance(where, Path) else where)

    def open(self, where: Path | str) -> None:
        self.load(where)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.driver.execute_async_script(_SETTLED)

    def size(self, width: int, height: int) -> None:
        mobile = width < 600
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )

    def media(self, scheme: str = "light") -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.one(selector).click()
        self.settle()

    def texts(self, selector: str) -> list[str]:
        """What is shown of each match."""
        return [one.text for one in self.all(selector) if one.is_displayed()]

    def is_in_view(self, identity: str) -> bool:
        return bool(
            self.ask(
                "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
                "return box.height > 0 && box.bottom > 0 && box.top < innerHeight;",
                identity,
            )
        )

    def wide(self) -> list[str]:
        """The elements that are wider than the window, and those with more in them than they show."""
        found: list[str] = self.ask(
            "return [...document.querySelectorAll('body *')].filter(one => !one.closest('.unseen, .skip, .defs, svg')"
            " && one.getClientRects().length && (one.getBoundingClientRect().right > innerWidth + 1"
            " || one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline'))"
            ".map(one => one.outerHTML.slice(0, 200))"
        )
        return found

    def printed(self) -> bytes:
        return base64.b64decode(self.driver.print_page())

    def complaints(self) -> list[str]:
        """What the console was told since it was asked."""
        entries: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries]

    def axe(self) -> list[str]:
        """What axe-core has against the page as it is shown now."""
        self.ask((WEB / "axe-core/axe.min.js").read_text(encoding="utf-8") + "; window.axe = axe;")
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']})"
            ".then(found => done(found.violations), error => done(String(error)));"
        )
        assert isinstance(found, list), found
        return [
            f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for one in found
            for node in one["nodes"][:3]
        ]
