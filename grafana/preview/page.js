// The page: what its address says is shown, and asked again as often as the dashboard says.

import { clock, day, el, named } from "./format.js";
import { Away, ask, frame, instant, scrapeInterval, seconds, series, sinceFirst, spanOf, text } from "./prometheus.js";
import { rowsOf } from "./rows.js";
import { control, isAll, isOfRun, resolve } from "./variables.js";

const NAMES = ["run", "engine-and-gpu", "instrument", "compare-runs"];
const RANGES = { "5m": "5 minutes", "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours" };
const EVER = { from: 0, to: 8e12 }; // as long as Prometheus keeps data
const AGAIN_MS = 5000; // where nobody answers
const ANNOTATION_STEP_S = 5;
const $ = (id) => document.getElementById(id);

const page = {
  boards: null, scrape_s: 0, number: 0, turn: null, rows: [], shown: "", offered: "", away: 0, timer: 0,
};
let state = read(location.search);

// -- the address: ?board=run&from=now-15m&to=now&var-run_id=..., as Grafana's. Without times they are those of the run.

function read(search) {
  const query = new URLSearchParams(search), variables = {};
  for (const [key, value] of query) {
    if (key.startsWith("var-")) (variables[key.slice(4)] ??= []).push(value === "All" ? "$__all" : value);
  }
  const name = NAMES.includes(query.get("board")) ? query.get("board") : NAMES[0];
  const [from, to] = ["from", "to"].map((key) => (Number.isNaN(instant(query.get(key) ?? "")) ? null : query.get(key)));
  return { name, from, to: to ?? "now", variables };
}

function address({ name, from, to, variables }) {
  const query = new URLSearchParams({ board: name, ...(from ? { from, to } : {}) });
  for (const [key, values] of Object.entries(variables)) {
    if (!isAll(values)) for (const value of values) query.append(`var-${key}`, value);
  }
  return `?${query}`;
}

function go(changes, strict = false) {
  state = { ...state, ...changes };
  history.pushState(null, "", address(state));
  turn(strict);
}

/** Where a link to a run leads here: /d/llmload-run/run?... is ?board=run&..., without the times that Grafana needs. */
function addressOf(link) {
  const [, name, query] = /^\/d\/llmload-([\w-]+)\/[^?]*\??(.*)$/.exec(link) ?? [];
  if (!name) return link;
  const { variables } = read(`?board=${name}&${query}`);
  delete variables.datasource;
  return address({ name, variables });
}

const host = {
  zoom: (from, to) => go({ from: String(Math.round(from)), to: String(Math.round(to)) }),
  widthOf: (columns) => Math.max(100, ($("panels").clientWidth * columns) / 24),
  addressOf,
};

// -- what is asked before the panels

async function ready() {
  if (page.boards) return;
  const files = await Promise.all(NAMES.map((name) => text(`../dashboards/${name}.json`)));
  const missing = NAMES.filter((_, i) => !files[i].ok);
  if (missing.length) throw new Error(`There is no dashboards/${missing[0]}.json beside this page.`);
  page.scrape_s = await scrapeInterval();
  page.boards = Object.fromEntries(NAMES.map((name, i) => [name, JSON.parse(files[i].body)]));
}

/** The times of a run, or from the first of several runs to now; those of the dashboard where there is no run. */
async function timesOf(board, run) {
  const usual = inMs(board.time);
  return isOfRun(board) ? await spanOf(run, page.scrape_s) ?? usual : sinceFirst(run, usual);
}

function inMs(times) {
  const now = Date.now(), from = instant(times.from, now), to = instant(times.to, now);
  return from < to ? { from, to } : { from: to - 1000, to };
}

// A mark where a series has the time, in ms, as its value.
async function marksOf(board, values, range) {
  const asked = frame(range, Math.max(ANNOTATION_STEP_S, page.scrape_s), 2000);
  const own = board.annotations.list.filter(({ useValueForTime, enable }) => useValueForTime && enable);
  const found = await Promise.all(own.map(async (annotation) => {
    const marks = new Map();
    for (const { labels, values: at } of await series(annotation, values, asked)) {
      const mark = { title: named(annotation.titleFormat, labels), text: named(annotation.textFormat, labels) };
      for (const ms of at) {
        if (ms) marks.set(`${mark.title} ${ms}`, { ...mark, time: ms / 1000, colour: annotation.iconColor });
      }
    }
    return [...marks.values()];
  }));
  return found.flat().sort((a, b) => a.time - b.time);
}

// The reservations of the runs that are shown, which a picture of this page has to tell as well.
async function reservationsOf({ run_id, runs }, { from, to }) {
  const chosen = run_id === undefined ? `run_id=~"${runs}"` : `run_id="${run_id}"`;
  const span = Math.ceil((to - from) / 1000);
  const query = `count by (reservation) (last_over_time(llmload_run_info{${chosen}, reservation!=""}[${span}s]))`;
  const { result } = await ask("query", { query, time: to / 1000 });
  return result.map(({ metric }) => metric.reservation);
}

// -- a turn: everything is asked again

