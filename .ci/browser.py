"""What `.ci/browser` does in the browser, over WebDriver: the standard library is all that it needs."""

import base64
import json
import sys
import time
import urllib.error
import urllib.request

driver, admin, proxy, shots = sys.argv[1:]
PAGES = ["/", "/ui/pools", "/ui/routes", "/ui/nodes", "/ui/reports", "/ui/tail", "/ui/revisions", "/ui/revisions/1"]


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(driver + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"   FAILED: {method} {path}: {error.read().decode()[:500]}")


def fail(text):
    raise SystemExit(f"   FAILED: {text}")


arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"]
capabilities = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
session = "/session/" + call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]


def script(text, *given):
    return call("POST", session + "/execute/sync", {"script": text, "args": list(given)})


def devtools(command, **given):
    return call("POST", session + "/goog/cdp/execute", {"cmd": command, "params": given})


def go(path):
    call("POST", session + "/url", {"url": admin + path})


def quiet(path):
    said = [entry["message"] for entry in call("POST", session + "/se/log", {"type": "browser"})]
    if said:
        fail(f"{path}: the console says {said}")


def until(what, seconds, text, *given):
    end = time.monotonic() + seconds
    while not script(text, *given):
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def shot(name):
    with open(f"{shots}/{name}.png", "wb") as file:
        file.write(base64.b64decode(devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


# What can be checked by rule: names for what can be used, one heading first, labels, and enough contrast.
RULES = """
const wrong = [];
const name = (e) => (e.getAttribute('aria-label') || e.textContent || e.title || '').trim();
for (const e of document.querySelectorAll('a[href], button')) if (!name(e) && !e.hidden) wrong.push('no name: ' + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll('input:not([type=hidden]), select')) if (!e.closest('label') && !e.getAttribute('aria-label')) wrong.push('no label: ' + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll('svg')) if (e.getAttribute('aria-hidden') !== 'true' && !e.getAttribute('aria-label')) wrong.push('an image without words');
if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
if (!document.documentElement.lang) wrong.push('no language');
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id).filter((id) => id !== 'hatch');
if (new Set(ids).size !== ids.length) wrong.push('an id twice');
for (const e of document.querySelectorAll('th')) if (!e.scope) wrong.push('a heading of a table without scope');
const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const rgb = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n.slice(0, 3); };
const back = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
for (const e of document.querySelectorAll('main *, header *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.closest('svg, noscript, option, .visually-hidden') || !e.offsetParent) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back(e))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) wrong.push('contrast ' + contrast.toFixed(1) + ': ' + e.textContent.trim().slice(0, 40));
}
if (document.documentElement.scrollWidth > innerWidth + 1) wrong.push('wider than the window: ' + document.documentElement.scrollWidth);
return [...new Set(wrong)];
"""

try:
    looks = [("light", 1280, False), ("dark", 1280, True), ("phone", 390, False)]
    for look, width, dark in looks:
        devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        devtools("Emulation.setEmulatedMedia", features=features)
        for path in PAGES:
            go(path)
            wrong = script(RULES)
            if wrong:
                fail(f"{path} ({look}): {wrong}")
            quiet(path)
            shot(f"{look}{path.replace('/', '-').rstrip('-') or '-overview'}")
    print(f"   {len(PAGES)} pages, three looks, no message on the console, readable by rule")

    devtools("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    go("/ui/reports")
    label = script("return document.querySelector('.chart svg').getAttribute('aria-label')")
    if "The most is 3" not in label:
        fail(f"the chart does not show the requests: {label}")
    if script("return document.querySelectorAll('.chart rect.s4').length") < 1:
        fail("the chart has no bar of 4xx")
    print(f"   chart: {label}")

    go("/ui/pools")
    script("document.querySelector('button[value=drain]').click()")
    until("the backend is draining", 10, "return document.body.innerText.includes('draining')")
    with urllib.request.urlopen(admin + "/backends", timeout=10) as answer:
        states = sorted(item["state"] for item in json.load(answer)["items"])
    if states != ["active", "draining"]:
        fail(f"after the click the states are {states}")
    quiet("/ui/pools")
    print("   a backend was drained by clicking")

    go("/ui/tail")
    until("the tail watches", 10, "return document.querySelector('.link').dataset.state === 'live'")
    end = time.monotonic() + 10
    # The node learns of the watcher a moment after the stream is open.
    while not script("return document.querySelector('#tail tbody').rows.length"):
        if time.monotonic() > end:
            fail("no request in the tail")
        urllib.request.urlopen(proxy + "/books", timeout=10).read()
        time.sleep(0.1)
    begun = time.monotonic()
    urllib.request.urlopen(proxy + "/books?mark=7", timeout=10).read()
    until("the request is in the tail", 1, "return document.querySelector('#tail').innerText.includes('mark=7')")
    print(f"   the tail showed a request after {(time.monotonic() - begun) * 1000:.0f} ms")
    shot("light-ui-tail-live")
    quiet("/ui/tail")
finally:
    call("DELETE", session)
