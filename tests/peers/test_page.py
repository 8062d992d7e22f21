"""The page in Debian's Chromium: live data, orders by mouse and by keyboard, and how it looks."""

import json
import shlex
import signal
import socket
import subprocess
import threading
from urllib.parse import urlsplit

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import picture
from chromium import Page
from conftest import EVENER, Evener, Mock, wait_for

PICTURES = EVENER.parents[1] / "tests/page"
PAGES = ["", "model/chat", "replicas/chat", "requests", "errors", "configuration", "events"]
# A phone, a desk, a wall.
WIDTHS = [320, 1400, 2560]
# What an operator waits for: two looks of a second.
SOON = 2.0


class Load:
    """Requests for each model, until it ends."""

    def __init__(self, url, models):
        self.url, self.models, self.over = url, models, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with httpx.Client() as client:
            while not self.over.wait(0.005):
                for model in [*self.models, "nobody"]:
                    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                    try:
                        client.post(f"{self.url}/v1/chat/completions", json=body)
                    except httpx.HTTPError:
                        pass

    def end(self):
        self.over.set()
        self.thread.join()


class Site:
    """Three models under load: two with a canary, one with a mirror."""

    def __init__(self, start):
        mocks = [start(Mock, f"v{i}", "--latency", "lognormal:12ms,0.4") for i in range(6)]
        self.urls = [mock.url for mock in mocks]
        a, b, c, d, e, f = self.urls
        canary = {"candidate": "v2", "steps": [10, 50, 100], "hold": "30m", "warmup": "0s"}
        health = {"tcp": True, "every": "500ms", "timeout": "300ms"}
        mirror = {"to": "v2", "percent": 50, "keep_worst": 3}
        split = {"v1": 90, "v2": 10}
        self.models = {
            "chat": {"aliases": ["<b>gpt</b>"], "versions": {"v1": [a, b], "v2": [c]}, "split": split,
                     "canary": canary, "health": health},
            "fraud": {"versions": {"v1": [d], "v2": [e]}, "split": split, "canary": canary},
            "plain": {"versions": {"v1": [a, f], "v2": [e]}, "split": split, "mirror": mirror},
        }
        self.evener = start(Evener, {"models": self.models})
        self.load = Load(self.evener.url, list(self.models))

    def status(self):
        return httpx.get(f"{self.evener.admin}/api/v1/status").json()

    def model(self, name):
        return next(model for model in self.status()["models"] if model["name"] == name)

    def shares(self, name):
        return {version["name"]: version["share"] for version in self.model(name)["versions"]}

    def state(self, model, url):
        versions = self.model(model)["versions"]
        return next(r["state"] for v in versions for r in v["replicas"] if r["url"] == url)

    def order(self, path, **body):
        answer = httpx.post(f"{self.evener.admin}/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text

    def rewrite(self, change):
        text = self.evener.config.read_text()
        config = json.loads(text)
        change(config)
        self.evener.write(json.dumps(config, indent=1))
        return text


def hosts(page):
    """Everybody that was asked over the network."""
    addresses = [urlsplit(url) for url in page.requests()]
    return {address.netloc for address in addresses if address.scheme in ("http", "https", "ws")}


@pytest.fixture(scope="module")
def site(start_shared):
    site = Site(start_shared)
    yield site
    site.load.end()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("chromium"))
    yield page
    page.driver.quit()


@pytest.fixture
def page(browser, site):
    browser.look(1400, 1000, dark=False)
    browser.visit(site.evener.admin)
    browser.run("window.unchanged = true")
    yield browser
    assert browser.run("return window.unchanged"), "the page was loaded anew"
    assert browser.complaints() == []
    home = urlsplit(site.evener.admin).netloc
    assert hosts(browser) == {home}


def confirm(page, reason):
    """Says why, and presses the button that does it. Returns the command that was shown."""
    wait_for("the dialog", lambda: page.run("return document.getElementById('act').open"))
    page.driver.find_element(By.ID, "act-reason").send_keys(reason)
    command = page.text("#act code")
    page.press("#act button.main")
    wait_for("the dialog to close", lambda: not page.run("return document.getElementById('act').open"))
    return command


def test_each_page_shows_live_data(page, site):
    rate = ".card[aria-label='model chat'] .figure b"
    seen = set()
    wait_for("the rate to move", lambda: seen.add(page.text(rate)) or len(seen - {"", "0"}) > 1)
    page.shows("chat", "fraud", "plain", "canary", "also <b>gpt</b>")
    page.go("model/chat")
    page.shows("Canary v2", "Evidence against it", "first_byte_p95", "Versions", "of 4.61")
    wait_for("the charts", lambda: page.run(
        "return document.querySelectorAll('.chart canvas').length") == 7)
    page.go("model/plain")
    page.shows("Mirror to v2", "json shape")
    page.go("replicas/chat")
    page.shows(*site.urls[:3], "healthy", "passed")
    wait_for("the last endings", lambda: page.run(
        "return document.querySelectorAll('.outcomes i').length") >= 20)
    page.go("errors")
    page.shows("refused", "model not found", "404")
    page.go("configuration")
    page.shows("evener.yaml", "generation", "applied", "listener public")
    page.go("events")
    page.shows("canary began")


def test_what_happens_is_seen_within_two_seconds(page, site):
    site.order("replicas/eject", model="chat", version="v1", replica=site.urls[0], reason="a look")
    page.shows("1 of 2 replicas of chat/v1 is ejected by an operator's order", selector="body", within=SOON)
    page.go("replicas/chat")
    page.shows("until it is restored", "a look")
    site.order("replicas/restore", model="chat", version="v1", replica=site.urls[0])
    wait_for("it to be gone", lambda: "until it is restored" not in page.text("main"), SOON)

    page.go("model/plain")
    page.shows("90%")
    site.rewrite(lambda config: config["models"]["plain"].update(split={"v1": 70, "v2": 30}))
    wait_for("the new shares", lambda: site.shares("plain")["v1"] == 70)
    page.shows("70%", "30%", within=SOON)

    page.go("configuration")
    good = site.rewrite(lambda config: config["models"]["plain"].update(splitt={}))
    wait_for("the rejection",
             lambda: site.status()["config"]["last_reload"]["result"] == "rejected")
    page.shows("The file on disk has 1 error", selector="#sentence", within=SOON)
    page.shows("splitt", "^^^", "did you mean", within=SOON)
    page.shows("On disk", "--- running", '"splitt": {}', within=SOON)
    page.shows('+   "splitt": {}', selector=".diff")
    site.evener.write(good)
    page.shows("The file on disk is what runs.")
    wait_for("the file to heal", lambda: "rejected" not in page.text("#sentence") and
             "error" not in page.text("#sentence"))


def test_promote_abort_drain_and_set_split_by_clicking_change_the_proxy(page, site, tmp_path):
    page.go("model/chat")
    page.press("[data-act=promote]")
    command = confirm(page, "it's good")
    assert command.startswith("evener canary promote chat --reason 'it'\\''s good' --admin ")
    wait_for("the candidate to have all", lambda: site.shares("chat")["v2"] == 100)
    page.shows("promoted", within=SOON + 1)

    page.go("model/fraud")
    page.press("[data-act=abort]")
    confirm(page, "too slow")
    wait_for("the candidate to have nothing", lambda: site.shares("fraud")["v2"] == 0)

    page.go("replicas/plain")
    page.press(f"[data-act=drain][data-replica='{site.urls[5]}']")
    command = confirm(page, "new disk")
    assert f"evener drain plain/v1/{site.urls[5]} --for 15m --reason 'new disk'" in command
    assert site.state("plain", site.urls[5]) == "draining"
    page.shows("draining", within=SOON)
    page.press(f"[data-act=undrain][data-replica='{site.urls[5]}']")
    confirm(page, "")
    assert site.state("plain", site.urls[5]) != "draining"
    page.go("model/plain")
    page.press("[data-act=split]")
    for place, share in enumerate(["55", "44"]):
        field = wait_for("the field", lambda: page.driver.find_elements(By.ID, f"act-share-{place}"))[0]
        field.clear()
        field.send_keys(share)
    assert "sum to 99" in page.text("#act-sum")
    assert page.run("return document.querySelector('#act button.main').disabled")
    field.send_keys(Keys.BACKSPACE, "5")
    assert confirm(page, "even").startswith("evener split plain v1=55 v2=45 --for 15m --reason even")
    assert site.shares("plain") == {"v1": 55, "v2": 45}
    page.shows("set by hand", "left", "by api: even", within=SOON)
    page.press("[data-act=unsplit]")
    confirm(page, "")
    assert site.shares("plain")["v1"] != 55

    page.go("events")
    page.shows("it's good", "too slow", "new disk", within=SOON)
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.press("[data-export]")
    exported = tmp_path / "evener-events.md"
    wait_for("the export", exported.exists)
    text = exported.read_text()
    assert text.startswith("# Timeline of Evener\n") and "because: too slow)" in text


