"""What `.ci/browser` does in the browser, over WebDriver: the standard library is all that it needs."""

import base64
import json
import re
import sys
import time
import urllib.error
import urllib.request

part, driver, admin, shots, axe = sys.argv[1:6]
PAGES = ["/", "/ui/pools", "/ui/routes", "/ui/nodes", "/ui/reports", "/ui/tail", "/ui/revisions", "/ui/revisions/1"]
LOOKS = [("light", 1280, False), ("dark", 1280, True), ("phone", 390, False)]


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(driver + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"   FAILED: {method} {path}: {error.read().decode()[:500]}")


def fail(text):
    raise SystemExit(f"   FAILED: {text}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"]
capabilities = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
session = "/session/" + call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

call("POST", session + "/timeouts", {"script": 120_000, "pageLoad": 120_000})


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


def keys(*pressed):
    actions = [action for key in pressed for action in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})]
    call("POST", session + "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})


def shot(name):
    # As long as the page is, but no picture of a mile.
    height = min(script("return document.documentElement.scrollHeight"), 2600)
    width = script("return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    data = devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
    with open(f"{shots}/{name}.png", "wb") as file:
        file.write(base64.b64decode(data))


def look_like(width, dark):
    devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    devtools("Emulation.setEmulatedMedia", features=features)


# What holds beside the rules of axe: nothing from elsewhere, and nothing that has to be scrolled sideways.
RULES = """
const wrong = [];
if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
for (const e of document.querySelectorAll('th')) if (!e.scope) wrong.push('a heading of a table without scope');
for (const e of document.querySelectorAll('svg')) if (e.getAttribute('aria-hidden') !== 'true' && !e.getAttribute('aria-label')) wrong.push('an image without words');
for (const e of performance.getEntriesByType('resource')) if (!e.name.startsWith(location.origin)) wrong.push('from elsewhere: ' + e.name);
if (document.documentElement.scrollWidth > innerWidth + 1) {
  const wide = [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, .chart, pre'));
  wrong.push('wider than the window: ' + document.documentElement.scrollWidth + ' ' + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 60)));
}
const small = [...document.querySelectorAll('main button, main select, main input:not([type=hidden])')].filter((e) => e.offsetParent && e.offsetHeight < 24);
if (small.length) wrong.push('too small to hit: ' + small[0].outerHTML.slice(0, 80));
return [...new Set(wrong)];
"""

AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ['violations'] }).then(
  (found) => done(found.violations.map((one) => one.id + ': ' + one.help + ' at ' + one.nodes.slice(0, 3).map((node) => node.target.join(' ') + ' ' + node.any.map((any) => any.message).join(' ')).join('; '))),
  (error) => done([String(error)]));
"""
axe_source = open(axe).read() if axe else ""


def inspect(path, look):
    wrong = script(RULES)
    if axe_source:
        script(axe_source + "\n;window.axe = window.axe || axe;")
        wrong += call("POST", session + "/execute/async", {"script": AXE, "args": []})
    if wrong:
        fail(f"{path} ({look}): " + "\n      ".join(wrong))
    quiet(path)


def visit(pages, before=""):
    for look, width, dark in LOOKS:
        look_like(width, dark)
        for path in pages:
            go(path)
            inspect(path, look)
            shot(f"{before}{look}{path.split('?')[0].replace('/', '-').rstrip('-') or '-overview'}")
    look_like(1280, False)
    rules = "axe-core and own rules" if axe_source else "own rules"
    print(f"   {len(pages)} pages, three looks: the console is silent, {rules} find nothing")


def bars():
    """The requests that the chart's bars say."""
    titles = script("return [...document.querySelectorAll('.chart g title')].map((e) => e.textContent)")
    return sum(int(re.search(r"· (\d+) requests", title).group(1)) for title in titles)