async function turn(strict = false) {
  const number = ++page.number;
  clearTimeout(page.timer);
  try {
    await ready();
    const board = page.boards[state.name], variables = structuredClone(state.variables);
    const { values, found, times: range } = state.from
      ? await resolve(board, variables, inMs(state), strict)
      : await resolve(board, variables, isOfRun(board) ? EVER : inMs(board.time), strict, (run) => timesOf(board, run));
    const [marks, reservations] = await Promise.all([marksOf(board, values, range), reservationsOf(values, range)]);
    if (number !== page.number) return;
    state.variables = variables;
    history.replaceState(null, "", address(state));
    page.turn = { number, range, values, marks, scrape_s: page.scrape_s };
    showChoices(board, found, reservations);
    place(board);
    await Promise.all(page.rows.flatMap((row) => row.asked).map((panel) => panel.refresh(page.turn)));
    if (number === page.number) answered();
  } catch (error) {
    if (number === page.number) failed(error);
  }
  if (number === page.number) later();
}

function later() {
  const own = page.boards && state.to === "now" ? 1000 * seconds(page.boards[state.name].refresh) : Infinity;
  const pause = page.away ? Math.min(AGAIN_MS, own) : own;
  if (Number.isFinite(pause) && !document.hidden) page.timer = setTimeout(turn, pause);
}

function answered() {
  page.away = 0;
  $("away").hidden = true;
  document.body.classList.remove("old");
  $("asked").textContent = `\u00B7 asked at ${clock(Date.now())}`;
}

function failed(error) {
  page.away ||= Date.now();
  const since = error instanceof Away ? ` (since ${clock(page.away)}). Trying on.` : "";
  $("away").textContent = error.message + since;
  $("away").hidden = false;
  document.body.classList.add("old");
}

// -- the header

function showChoices(board, found, reservations) {
  document.title = `${board.title} \u00B7 Preview, not Grafana`;
  showNotice(found);
  const times = timeControl(board), options = found.map(({ variable, options }) => [variable.name, options]);
  const key = JSON.stringify([state, options, reservations, state.from ? "" : times.textContent]);
  if (key === page.offered) return;
  page.offered = key;
  showTabs();
  const open = $("choices").querySelector("details[open]")?.dataset.name;
  const controls = found.map((each) => control(each, state.variables[each.variable.name], (chosen) => {
    go({ variables: { ...state.variables, [each.variable.name]: chosen } }, true);
  }));
  $("choices").replaceChildren(...controls, times, ...reservations.map((word) => el("span", "chip", word)));
  if (open) $("choices").querySelector(`details[data-name="${open}"]`)?.setAttribute("open", "");
}

// The other dashboards, with the same times and variables.
function showTabs() {
  $("boards").replaceChildren(...NAMES.map((name) => {
    const tab = el("a", "", page.boards[name].title);
    tab.href = address({ ...state, name });
    tab.title = page.boards[name].description;
    if (name === state.name) tab.setAttribute("aria-current", "page");
    return tab;
  }));
}

function timeControl(board) {
  const box = el("label", "choice"), select = el("select"), { from, to } = state, { range } = page.turn;
  const usual = isOfRun(board) ? "Whole run" : `Runs of the last ${RANGES[board.time.from.slice("now-".length)]}`;
  const last = from && to === "now" ? from.slice("now-".length) : null, isOther = from && !(last in RANGES);
  select.name = "time";
  const times = from || range.goesOn === undefined ? "" : `: ${written(range)}`;
  select.append(new Option(usual + times, "", false, !from));
  for (const [span, words] of Object.entries(RANGES)) {
    select.append(new Option(`Last ${words}`, `now-${span}`, false, span === last));
  }
  if (isOther) select.append(new Option(written(range), from, false, true));
  select.addEventListener("change", () => go({ from: select.value || null, to: "now" }));
  box.append(el("span", "", "Time"), select);
  return box;
}

const written = ({ from, to, goesOn }) => `${day(from)} ${clock(from)} to ${goesOn ? "now" : clock(to)}`;

function showNotice(found) {
  const runs = found.find(({ variable }) => variable.definition.endsWith(", run_id)"));
  $("notice").hidden = runs.options.length > 0;
  $("notice").textContent = "Prometheus has no run in these times. Start one: its metrics are at 127.0.0.1:9646, "
    + "or where --metrics says, and Prometheus has to scrape them there. This page updates by itself.";
}

// -- the panels

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) for (const row of page.rows) row.see(target, isIntersecting);
  for (const panel of page.rows.flatMap((row) => row.asked)) {
    if (page.turn && panel.turn !== page.turn.number) panel.refresh(page.turn).catch(failed);
  }
}, { rootMargin: "400px" }); // what nobody sees is not asked

function place(board) {
  if (page.shown === board.uid) return;
  page.shown = board.uid;
  watcher.disconnect();
  for (const panel of page.rows.flatMap(({ panels }) => panels)) panel.leave();
  page.rows = rowsOf(board, host);
  $("panels").replaceChildren(...page.rows.map(({ element }) => element));
  for (const row of page.rows) for (const { element } of [row, ...row.panels]) watcher.observe(element);
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("#choices details[open]")) menu.open = menu.contains(event.target);
  const link = event.target.closest("a[href^='?']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(read(link.getAttribute("href")));
  scrollTo(0, 0);
});
addEventListener("popstate", () => { state = read(location.search); turn(); });
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(page.timer) : turn()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => turn());
$("choices").addEventListener("submit", (event) => event.preventDefault());
turn();
