// The dashboard's only script: keeps pages live by server-sent events, and fills the live tail. Without it every page
// and every button works all the same; only what changes has to be loaded again.
"use strict";

const link = document.querySelector(".link");
const say = (state, text) => {
  if (link) {
    link.dataset.state = state;
    link.textContent = text;
  }
};

// The server sends the page's live part whenever it differs. A part in which somebody is typing waits for the next.
const live = document.querySelector(".live[data-events]");
if (live) {
  const events = new EventSource(live.dataset.events);
  events.addEventListener("open", () => say("live", "Live"));
  events.addEventListener("error", () => say("lost", "Connection lost, trying again"));
  events.addEventListener("page", (event) => {
    const focused = document.activeElement;
    if (live.contains(focused) && focused.matches("input, select, button, summary")) return;
    if (live.querySelector("details[open]")) return;
    live.innerHTML = event.data;
  });
}

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// The tail: newest first, a bounded number of rows, written as text only.
const tail = document.querySelector("#tail");
if (tail) {
  const body = tail.querySelector("tbody");
  const note = document.querySelector("#tail-note");
  const pause = document.querySelector("#tail-pause");
  let source = null;
  let lost = 0;
  let seen = 0;
  const cells = (event) => [
    ["Time", new Date(event.time).toLocaleTimeString(undefined, { hour12: false })],
    ["Status", String(event.status), event.status >= 500 ? "badge bad" : event.status >= 400 ? "badge warn" : "badge ok"],
    ["Latency", event.latency_ms.toFixed(1) + " ms", "n"],
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
    note.textContent = seen + " requests" + (lost ? ", " + lost + " left out: too many at once" : "");
  };
  const start = () => {
    source = new EventSource("/reports/tail" + tail.dataset.query);
    source.addEventListener("open", () => say("live", "Watching"));
    source.addEventListener("error", () => say("lost", "Connection lost, trying again"));
    source.addEventListener("request", (event) => {
      seen += 1;
      add(JSON.parse(event.data));
      count();
    });
    source.addEventListener("dropped", (event) => {
      lost += Number(event.data);
      count();
    });
    pause.textContent = "Pause";
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (source) {
      source.close();
      source = null;
      say("", "Paused");
      pause.textContent = "Go on";
    } else {
      start();
    }
  });
  start();
}
