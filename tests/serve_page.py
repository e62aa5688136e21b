#!/usr/bin/env python3
"""serve_page.py CHROMIUM URL PICTURE CLIP [SCREENSHOTS] - clicks through the page of `uniperceiver serve` in a headless
Chromium, spoken to over its debugging pipe: wide and as a phone, light and dark. With a folder, pictures of each step."""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib

chromium, url, picture, clip = sys.argv[1:5]
shots = sys.argv[5] if len(sys.argv) > 5 else None
LABELS = os.environ.get("UP_PAGE_LABELS", "cat, dog\nbicycle")
SEARCH = os.environ.get("UP_PAGE_SEARCH", "a cat")
CHOICE = [picture] + os.environ.get("UP_PAGE_CHOICE", os.path.join(os.path.dirname(picture), "source.png")).split(":")
QUESTION, ANSWERS = os.environ.get("UP_PAGE_QUESTION", "what is it|cat, dog").split("|")


class Browser:
    def __init__(self, profile):
        self.commands, read = os.pipe()[::-1]
        self.events, write = os.pipe()
        # Chromium speaks at 3 and 4, whatever numbers the pipes have here.
        shell = f'exec 3<&{read} 4>&{write}; exec "$0" "$@"'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                 f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(["bash", "-c", shell, chromium, *flags], pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self.rest, self.number, self.session, self.complaints = b"", 0, None, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self(domain + ".enable")

    def __call__(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.events, 1 << 16)
                if not more:
                    sys.exit("serve_page: FAILED: the browser ended")
                self.rest += more
            text, self.rest = self.rest.split(b"\0", 1)
            told = json.loads(text)
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(told["params"])
            if told.get("id") == self.number:
                if "error" in told:
                    sys.exit(f"serve_page: FAILED: {method}: {told['error']}")
                return told["result"]

    def value(self, expression):
        told = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            sys.exit(f"serve_page: FAILED: {expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, expression):
        for _ in range(300):
            if self.value(f"!!({expression})"):
                return
            time.sleep(0.1)
        sys.exit(f"serve_page: FAILED: never true: {expression}; the page says: {self.value('document.body.innerText')}")

    def click(self, selector):
        x, y = self.value(f"(() => {{ const e = document.querySelector('{selector}'); e.scrollIntoView({{block: 'center'}});"
                          "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, selector, text):
        self.click(selector)
        self.value(f"document.querySelector('{selector}').select()")
        self("Input.insertText", text=text)

    def give(self, *paths, selector="#file"):
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=list(paths))

    def shoot(self, name):
        # A phone's window grows with what is too wide for it.
        assert self.value(f"document.documentElement.scrollWidth <= innerWidth && innerWidth == {self.width}"), f"{name}: wider than the window"
        if not shots:
            return
        time.sleep(0.8)  # bars have grown
        data = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(os.path.join(shots, name + ".png"), "wb") as file:
            file.write(base64.b64decode(data))


def shares(b):
    return b.value("[...document.querySelectorAll('.share')].map(e => parseFloat(e.textContent))")


def look_for(b, name):
    """The tabs that choose among files and search in the index: by the dropped picture, then by a text."""
    loaded = "[...document.querySelectorAll('.found img')].every(i => i.naturalWidth > 0)"
    b.click("#tab-retrieve")
    assert b.value("document.querySelector('#go').disabled")
    b.give(*(os.path.abspath(p) for p in CHOICE), selector="#among")
    b.click("#go")
    b.wait(f"document.querySelectorAll('.found img').length == {len(CHOICE)} && {loaded}")
    found = shares(b)
    assert found == sorted(found, reverse=True) and abs(sum(found) - 100) < 1, found
    assert b.value("document.querySelector('.found .title').textContent") == os.path.basename(picture)
    b.shoot(name + "-choose")
    b.click("#tab-search")
    assert not b.value("document.querySelector('#go').disabled"), b.value("document.body.innerText")
    b.click("#go")
    b.wait(f"document.querySelectorAll('.found li').length > 1 && {loaded}")
    assert b.value("parseFloat(document.querySelector('.found .share').textContent)") > 0.99
    b.shoot(name + "-search")
    b.write("#wanted", SEARCH)
    b.click("#with")
    b.click("#go")
    b.wait("parseFloat(document.querySelector('.found .share').textContent) < 0.99" if SEARCH != "a cat" else
           "document.querySelector('.found .title').textContent == 'a cat'")
    b.wait(loaded)
    b.shoot(name + "-search-text")


def click_through(b, name, width, height, theme):
    phone = width < 700
    b.width = width
    b("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
    b("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    b("Page.navigate", url=url)
    b.wait("document.querySelector('#about')?.textContent.includes('layers')")
    b.shoot(name + "-empty")
    assert b.value("document.querySelector('#go').disabled")
    b.give(os.path.abspath(picture))
    b.wait("document.querySelector('#drop img')?.naturalWidth > 0")
    b.write("#labels", LABELS)
    b.click("#go")
    b.wait("document.querySelectorAll('.bars li').length > 1 && !document.querySelector('#go').disabled")
    found = shares(b)
    assert found == sorted(found, reverse=True) and abs(sum(found) - 100) < 1, found
    b.shoot(name + "-labels")
    b.click("#tab-vqa")
    assert b.value("document.querySelector('#go').disabled") and b.value("!document.querySelector('#answer').children.length")
    b.write("#question", QUESTION)
    b.write("#answers", ANSWERS)
    b.click("#go")
    b.wait("document.querySelectorAll('.bars li').length == 2")
    b.shoot(name + "-question")
    b.click("#tab-caption")
    b.value("window.told = 0; new MutationObserver(changes => told += changes.length)"
            ".observe(document.querySelector('#answer'), {subtree: true, childList: true}); 1")
    b.click("#go")
    b.wait("document.querySelector('.caption:not(.writing)')")
    b.shoot(name + "-caption")
    assert b.value("told") > 3, "the caption does not come word by word"
    look_for(b, name)
    b.give(os.path.abspath(clip))
    b.wait("document.querySelector('#drop video')")
    b.click("#tab-classify")
    b.click("#go")
    b.wait("document.querySelectorAll('.bars li').length > 1")


# The browser's children may still write into its profile when it has ended.
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    browser = Browser(os.path.join(folder, "profile"))
    try:
        broken = os.path.join(folder, "broken.png")
        with open(broken, "wb") as file:
            file.write(b"\x89PNG\r\n" + zlib.compress(b"no picture"))
        for case in (("wide", 1180, 800, "light"), ("wide-dark", 1180, 800, "dark"), ("phone", 390, 844, "light"), ("phone-dark", 390, 844, "dark")):
            click_through(browser, *case)
        assert not browser.complaints, browser.complaints
        browser.give(broken)
        browser.click("#tab-caption")
        browser.click("#go")
        browser.wait("document.querySelector('.error')?.textContent.startsWith('image: ')")
        browser.shoot("phone-dark-error")
    finally:
        browser.process.terminate()
        browser.process.wait()
print("serve_page: 4 windows clicked through")