def test_a_test_request_tells_who_served_it_and_what_came_back(page, site):
    page.go("model/plain")
    page.press("main [data-act=test]")
    path = "return document.getElementById('test-path').value"
    wait_for("the usual request", lambda: page.run(path) == "/v1/chat/completions")
    body = page.driver.find_element(By.ID, "test-body")
    body.clear()
    body.send_keys('{"model": "plain", "messages": [{"role": "user", "content": "it\'s me"}], "max_tokens": 3}')
    command = page.text("#act code")
    assert command.startswith("curl -H 'content-type: application/json' -d ")
    page.press("#act button.main")
    page.shows("200", "took", "first byte", '"finish_reason"', selector="#test-answer")
    page.press("#test-answer summary")
    page.shows("content-type: application/json", selector="#test-answer")
    told = json.loads(subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout)
    assert told["status"] == 200 and "it's me" in told["request"]["body"]
    page.keys(Keys.ESCAPE)

    before = site.shares("plain")
    page.go("replicas/plain")
    url = site.urls[5]
    page.press(f"[data-act=test][data-replica='{url}']")
    wait_for("the usual request", lambda: page.run(path) == "/v1/chat/completions")
    page.press("#act button.main")
    page.shows("v1", url, selector="#test-answer")
    assert page.run("return document.querySelector('dialog').scrollWidth <= innerWidth")
    page.run("const path = document.getElementById('test-path'); path.value = '/v2/models/nobody/ready'")
    page.run("document.getElementById('test-method').value = 'GET'; document.getElementById('test-body').value = ''")
    page.press("#act button.main")
    page.shows("404", "model_not_found", selector="#test-answer")
    page.keys(Keys.ESCAPE)
    assert site.shares("plain") == before
    page.go("events")
    page.shows("a test, POST /v1/chat/completions, was answered 200 by v1", within=SOON)


def choose(page, field, value):
    """As a reader would: the field, then what is written into it."""
    page.run("const field = document.getElementById(arguments[0]); field.value = arguments[1];"
             "field.dispatchEvent(new Event('input', { bubbles: true }))", field, value)


def column(page, name):
    """What stands in a column of the live requests, newest first."""
    cells = "return [...document.querySelectorAll('#request-rows td')].filter((td) => td.dataset.label === arguments[0])"
    return page.run(cells + ".map((td) => td.innerText)", name)


def test_live_requests_say_why_they_went_where_they_went(page, site):
    page.go("requests")
    wait_for("rows", lambda: len(column(page, "model")) > 5, SOON)
    newest = "return document.querySelector('#request-rows tr').innerText"
    first = page.run(newest)
    wait_for("newer ones", lambda: page.run(newest) != first, SOON)
    choose(page, "request-outcome", "errors")
    wait_for("errors alone", lambda: {"404 refused"} == set(column(page, "outcome")))
    choose(page, "request-outcome", "")
    choose(page, "request-model", "plain")
    choose(page, "request-version", "v1")
    wait_for("one model", lambda: {"plain"} == set(column(page, "model")))
    assert set(column(page, "version")) == {"v1"}
    choose(page, "request-slower", "100000")
    page.shows("None of the last requests is like that.")
    choose(page, "request-slower", "")

    page.run("document.activeElement.blur()")
    page.keys("p")
    page.shows("paused", selector="#request-count")
    before = page.text("#request-rows")
    wait_for("more to come", lambda: "paused, 0 " not in page.text("#request-count"))
    assert page.text("#request-rows") == before

    # The first row, by keyboard alone.
    while page.run("return document.activeElement.dataset.request === undefined"):
        page.keys(Keys.TAB)
    page.keys(Keys.ENTER)
    page.shows("Route", "Point", "Version", "Attempt 1", "picked", "Outcome", selector="#act .tree")
    shown = page.text("#act")
    request_id = page.run("return [...document.querySelectorAll('#act dt')]"
                          ".find((dt) => dt.innerText === 'request id').nextSibling.innerText")
    lines = [line for line in site.evener.text().splitlines() if request_id in line]
    logged = json.loads(lines[0])
    assert f"\n{logged['version']} {logged['replica']} {logged['status']} success" in shown
    assert f"→ {logged['replica']} picked" in shown
    assert page.run("return document.querySelector('#act').scrollWidth <= innerWidth")
    command = page.text("#act code")
    assert command == ("curl -X POST -H 'content-type: application/json' -d BODY "
                       f"{site.evener.url}/v1/chat/completions")
    page.press("#act .command button")
    wait_for("the copy", lambda: page.text("#act .command button") in ("Copied", "Selected"))
    page.keys(Keys.ESCAPE)
    assert page.run("return document.activeElement.dataset.request !== undefined"), "the focus returns"
    page.keys("p")
    assert page.text("#request-count").startswith("held")
    page.run("document.activeElement.blur()")
    wait_for("it to go on", lambda: page.text("#request-rows") != before)


def test_a_copied_command_is_one_command_whoever_sent_the_request(start, tmp_path):
    mock = start(Mock, "v1")
    evener = start(Evener, {"models": {"chat": {"versions": {"v1": [mock.url]}}}})
    address = urlsplit(evener.url)
    asked = [("X|id", "/x?a='$(id)'&b={1,2};`id`"), ("HEAD", "/y'z"), ("DELETE", "/v2/models/chat/../x")]
    for method, path in asked:
        with socket.create_connection((address.hostname, address.port), 10) as raw:
            raw.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            while raw.recv(65536):
                pass
    page = Page(tmp_path)
    try:
        page.visit(f"{evener.admin}/#/requests")
        for method, path in asked:
            find = "[...document.querySelectorAll('#request-rows tr')].find((tr) => tr.innerText.includes(arguments[0]))"
            wait_for(f"{method} {path}", lambda: page.run(f"return !!{find}", f"{method} {path}"))
            page.run(f"{find}.click()", f"{method} {path}")
            wait_for("the command", lambda: page.text("#act code").startswith("curl "))
            words = shlex.split(page.text("#act code"))
            flags = ["--head"] if method == "HEAD" else ["-X", method]
            assert words[:1 + len(flags)] == ["curl", *flags], words
            assert words[-1] == f"{evener.url}{path}", words
            assert set(words[1 + len(flags):-1]) <= {"--globoff", "--path-as-is"}, words
            page.keys(Keys.ESCAPE)
    finally:
        page.driver.quit()


def test_the_keyboard_alone_reaches_each_action(page, site):
    # The canaries of the other tests have ended, or have not.
    site.order("models/fraud/canary/start")
    wait_for("the canary", lambda: site.model("fraud")["canary"]["state"] == "collecting")
    wanted = {
        "model/fraud": {"pause", "promote", "abort", "drain", "test"},
        "replicas/chat": {"drain", "eject", "probe", "test"},
        "configuration": {"reload"},
        "requests": {"request-pause", "request-model", "request-replica", "request-slower"},
        "events": {"event-kind", "event-text", "Export as Markdown"},
    }
    for route, orders in wanted.items():
        page.go(route)
        wait_for(route, lambda: page.run("return document.querySelectorAll('main button').length"))
        page.run("document.querySelector('.skip').focus(); scrollTo(0, 0)")
        met = []
        while not orders <= set(met) and len(met) < 80:
            page.keys(Keys.TAB)
            met.append(page.focus())
        assert orders <= set(met), f"{route}: met {met}"
    page.visit(site.evener.admin)
    page.run("window.unchanged = true")
    page.keys(Keys.TAB)
    assert page.focus() == "Skip to the content"
    page.keys(Keys.ENTER)
    assert page.focus() == "main"
    page.go("configuration")
    page.shows("Reload")
    while page.focus() != "reload":
        page.keys(Keys.TAB)
    ring = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid", "the focus is seen"
    page.keys(Keys.ENTER)
    inside = "return document.getElementById('act').contains(document.activeElement)"
    for _ in range(8):
        # The browser's own bars come between the last field and the first.
        assert page.run(inside) or page.focus() == "BODY"
        page.keys(Keys.TAB)
    page.keys(Keys.ESCAPE)
    assert not page.run("return document.getElementById('act').open")
    assert page.focus() == "reload", "the focus returns"


def test_a_lost_connection_is_said_loudly_and_comes_back(page, site):
    site.evener.signal(signal.SIGSTOP)
    try:
        page.shows("Connection lost", selector="#lost")
        assert page.text("#pulse") == "lost"
    finally:
        site.evener.signal(signal.SIGCONT)
    wait_for("it to be live again", lambda: page.text("#pulse") == "live")
    assert page.run("return document.getElementById('lost').hidden")


def test_it_asks_for_the_token_and_keeps_it_in_the_tab(browser, start, site):
    token = "a-token-of-this-test"
    evener = start(Evener, {
        "admin": {"address": "127.0.0.1:0", "token": token},
        "models": {"m": {"versions": {"v": [site.urls[0]]}}},
    })
    browser.driver.get(evener.admin)
    is_open = "return document.getElementById('door').open"
    for given in ["wrong", token]:
        wait_for("the dialog", lambda: browser.run(is_open))
        browser.keys(given, Keys.ENTER)
        wait_for("an answer", lambda: not browser.run(is_open))
    wait_for("the page to be live", lambda: browser.text("#pulse") == "live")
    browser.shows("m")
    assert browser.run("return localStorage.getItem('evener-token')") is None
    assert not any(token in url for url in browser.requests())
    # Chromium writes down each 401.
    assert all("401" in line for line in browser.complaints())
    browser.driver.get("about:blank")
    browser.asked.clear()


