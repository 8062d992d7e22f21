"""Debian's Chromium, looking at one Evener."""

import json
import os
import shutil

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from conftest import wait_for

# Nothing is looked for on the network: browser and driver are Debian's.
os.environ.setdefault("SE_OFFLINE", "true")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1400,1000",
]


def found(name):
    path = shutil.which(name)
    assert path, f"{name} is not installed: run tests/run, which installs it"
    return path


class Page:
    """A browser that looks at one Evener."""

    def __init__(self, folder):
        options = webdriver.ChromeOptions()
        options.binary_location = found("chromium")
        for flag in [*FLAGS, f"--user-data-dir={folder}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(found("chromedriver")))
        self.asked = []

    def visit(self, address):
        self.driver.get(address)
        wait_for("the page to be live", lambda: self.text("#pulse") == "live")

    def go(self, route):
        self.run("location.hash = '#/' + arguments[0]", route)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def text(self, selector):
        found = "const found = document.querySelector(arguments[0]); return found && found.innerText"
        return self.run(found, selector) or ""

    def shows(self, *words, selector="main", within=10.0):
        wait_for(f"{words} on the page",
                 lambda: all(word in self.text(selector) for word in words), within)

    def press(self, selector):
        wait_for(f"{selector} on the page", lambda: self.run(
            "const found = document.querySelector(arguments[0]); found?.click(); return !!found", selector))

    def keys(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self):
        """What has the focus: an id, the order of a button, or the text."""
        return self.run("const on = document.activeElement;"
                        "return on.id || on.dataset.act || (on === document.body ? 'BODY' : on.innerText)")

    def look(self, width, height, dark):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def requests(self):
        """Every address that was asked for so far."""
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return self.asked

    def complaints(self):
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
