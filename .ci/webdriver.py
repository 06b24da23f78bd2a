"""A WebDriver client: the part of the protocol that `.ci/browser.py` needs, with only the standard library."""

import base64
import json
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER = "\ue004", "\ue007"


def fail(text):
    raise SystemExit(f"   FAILED: {text}")


def wait(seconds, what, condition):
    """Repeats the call until its result is true, and returns the result."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Browser:
    """One window. `home` is the prefix of its paths; `profile` is the browser's profile folder."""

    def __init__(self, driver, home, profile):
        self.driver, self.home, self.session = driver, home, ""
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"]
        arguments += [f"--user-data-dir={profile}", "--no-first-run", "--disable-extensions", "--disable-background-networking"]
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 20_000},
            "unhandledPromptBehavior": "ignore",
        }
        begun = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{begun['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        address = self.driver + self.session + path
        request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            fail(f"{method} {path} {data}: {error.read().decode()[:500]}")

    def close(self):
        self.call("DELETE", "")

    def go(self, path):
        self.call("POST", "/url", {"url": self.home + path})

    def script(self, text, *given):
        return self.call("POST", "/execute/sync", {"script": text, "args": list(given)})

    def promise(self, text, *given):
        """Runs a script whose last argument receives the result."""
        return self.call("POST", "/execute/async", {"script": text, "args": list(given)})

    def until(self, what, seconds, text, *given):
        return wait(seconds, what, lambda: self.script(text, *given))

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        """Clicks like a mouse: covered or hidden elements cannot be clicked."""
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def write(self, selector, text):
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def accept(self):
        """Accepts the page's dialog."""
        asked = self.call("GET", "/alert/text")
        self.call("POST", "/alert/accept", {})
        return asked

    def press(self, *keys):
        actions = [action for key in keys for action in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def devtools(self, command, **given):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": given})

    def look(self, width, dark):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Colours in a transition would be judged by their intermediate values.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme, still])

    def console(self):
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def picture(self, file):
        # As long as the page, with an upper limit.
        width, height = self.script("return [innerWidth, Math.min(document.documentElement.scrollHeight, 2600)]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        with open(file, "wb") as into:
            into.write(base64.b64decode(data))