@pytest.fixture
def trouble(start, site):
    """Nothing behind one model, and every request of another fails."""
    failing = start(Mock, "bad", "--error", "100%")
    evener = start(Evener, {"models": {
        "plain": {"versions": {"v1": [site.urls[0]]}},
        "dead": {"versions": {"v1": ["http://127.0.0.1:1"]}, "health": {"every": "500ms", "timeout": "300ms", "fall": 1}},
        "fraud": {"kind": "predict", "versions": {"v1": [failing.url]}},
    }})
    load = Load(evener.url, ["fraud"])
    yield evener
    load.end()


def test_what_is_wrong_stands_first_in_the_words_of_the_api(browser, trouble):
    browser.look(1400, 1000, dark=False)
    browser.visit(trouble.admin)
    dead = "dead/v1 has no usable replica and serves by those that fail (1 of 1 fails its health check)"
    fails = "100 % of the requests for fraud fail ("
    browser.shows(dead, "UTC: look at evener status dead", selector="#sentence")
    browser.shows(fails, selector="main .problems")

    said = set()
    for _ in range(12):
        said.add((browser.text("#sentence"), browser.run("return document.querySelectorAll('.problems li').length")))
        browser.run("return new Promise((done) => setTimeout(done, 250))")
    assert len(said) == 1, f"it flickers: {said}"
    told = httpx.get(f"{trouble.admin}/api/v1/status").json()["problems"]
    assert [problem["code"] for problem in told] == ["no_usable_replica", "requests_fail"]
    assert browser.text("#sentence").startswith(told[0]["sentence"])
    order = browser.run("return [...document.querySelectorAll('.card h2 a')].map((a) => a.innerText)")
    assert order == ["dead", "fraud", "plain"], "the worst first"

    browser.go("configuration")
    browser.shows("(and 1 more)", selector="#sentence")
    browser.go("model/fraud")
    browser.shows(fails, selector="main .problems")
    browser.go("events")
    browser.shows(dead, "problem")
    photograph(browser, "trouble", "")
    assert browser.complaints() == []
    assert hosts(browser) == {urlsplit(trouble.admin).netloc}
    browser.driver.get("about:blank")
    browser.asked.clear()


def photograph(page, name, route):
    """At each width, light and dark."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for dark in [False, True]:
        for width in WIDTHS:
            page.look(width, 1000, dark)
            page.go(route)
            wait_for(route, lambda: page.run("return document.querySelector('main .card')"))
            page.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            tall = page.run("return document.documentElement.scrollHeight")
            assert page.run("return document.documentElement.scrollWidth <= innerWidth"), (
                f"{route} is wider than {width}")
            page.look(width, min(max(tall, 700), 4000), dark)
            scheme = "dark" if dark else "light"
            page.driver.save_screenshot(str(PICTURES / f"{name}-{width}-{scheme}.png"))


def test_it_looks_right_from_a_phone_to_a_wall(page, site):
    for route in PAGES:
        photograph(page, route.replace("/", "-") or "overview", route)
    pictures = list(PICTURES.glob("*.png"))
    assert len(pictures) >= 30 and all(picture.stat().st_size > 5000 for picture in pictures)


def test_a_canary_shows_how_both_sides_are_spread(page, site):
    site.order("models/fraud/canary/start")
    page.go("model/fraud")
    page.shows("Whole requests", "To the first byte", "v1 p50", "v2 p50", selector="main [aria-label=canary]")
    wait_for("an outline of each", lambda: page.run(
        "return document.querySelectorAll('.spread path').length") == 4)
    colors = page.run("return [...document.querySelectorAll('.spread path')].map((p) => getComputedStyle(p).stroke)")
    assert len(set(colors)) == 2


def test_the_readme_shows_the_page_as_the_demo_fills_it(tmp_path):
    PICTURES.mkdir(parents=True, exist_ok=True)
    taken, how = PICTURES / "readme.png", picture.__doc__
    picture.take(taken, tmp_path)
    for path in [taken, picture.KEPT]:
        assert picture.size_of(path) == (picture.WIDTH, picture.HEIGHT), f"{path}\n{how}"
        assert path.stat().st_size < picture.MOST_BYTES, f"{path}\n{how}"
