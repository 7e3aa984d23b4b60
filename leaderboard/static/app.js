// Theme, sorting, filtering, deep links, and stepping through an episode. The pages are complete without it.
"use strict";

const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (stored) document.documentElement.dataset.theme = stored;

document.addEventListener("DOMContentLoaded", () => {
  themeButton();
  for (const table of document.querySelectorAll("table")) sortable(table);
  if (document.getElementById("controls")) board();
  if (document.querySelector("main.viewer")) viewer();
});

function themeButton() {
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private windows keep nothing */ }
  });
}

// Tables.

function sortable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const texts = head.classList.contains("agent") || head.classList.contains("rank");
      const first = texts || column === 0 ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort");
      sort(table, column, order === null ? first : order === "ascending" ? "descending" : "ascending");
      table.dispatchEvent(new CustomEvent("sorted", { bubbles: true }));
    });
  });
}

function sort(table, column, order) {
  const body = table.tBodies[0];
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
  const rows = [...body.rows].map((row) => [value(row), row]);
  const numbers = rows.every(([v]) => v !== "" && !Number.isNaN(Number(v)));
  const compare = numbers ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
  rows.sort(([a], [b]) => sign * compare(a, b));
  body.append(...rows.map(([, row]) => row));
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", order);
}

// The board: what is shown stands in the address, so that it can be sent to somebody.

function board() {
  const panel = document.getElementById("panel");
  const track = document.getElementById("track");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const sections = [...document.querySelectorAll("section.panel")];

  function show() {
    let count = 0;
    for (const section of sections) {
      section.hidden = section.dataset.slug !== panel.value;
      if (section.hidden) continue;
      for (const row of section.querySelectorAll("tbody tr")) {
        const fits = (!track.value || row.dataset.track === track.value || row.dataset.track === "reference")
          && row.dataset.search.includes(search.value.trim().toLowerCase());
        row.hidden = !fits;
        count += fits;
      }
    }
    shown.value = `${count} ${count === 1 ? "row" : "rows"}`;
  }

  function write() {
    const query = new URLSearchParams({ panel: panel.value });
    if (track.value) query.set("track", track.value);
    if (search.value) query.set("q", search.value);
    const sorted = sections.find((s) => !s.hidden)?.querySelector("[aria-sort]");
    if (sorted) query.set("sort", (sorted.getAttribute("aria-sort") === "descending" ? "-" : "") + sorted.className);
    history.replaceState(null, "", "#" + query);
  }

  function readAddress() {
    const query = new URLSearchParams(location.hash.slice(1));
    const slug = query.get("panel");
    panel.value = sections.some((s) => s.dataset.slug === slug) ? slug : sections[0].dataset.slug;
    track.value = [...track.options].some((o) => o.value === query.get("track")) ? query.get("track") : "";
    search.value = query.get("q") ?? "";
    show();
    const key = query.get("sort") ?? "";
    for (const table of sections.find((s) => !s.hidden).querySelectorAll("table")) {
      const column = [...table.tHead.rows[0].cells].findIndex((h) => h.className === key.replace(/^-/, ""));
      if (column >= 0) sort(table, column, key.startsWith("-") ? "descending" : "ascending");
    }
  }

  for (const control of [panel, track, search]) {
    control.addEventListener("input", () => { show(); write(); });
  }
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("sorted", write);
  addEventListener("hashchange", readAddress);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !typing(event)) { event.preventDefault(); search.focus(); }
  });
  readAddress();
}

// The episode viewer.

function viewer() {
  const trials = [...document.querySelectorAll("article")].map((a) => [...a.querySelectorAll(".step")]);
  let trial = 0, step = 0;

  function go(toTrial, toStep, scroll = true) {
    document.querySelector(".step.now")?.classList.remove("now");
    trial = (toTrial + trials.length) % trials.length;
    step = Math.max(0, Math.min(toStep, trials[trial].length - 1));
    const element = trials[trial][step];
    element.classList.add("now");
    element.setAttribute("aria-current", "step");
    element.focus({ preventScroll: true });
    if (scroll) element.scrollIntoView({ block: "nearest" });
    history.replaceState(null, "", "#" + element.id);
  }

  function fromAddress() {
    const id = location.hash.slice(1);
    const found = trials.findIndex((steps) => steps.some((s) => s.id === id));
    if (found >= 0) go(found, trials[found].findIndex((s) => s.id === id));
  }

  const keys = {
    j: () => go(trial, step + 1), ArrowRight: () => go(trial, step + 1),
    k: () => go(trial, step - 1), ArrowLeft: () => go(trial, step - 1),
    Home: () => go(trial, 0), End: () => go(trial, Infinity),
    t: () => go(trial + 1, step), T: () => go(trial - 1, step),
    n: () => document.querySelector("a[rel=next]")?.click(),
    p: () => document.querySelector("a[rel=prev]")?.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (!typing(event) && keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  trials.forEach((steps, t) => steps.forEach((element, s) => element.addEventListener("click", () => {
    if (!String(getSelection())) go(t, s, false);
  })));
  addEventListener("hashchange", fromAddress);
  if (location.hash) fromAddress(); else trials[0][0].classList.add("now");
}

function typing(event) {
  return event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
}
