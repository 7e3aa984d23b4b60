"use strict";
// Texts from a run reach the page through textContent only.
const PAGE = 200;
const $ = (id) => document.getElementById(id);
const make = (tag, cls, text) => {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (text !== undefined) made.textContent = text;
  return made;
};
let runs = [], tasks = [], shown = [], page = 0;

const key = (row) => JSON.stringify([row.task_id, row.attempt]);

async function start() {
  const raw = await (await fetch("runs.json")).json();
  runs = raw.map((run) => ({ ...run, rows: run.rows.map((cells, number) =>
    Object.assign({ number }, Object.fromEntries(run.columns.map((name, i) => [name, cells[i]])))) }));
  const groups = new Map();
  runs.forEach((run, r) => run.rows.forEach((row) => {
    const k = key(row);
    if (!groups.has(k)) groups.set(k, { task_id: row.task_id, task_type: row.task_type, attempt: row.attempt,
      cells: runs.map(() => []) });
    groups.get(k).cells[r].push(row);
  }));
  tasks = [...groups.values()];
  for (const task of tasks) for (const cell of task.cells) cell.sort((a, b) => a.trial - b.trial);
  $("about").textContent = runs.map((run) =>
    `${run.conditions.agent} on ${run.conditions.panel.name}, ${run.rows.length} episodes (${run.name})`).join("; ");
  for (const type of [...new Set(tasks.map((t) => t.task_type))].sort()) {
    const option = make("option", "", type);
    option.value = type;
    $("type").append(option);
  }
  const head = make("tr");
  for (const title of ["Task", "Try", ...runs.map((run) => run.conditions.agent)]) head.append(make("th", "", title));
  $("head").append(head);
  for (const id of ["find", "type", "show"]) $(id).addEventListener("input", () => { page = 0; list(); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("less").addEventListener("click", () => { page -= 1; list(); });
  $("more").addEventListener("click", () => { page += 1; list(); });
  document.addEventListener("keydown", keys);
  list();
}

const short = (number) => String(Number(number.toFixed(3)));
const last = (cell) => cell[cell.length - 1];
const won = (cell) => cell.length > 0 && last(cell).success;

function wanted(task) {
  const show = $("show").value;
  if ($("find").value && !task.task_id.includes($("find").value)) return false;
  if ($("type").value && task.task_type !== $("type").value) return false;
  if (show === "won") return task.cells.some(won);
  if (show === "lost") return task.cells.some((cell) => cell.length && !won(cell));
  if (show === "error") return task.cells.some((cell) => cell.length && last(cell).ended === "error");
  if (show === "differ") return new Set(task.cells.map(won)).size > 1;
  return true;
}

function list() {
  shown = tasks.filter(wanted);
  page = Math.max(0, Math.min(page, Math.ceil(shown.length / PAGE) - 1));
  const from = page * PAGE;
  $("count").textContent = `${shown.length} of ${tasks.length}` + (shown.length > PAGE ? `, from ${from + 1}` : "");
  $("less").disabled = page === 0;
  $("more").disabled = from + PAGE >= shown.length;
  const rows = shown.slice(from, from + PAGE).map((task) => {
    const tr = make("tr");
    tr.tabIndex = 0;
    tr.append(make("td", "task", task.task_id), make("td", "", String(task.attempt)));
    for (const cell of task.cells) {
      const text = cell.length ? `${last(cell).ended === "error" ? "error" : last(cell).score.toFixed(2)} · ` +
        `${last(cell).steps} steps` + (cell.length > 1 ? ` · ${cell.length} trials` : "") : "–";
      tr.append(make("td", cell.length ? (won(cell) ? "good" : "bad") : "quiet", text));
    }
    tr.addEventListener("click", () => open(task, tr));
    return tr;
  });
  $("rows").replaceChildren(...rows);
}

async function open(task, tr) {
  for (const other of document.querySelectorAll("tr[aria-selected]")) other.removeAttribute("aria-selected");
  tr.setAttribute("aria-selected", "true");
  tr.focus();
  const read = async (row, r) => row && (await fetch(`episode.json?run=${r}&row=${row.number}`)).json();
  const trials = Array.from({ length: Math.max(...task.cells.map((cell) => cell.length)) }, (_, t) => t);
  const found = await Promise.all(trials.map((t) => Promise.all(task.cells.map((cell, r) => read(cell[t], r)))));
  const side = make("div", runs.length > 1 ? "side pair" : "side");
  for (const row of found) row.forEach((episode, r) => side.append(episode ? article(episode, runs[r]) : make("div")));
  $("episode").replaceChildren(make("h2", "", task.task_id), side);
  $("episode").scrollTop = 0;
}

function article(episode, run) {
  const made = make("article");
  const title = runs.length > 1 ? `${run.conditions.agent}, ` : "";
  made.append(make("h2", "", `${title}attempt ${episode.attempt}, trial ${episode.trial}`));
  const why = episode.error ? `${episode.ended}: ${episode.error}` : episode.ended;
  const end = episode.ended === "error" ? why : `${episode.success ? "solved" : "not solved"} (${why})`;
  made.append(make("p", episode.success ? "good" : "bad", `${end}, score ${episode.score.toFixed(2)}`));
  for (const memory of episode.memory || []) made.append(make("pre", "thought", `remembers: ${memory}`));
  episode.steps.forEach((step, i) => {
    made.append(make("pre", "", step.observation));
    if (step.response !== step.action) made.append(make("pre", "thought", step.response));
    made.append(make("pre", "act", `${i + 1} > ${step.action}`));
    made.append(make("div", "facts", `reward ${short(step.reward)}, score ${short(step.score)}, progress ${short(step.progress)}` +
      (step.invalid ? ", invalid" : "") + (step.parse_failed ? ", unreadable" : "")));
  });
  made.append(make("pre", "", episode.final_observation));
  return made;
}

function keys(event) {
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const rows = [...document.querySelectorAll("#rows tr")];
  const opened = rows.findIndex((row) => row.hasAttribute("aria-selected"));
  const on = rows.indexOf(document.activeElement);
  const at = on >= 0 ? on : opened;
  if (event.key === "j" && at < rows.length - 1) rows[at + 1].focus();
  else if (event.key === "j" && !$("more").disabled) turn("more", "firstChild");
  else if (event.key === "k" && at > 0) rows[at - 1].focus();
  else if (event.key === "k" && at === 0 && !$("less").disabled) turn("less", "lastChild");
  else if (event.key === "Enter" && on >= 0) {
    rows[on].click();
    $("episode").focus();
  } else if (event.key === "Escape" && document.activeElement === $("episode")) (rows[opened] || rows[0])?.focus();
}

function turn(button, row) {
  $(button).click();
  $("rows")[row].focus();
}

start();
