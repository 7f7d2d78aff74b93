"""The audit's page, and how it behaves in a real browser without a window."""

import json
import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest

from kdmlc_tf.audit import page, pictures

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(shutil.which, BROWSERS), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
NASTY = "<b>\"&'</script><script>alert(1)</script><!--"
FACTS = {"run": "mine", "method": "kdmlc", "data set": f"csv:{NASTY}", "epoch": 3}


class Browser:
    """Chromium without a window, spoken to by its DevTools protocol over two pipes.

    Attributes:
      events: what it told unasked, in order.
    """

    def __init__(self, profile):
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        flags += ["--no-first-run", "--disable-background-networking", "--no-proxy-server"]
        flags += [f"--user-data-dir={profile}", "--window-size=1200,900"]
        # It reads and writes where its parent has the files 3 and 4 open.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", BROWSER, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.events, self.number, self.rest, self.session = [], 0, b"", {}

    def open(self, address):
        """Opens a page; its console's messages become events."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def ask(self, method, **parameters):
        """The answer to one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **self.session}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self):
        while b"\0" not in self.rest:
            more = os.read(self.into, 1 << 20)
            assert more, "the browser ended"
            self.rest += more
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def value(self, expression):
        """The value of a JavaScript expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def choose(self, name, value):
        """Sets a control, as typing or choosing does."""
        self.value(
            f"{{ const control = document.getElementById({name!r});"
            f"control.value = {json.dumps(str(value))};"
            "control.dispatchEvent(new Event('input', {bubbles: true})) }"
        )

    def press(self, key):
        """Presses and lets go of a key."""
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "ArrowDown": 40}[key]
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def complaints(self):
        """What the console says, and what was fetched from elsewhere."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        fetched = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        others = [address for address in fetched if not re.match("(file|data):", address)]
        return [event for event in self.events if event["method"] in kinds] + others

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.out)
        os.close(self.into)


@pytest.fixture
def browser(tmp_path):
    started = Browser(tmp_path / "profile")
    yield started
    started.close()


def gray(count):
    return np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4, 1)


@pytest.fixture
def findings(make_findings):
    """Six examples; worst first: 2, 0, 4, 5, 1, 3."""
    return make_findings(
        [0, 1, 2, 0, 1, 2],
        [1, 1, 0, 0, 2, 2],
        [0.2, 0.7, 0.1, 0.9, 0.4, 0.6],
        class_names=("cat", NASTY, "dog"),
        ids=np.array([f"{NASTY}/{n}.png".encode() for n in range(6)]),
    )


def data(text):
    """What the page was given to show."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_it_holds_the_worst_examples_and_nothing_else(findings):
    shown = data(page.render(findings, gray(6), facts=FACTS, limit=4))
    assert [example["quality"] for example in shown["examples"]] == [0.1, 0.2, 0.4, 0.6]
    first = shown["examples"][0]
    assert first["id"] == f"{NASTY}/2.png" and first["image"].startswith("data:image/png;base64,")
    assert first["given"] == 2 and first["suggested"] == 0 and first["selected"]
    assert "true" not in first and "measured" not in str(shown["summary"])
    assert shown["summary"]["examples"] == 6


def test_it_names_no_other_file_or_address(findings):
    text = page.render(findings, gray(6), facts=FACTS, limit=6)
    assert not re.search(
        r"https?:|//\w|\bsrc=|@import|<link(?! rel=\"icon\" href=\"data:,\")", text
    )
    assert "default-src 'none'" in text


def test_no_name_can_end_the_script(findings):
    text = page.render(findings, gray(6), facts=FACTS, limit=6)
    assert text.count("</script>") == 2 and "<b>" not in text and "alert(1)<" not in text


def test_vectors_have_no_images(findings):
    shown = data(page.render(findings, np.zeros((6, 30)), facts=FACTS, limit=6))
    assert not any("image" in example for example in shown["examples"])


def test_large_images_are_made_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (600, 300, 3), np.uint8)
    assert pictures.data_uri(noise).startswith("data:image/jpeg;base64,")
    assert len(pictures.data_uri(noise)) < 30_000
    assert pictures.data_uri(noise[:40, :40, :1]).startswith("data:image/png;base64,")


# The numbers of the examples whose cards are there, in the cards' order.
IDS = (
    "[...document.querySelectorAll('#gallery img')]"
    ".map((i) => i.alt.match(/(\\d).png/)[1]).join('')"
)


@needs_browser
def test_a_real_browser_sorts_and_filters(findings, tmp_path, browser):
    (tmp_path / "index.html").write_text(page.render(findings, gray(6), facts=FACTS, limit=6))
    browser.open(f"file://{tmp_path}/index.html")
    assert browser.value(IDS) == "204513"
    assert browser.value("[...document.images].every((i) => i.naturalWidth == 4)")
    for key, order in {"given": "034125", "suggested": "230145", "student": "204513"}.items():
        browser.choose("sort", key)
        assert browser.value(IDS) == order  # of equal ones the worse comes first
    browser.choose("sort", "teacher")
    browser.choose("order", -1)
    assert browser.value(IDS) == "513204"
    browser.choose("sort", "quality")
    assert browser.value(IDS) == "315402"
    browser.choose("given", 1)
    assert browser.value(IDS) == "14"
    assert browser.value("document.getElementById('count').textContent") == "2 of the 6 worst"
    browser.choose("suggested", 2)
    assert browser.value(IDS) == "4"
    browser.choose("given", "")
    browser.choose("suggested", "")
    browser.choose("below", 0.6)
    assert browser.value(IDS) == "402"
    assert browser.complaints() == []


@needs_browser
def test_it_works_by_keyboard_and_shows_names_as_they_are(findings, tmp_path, browser):
    (tmp_path / "index.html").write_text(page.render(findings, gray(6), facts=FACTS, limit=6))
    browser.open(f"file://{tmp_path}/index.html")
    controls = []
    for _ in range(5):
        browser.press("Tab")
        controls.append(browser.value("document.activeElement.id"))
    assert controls == ["sort", "order", "given", "suggested", "below"]
    assert browser.value(
        "[...document.forms[0].elements].every((e) => e.labels.length || e.id == 'count')"
    )
    browser.value("document.getElementById('given').focus()")
    browser.press("ArrowDown")
    assert browser.value("document.getElementById('given').value") == "0"
    assert browser.value(IDS) == "03"
    shown = browser.value("document.body.innerText")
    assert f"{NASTY}/0.png" in shown and f"cat → {NASTY}" in shown
    assert browser.value("document.title") == f"Labels of csv:{NASTY}"
    assert browser.value("document.querySelectorAll('b, script').length") == 2
    assert browser.complaints() == []


@needs_browser
def test_vectors_are_a_table(findings, tmp_path, browser):
    text = page.render(findings, np.zeros((6, 30)), facts=FACTS, limit=6)
    (tmp_path / "index.html").write_text(text)
    browser.open(f"file://{tmp_path}/index.html")
    rows = "[...document.querySelectorAll('#rows td:nth-child(4)')].map((c) => c.textContent)"
    assert browser.value(rows) == ["0.100", "0.200", "0.400", "0.600", "0.700", "0.900"]
    browser.choose("given", 2)
    assert browser.value(rows) == ["0.100", "0.600"]
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []
