"""What `.ci/browser` does in the browser: looks at every page, then works with them as a user does."""

import json
import re
import sys
import time
import urllib.request

from webdriver import ENTER, TAB, Browser, fail, wait

part, driver, admin, work, shots, axe = sys.argv[1:7]
EMPTY = ["/", "/ui/pools", "/ui/routes", "/ui/explain", "/ui/nodes", "/ui/reports", "/ui/tail", "/ui/revisions", "/ui/audit"]
EXPLAINED = "/ui/explain?method=GET&url=http%3A%2F%2Fapi.shop.example%2Fbooks&client=10.1.2.3"
FULL = [*EMPTY, EXPLAINED, "/ui/reports?per=minute", "/ui/revisions/1"]
LOOKS = [("light", 1280, False), ("dark", 1280, True), ("phone", 390, False)]
browser = Browser(driver, admin, f"{work}/profile")


def get(path, host=None):
    address = path if path.startswith("http") else admin + path
    request = urllib.request.Request(address, headers={"host": host} if host else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read(), answer.headers


def api(path):
    return json.loads(get(path)[0])


def say(text):
    print(f"   {text}", flush=True)


# Additional rules: no resources from other hosts, and no horizontal scrolling.
RULES = """
const wrong = [];
if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
for (const e of document.querySelectorAll('th')) if (!e.scope) wrong.push('a heading of a table without scope');
for (const e of document.querySelectorAll('svg')) if (e.getAttribute('aria-hidden') !== 'true' && !e.getAttribute('aria-label')) wrong.push('an image without words');
for (const e of performance.getEntriesByType('resource')) if (!e.name.startsWith(location.origin)) wrong.push('from elsewhere: ' + e.name);
if (document.documentElement.scrollWidth > innerWidth + 1) {
  const wide = [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre'));
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
by = "axe-core and own rules find" if axe else "own rules find"


def inspect(path, look):
    wrong = browser.script(RULES)
    if axe_source:
        browser.script(axe_source + "\n;window.axe = window.axe || axe;")
        wrong += browser.promise(AXE)
    wrong += [f"the console says {message}" for message in browser.console()]
    if wrong:
        fail(f"{path} ({look}): " + "\n      ".join(wrong))


def picture(look, path):
    path, query = path.removeprefix("/ui").partition("?")[::2]
    name = re.sub(r"[^a-z0-9]+", "-", f"{path} {query[:12]}").strip("-") or "overview"
    browser.picture(f"{shots}/{look}-{name}.png")


def visit(pages, kind=""):
    for look, width, dark in LOOKS:
        browser.look(width, dark)
        for path in pages:
            browser.go(path)
            inspect(path, look)
            picture(kind + look, path)
    browser.look(1280, False)
    say(f"{len(pages)} pages, light, dark and narrow: the console is silent, {by} nothing")


def live():
    browser.until("the page is live", 10, "return document.querySelector('.link').dataset.state === 'live'")


def keyboard():
    """Keyboard only: past the navigation to the content and to an action, with a visible focus."""
    browser.go("/ui/pools")
    browser.press(TAB)
    if browser.script("return document.activeElement.className") != "skip":
        fail("the first stop of the keyboard is not the way to the content")
    browser.press(ENTER)
    browser.until("the content is reached by keyboard", 5, "return location.hash === '#content'")
    stops = []
    while browser.script("return document.activeElement.value") != "drain":
        if len(stops) > 20:
            fail(f"no way by keyboard to Drain, but to {stops}")
        browser.press(TAB)
        seen = browser.script(
            "const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();"
            "return [e.outerHTML.slice(0, 80), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,"
            " b.top >= 0 && b.bottom <= innerHeight && b.width > 0]"
        )
        if not seen[1] or not seen[2]:
            fail(f"where the keyboard is cannot be seen: {seen[0]}")
        stops.append(seen[0])
    browser.press(ENTER)
    browser.until("the backend is draining", 10, "return document.querySelector('main').innerText.includes('draining')")
    browser.click("button[value=enable]")
    browser.until("the backend is active", 10, "return !document.querySelector('main').innerText.includes('draining')")
    say(f"by keyboard alone a backend was drained, {len(stops)} stops from the content, each to be seen")


def outage():
    """The two hours without reports are hatched, and are not the quietest ones."""
    browser.go("/ui/reports")
    summary = api("/reports/summary?from=-23h")
    hours = [hour["start"] for hour in api("/reports/hourly")["periods"] if hour["state"] == "gap"]
    if len(hours) != 2 or summary["gaps"] != 2:
        fail(f"the outage is {hours}")
    places = "return [...document.querySelectorAll('.chart')].map((e) => e.querySelectorAll('rect.gap').length)"
    if browser.script(places) != [2, 2]:
        fail(f"the charts do not show the outage: {browser.script(places)}")
    fill = browser.script("return getComputedStyle(document.querySelector('.chart rect.gap')).fill")
    if "hatch" not in fill:
        fail(f"the outage is not hatched: {fill}")
    if "not reported" not in browser.script("return document.querySelector('.legend').innerText"):
        fail("nothing says what the hatching is")
    quietest = browser.script(
        "return [...document.querySelectorAll('.figure')].find((e) => e.innerText.startsWith('Quietest hour')).innerText")
    if any(hour[:16].replace("T", " ") in quietest for hour in hours) or summary["lowest"]["start"] in hours:
        fail(f"an hour that nobody reported is the quietest: {quietest}")
    if not summary["lowest"]["requests"]:
        fail(f"the quietest hour has nothing: {summary['lowest']}")
    browser.click("summary")
    rows = browser.script("return [...document.querySelectorAll('details tbody tr')].filter((e) => e.innerText.includes('not reported')).length")
    if rows != 2:
        fail(f"the table shows {rows} hours that nobody reported")
    say("the outage is hatched in both charts, said in the table, and not the quietest hour: " + " ".join(quietest.split()))


def charted(sent):
    """The chart's bars show the number of requests that curl has sent."""
    def shown():
        browser.go("/ui/reports?per=minute&route=default")
        titles = browser.script("return [...document.querySelectorAll('.chart .point title')].map((e) => e.textContent)")
        return sum(int(re.search(r"· (\d+) requests", title).group(1)) for title in titles) == sent
    wait(15, f"the chart shows the {sent} requests that curl sent", shown)
    if not browser.script("return document.querySelectorAll('.chart .s4').length"):
        fail("the chart has no bar of 4xx")
    say(f"the chart shows the {sent} requests that curl sent")


def overview(proxy):
    """The overview counts one more request without a reload."""
    browser.go("/")
    live()
    text = "return document.querySelector('.figure dd').textContent"
    before = browser.script(text)
    get(proxy + "/books")
    browser.until("the overview counts it", 10, text + " !== arguments[0]", before)
    say("the overview counted a request by itself")


def drain(proxy):
    browser.go("/ui/pools")
    browser.click("button[value=drain]")
    browser.until("the backend is draining", 10, "return document.querySelector('main').innerText.includes('draining')")
    states = {item["id"]: item["state"] for item in api("/backends?pool=default")["items"]}
    if sorted(states.values()) != ["active", "draining"]:
        fail(f"after the click the states are {states}")
    # Once the nodes have the change, all requests go to the other backend.
    asked = lambda: {get(proxy + "/books")[1]["x-backend"] for _ in range(6)}
    wait(10, "one backend gets everything", lambda: len(asked()) == 1)
    say("a backend was drained by a click, and traffic went to the other one alone")


def rollback():
    browser.go("/ui/pools")
    before = api("/pools/default")["strategy"]
    first = api("/status")["revision"]
    browser.click("select[name=strategy] option[value=least_connections]")
    browser.click("form[action$='/default/strategy'] button")
    browser.until("the strategy is changed", 10, "const s = document.querySelector('select[name=strategy] option[selected]'); return s && s.value === 'least_connections'")
    browser.go(f"/ui/revisions/{first + 1}")
    told = browser.script("return document.querySelector('main').innerText")
    if before not in told or "least_connections" not in told:
        fail(f"the revision's page does not say what changed: {told}")
    inspect("a revision's difference", "light")
    picture("light", "/ui/revisions/difference")
    browser.go("/ui/revisions")
    browser.click(f"form[action$='/revisions/{first}/rollback'] button")
    if str(first) not in browser.accept():
        fail("the question does not say to where")
    browser.until("the change is taken back", 10, f"return document.querySelector('main').innerText.includes('revision {first + 2} is current')")
    if api("/pools/default")["strategy"] != before:
        fail("the rollback changed nothing")
    say("a strategy was changed, its difference shown, and taken back by clicks")


def explain():
    """A request entered in the form is explained; invalid input is reported beside the form."""
    browser.go("/ui/explain")
    browser.write("input[name=url]", "http://weir.example/admin/users")
    browser.write("input[name=client]", "192.0.2.1")
    browser.click("form.card button.primary")
    text = "return document.querySelector('main').innerText"
    browser.until("the filter is explained", 10, text + ".includes('403, 192.0.2.1 is not allowed')")
    inspect("an explained refusal", "light")
    browser.write("textarea[name=headers]", "this is no header")
    browser.click("form.card button.primary")
    browser.until("the mistake is named", 10, "const e = document.querySelector('[role=alert]'); return e && e.innerText.includes('this is no header')")
    if browser.script("return document.querySelector('input[name=url]').value") != "http://weir.example/admin/users":
        fail("the form forgot what was written")
    inspect("an explanation with a mistake", "light")
    say("a request was explained: its filter refuses it, and a mistake is named")


def refusals():
    """Refusals by the filter of /admin are shown with its route and on the overview."""
    for path in ["/", "/ui/routes"]:
        browser.go(path)
        browser.until(f"refusals are on {path}", 10, "return /ip filter \\d/.test(document.querySelector('main').innerText)")
    browser.go("/ui/pools")
    browser.until("refusals of breakers are on /ui/pools", 10, "return /breaker \\d/.test(document.querySelector('main').innerText)")
    say("refusals by filters and breakers are on the overview, the routes and the pools")


def tail(proxy):
    browser.go("/ui/tail")
    live()

    # The node learns of the live view a moment after the stream is open.
    def first():
        get(proxy + "/books")
        return browser.script("return document.querySelector('#tail tbody').rows.length")
    wait(10, "the first request in the tail", first)
    begun = time.monotonic()
    get(proxy + "/books/1")
    # One second is promised; a busy machine gets more time, and the real time is printed.
    browser.until("the request is in the tail", 5, "return document.querySelector('#tail').innerText.includes('/books/1')")
    took = time.monotonic() - begun
    say(f"the tail showed a request {took * 1000:.0f} ms after it was sent")
    for look, width, dark in LOOKS:
        browser.look(width, dark)
        inspect("/ui/tail", look)
        picture(look, "/ui/tail-live")
    browser.look(1280, False)


def login(token):
    """Once a token exists, the dashboard requires a login."""
    browser.go("/ui/nodes")
    for look, width, dark in LOOKS:
        browser.look(width, dark)
        browser.go("/ui/nodes")
        # The browser logs an error for the page that requires a login.
        told = [message for message in browser.console() if "401" not in message]
        if told:
            fail(f"the login says {told}")
        inspect("the login", look)
        picture(look, "/ui/login")
    browser.look(1280, False)
    browser.write("input[name=token]", "weir_wrong")
    browser.press(ENTER)
    browser.until("a wrong token is refused", 10, "return document.querySelector('[role=alert]')")
    browser.write("input[name=token]", token)
    browser.click("button.primary")
    browser.until("one gets to where one wanted", 10, "return location.pathname === '/ui/nodes' && document.querySelector('h1').innerText === 'Nodes'")
    browser.console()
    live()
    browser.click("form[action='/ui/logout'] button")
    browser.until("one is out", 10, "return document.querySelector('input[name=token]')")
    say("the login refuses a wrong token, takes a right one, leads to the page that was asked for, and ends")


try:
    if part == "empty":
        visit(EMPTY, "empty-")
    elif part == "login":
        login(sys.argv[7])
    else:
        proxy = sys.argv[7]
        visit(FULL)
        charted(int(sys.argv[8]))
        outage()
        refusals()
        explain()
        overview(proxy)
        keyboard()
        drain(proxy)
        rollback()
        tail(proxy)
        if told := browser.console():
            fail(f"the console says {told}")
finally:
    browser.close()
