// The dashboard's only script: keeps pages live by server-sent events, and fills the live tail. Without it every
// page and button still works, but the user must reload a page to see changes.
"use strict";

const link = document.querySelector(".link");
const say = (state, text) => {
  if (link) {
    link.dataset.state = state;
    link.textContent = text;
  }
};

// Closes the stream when the user leaves the page. A browser opens at most six connections per origin, and keeps those of
// pages in its back/forward cache: without this, the seventh page waits for a minute.
const watch = (address, open, handlers) => {
  let source = null;
  let wanted = true;
  const stop = () => {
    if (source) source.close();
    source = null;
  };
  const start = () => {
    if (source || !wanted) return;
    source = new EventSource(address);
    source.addEventListener("open", () => say("live", open));
    source.addEventListener("error", () => say("lost", "Connection lost, trying again"));
    for (const [name, handler] of Object.entries(handlers)) source.addEventListener(name, handler);
  };
  addEventListener("pagehide", stop);
  addEventListener("pageshow", start);
  start();
  const want = (is) => {
    wanted = is;
    if (is) start();
    else stop();
  };
  return want;
};

// The server sends the page's live part whenever it changes. A part in which the user types or selects text is updated
// only by the next event. Keyboard focus stays where it is, and a hidden tab is not updated.
const live = document.querySelector(".live[data-events]");
if (live) {
  const want = watch(live.dataset.events, "Live", {
    page: (event) => {
      const focused = document.activeElement;
      if (live.contains(focused) && focused.matches("input, select, textarea, button, summary")) return;
      if (live.querySelector("details[open]") || !getSelection().isCollapsed) return;
      const stops = () => [...live.querySelectorAll("a, [tabindex]")];
      const at = stops().indexOf(focused);
      live.innerHTML = event.data;
      if (at >= 0) stops()[at]?.focus({ preventScroll: true });
    },
  });
  const look = () => want(!document.hidden);
  document.addEventListener("visibilitychange", look);
  look();
}

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// The tail: newest first, with a limited number of rows. Values are inserted as text, never as HTML.
const tail = document.querySelector("#tail");
if (tail) {
  const body = tail.querySelector("tbody");
  const note = document.querySelector("#tail-note");
  const pause = document.querySelector("#tail-pause");
  let lost = 0;
  let seen = 0;
  const cells = (event) => [
    ["Time", new Date(event.time).toLocaleTimeString(undefined, { hour12: false })],
    ["Status", String(event.status), event.status >= 500 ? "badge bad" : event.status >= 400 ? "badge warn" : "badge ok"],
    ["Outcome", (event.outcome || "–").replaceAll("_", " "), event.outcome === "cut_by_backend" ? "badge bad" : ""],
    // A tunnel or stream has a duration and no latency.
    ["Latency", event.duration_ms.toFixed(1) + " ms" + (event.latency_ms === null ? " " + event.kind.replaceAll("_", " ") : ""), "n"],
    ["Request", event.method + " " + event.host + event.path, "mono"],
    ["Route", event.route || "–"],
    ["Backend", event.backend || "–"],
    ["Client", event.client],
    ["Node", event.node],
  ];
  const add = (event) => {
    const row = document.createElement("tr");
    for (const [label, text, kind] of cells(event)) {
      const cell = row.insertCell();
      cell.dataset.label = label;
      const into = kind && kind.startsWith("badge") ? cell.appendChild(document.createElement("span")) : cell;
      if (kind) into.className = kind;
      into.textContent = text;
    }
    body.prepend(row);
    while (body.rows.length > 200) body.deleteRow(-1);
  };
  const count = () => {
    document.querySelector("#tail-empty")?.remove();
    note.textContent = seen + " requests" + (lost ? ", " + lost + " left out: too many at once" : "");
  };
  const want = watch("/reports/tail" + tail.dataset.query, "Watching", {
    request: (event) => {
      seen += 1;
      add(JSON.parse(event.data));
      count();
    },
    dropped: (event) => {
      lost += Number(event.data);
      count();
    },
  });
  let watching = true;
  pause.hidden = false;
  pause.addEventListener("click", () => {
    watching = !watching;
    want(watching);
    pause.textContent = watching ? "Pause" : "Go on";
    if (!watching) say("", "Paused");
  });
}