def full(proxy, sent):
    visit(PAGES)

    # Nothing but the keyboard: the first stop leads to the content, and each control says where one is.
    go("/")
    keys("\ue004")
    if script("return document.activeElement.className") != "skip":
        fail("the first stop of the keyboard is not the way to the content")
    keys("\ue007")
    until("the content is reached by keyboard", 5, "return location.hash === '#content'")
    for _ in range(4):
        keys("\ue004")
        if script("const s = getComputedStyle(document.activeElement); return s.outlineStyle === 'none' && s.boxShadow === 'none'"):
            fail("where the keyboard is cannot be seen: " + script("return document.activeElement.outerHTML.slice(0, 80)"))
    print("   the keyboard leads to the content, and one sees where one is")

    # The outage of the played day is hatched and no bar stands in it.
    go("/ui/reports")
    gaps = script("return document.querySelectorAll('.chart rect.gap').length")
    if gaps < 2:
        fail("the chart does not show the outage")
    if "not reported" not in script("return document.querySelector('.legend').textContent"):
        fail("nothing says what the hatching is")
    print("   chart: " + script("return document.querySelector('.chart svg').getAttribute('aria-label')"))

    end = time.monotonic() + 10
    while True:
        go("/ui/reports?per=minute&route=default")
        shown = bars()
        if shown == sent:
            break
        if time.monotonic() > end:
            fail(f"curl sent {sent} requests, the chart shows {shown}")
        time.sleep(0.2)
    if script("return document.querySelectorAll('.chart rect.s4').length") < 1:
        fail("the chart has no bar of 4xx")
    print(f"   the chart shows the {sent} requests that curl sent")

    # Without loading it again, the overview counts one more request.
    go("/")
    until("the overview is live", 10, "return document.querySelector('.link').dataset.state === 'live'")
    before = script("return document.querySelector('.figure dd').textContent")
    get(proxy + "/books")
    until("the overview counts it", 10, "return document.querySelector('.figure dd').textContent !== arguments[0]", before)
    quiet("/")
    print("   the overview counted a request by itself")

    go("/ui/pools")
    script("document.querySelector('button[value=drain]').click()")
    until("the backend is draining", 10, "return document.body.innerText.includes('draining')")
    states = sorted(item["state"] for item in json.loads(get(admin + "/backends"))["items"])
    if states != ["active", "draining"]:
        fail(f"after the click the states are {states}")
    quiet("/ui/pools")
    print("   a backend was drained by clicking")
    script("const s = document.querySelector('select[name=strategy]'); s.value = 'least_connections'; s.form.requestSubmit()")
    until("the strategy is changed", 10, "const s = document.querySelector('select[name=strategy] option[selected]'); return s && s.value === 'least_connections'")
    quiet("/ui/pools")
    go("/ui/revisions")
    script("window.confirm = () => true; document.querySelector('form[action$=\"/rollback\"] button').click()")
    until("the change is taken back", 10, "return document.body.innerText.includes('is current') && document.querySelectorAll('tbody tr').length > 5")
    if json.loads(get(admin + "/pools/default"))["strategy"] == "least_connections":
        fail("the rollback changed nothing")
    print("   a strategy was changed and taken back by clicking")

    go("/ui/tail")
    until("the tail watches", 10, "return document.querySelector('.link').dataset.state === 'live'")
    end = time.monotonic() + 10
    # The node learns of the watcher a moment after the stream is open.
    while not script("return document.querySelector('#tail tbody').rows.length"):
        if time.monotonic() > end:
            fail("no request in the tail")
        get(proxy + "/books")
        time.sleep(0.1)
    begun = time.monotonic()
    get(proxy + "/books?mark=7")
    until("the request is in the tail", 1, "return document.querySelector('#tail').innerText.includes('mark=7')")
    print(f"   the tail showed a request after {(time.monotonic() - begun) * 1000:.0f} ms")
    for look, width, dark in LOOKS:
        look_like(width, dark)
        inspect("/ui/tail", look)
        shot(f"{look}-ui-tail-live")
    quiet("/ui/tail")


try:
    if part == "empty":
        visit(PAGES[:-1], "empty-")
    else:
        full(sys.argv[6], int(sys.argv[7]))
finally:
    call("DELETE", session)
