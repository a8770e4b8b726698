// The page: what its address says is shown, and asked again as often as the dashboard says.

import { clock, el, named } from "./format.js";
import { Panel } from "./panels.js";
import { Away, ask, filled, frame, instant, scrapeInterval, seconds, series, text } from "./prometheus.js";
import { control, isAll, resolve } from "./variables.js";

const NAMES = ["run", "engine-and-gpu", "instrument", "compare-runs"];
const RANGES = { "5m": "5 minutes", "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours" };
const AGAIN_MS = 5000; // where nobody answers
const ANNOTATION_STEP_S = 5;
const $ = (id) => document.getElementById(id);

const page = {
  boards: null, scrape_s: 0, number: 0, turn: null, panels: [], shown: "", offered: "", away: 0, timer: 0,
};
let state = read(location.search);

// -- the address: ?board=run&from=now-15m&to=now&var-run_id=..., as Grafana's

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

/** Where a link of a dashboard leads, here: /d/llmload-run/run?... is ?board=run&... */
function addressOf(link) {
  const [, name, query] = /^\/d\/llmload-([\w-]+)\/[^?]*\??(.*)$/.exec(link) ?? [];
  if (!name) return link;
  const { variables, ...rest } = read(`?board=${name}&${query}`);
  delete variables.datasource;
  return address({ ...rest, variables });
}

const host = {
  zoom: (from, to) => go({ from: String(Math.round(from)), to: String(Math.round(to)) }),
  timeRange: () => `from=${state.from}&to=${state.to}`,
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

function rangeOf() {
  const now = Date.now(), from = instant(state.from, now), to = instant(state.to, now);
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
    const board = page.boards[state.name];
    state.from ??= board.time.from;
    const range = rangeOf(), variables = structuredClone(state.variables);
    const { values, found } = await resolve(board, variables, range, strict);
    const [marks, reservations] = await Promise.all([marksOf(board, values, range), reservationsOf(values, range)]);
    if (number !== page.number) return;
    state.variables = variables;
    history.replaceState(null, "", address(state));
    page.turn = { number, range, values, marks, scrape_s: page.scrape_s };
    showChoices(board, found, reservations);
    place(board);
    await Promise.all(page.panels.filter((panel) => panel.seen).map((panel) => panel.refresh(page.turn)));
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
  const key = JSON.stringify([state, found.map(({ variable, options }) => [variable.name, options]), reservations]);
  if (key === page.offered) return;
  page.offered = key;
  showTabs();
  const open = $("choices").querySelector("details[open]")?.dataset.name;
  const controls = found.map((each) => control(each, state.variables[each.variable.name], (chosen) => {
    go({ variables: { ...state.variables, [each.variable.name]: chosen } }, true);
  }));
  $("choices").replaceChildren(...controls, timeControl(), ...reservations.map((word) => el("span", "chip", word)));
  if (open) $("choices").querySelector(`details[data-name="${open}"]`)?.setAttribute("open", "");
}

// The other dashboards, at the same time and with the same variables.
function showTabs() {
  $("boards").replaceChildren(...NAMES.map((name) => {
    const tab = el("a", "", page.boards[name].title);
    tab.href = address({ ...state, name });
    tab.title = page.boards[name].description;
    if (name === state.name) tab.setAttribute("aria-current", "page");
    return tab;
  }));
}

function timeControl() {
  const box = el("label", "choice"), select = el("select"), { from, to } = rangeOf();
  const relative = state.to === "now" && state.from.slice("now-".length) in RANGES;
  select.name = "time";
  for (const [span, words] of Object.entries(RANGES)) {
    select.append(new Option(`Last ${words}`, `now-${span}`, false, relative && state.from === `now-${span}`));
  }
  if (!relative) select.append(new Option(`${clock(from)} to ${clock(to)}`, "", false, true));
  select.addEventListener("change", () => select.value && go({ from: select.value, to: "now" }));
  box.append(el("span", "", "Time"), select);
  return box;
}

function showNotice(found) {
  const runs = found.find(({ variable }) => variable.definition.endsWith(", run_id)"));
  $("notice").hidden = runs.options.length > 0;
  $("notice").textContent = "Prometheus knows of no run in this time range. Start one: it tells its metrics where "
    + "--metrics says (127.0.0.1:9646 by itself), and Prometheus has to scrape them there. This page follows.";
}

// -- the panels

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const panel = page.panels.find(({ element }) => element === target);
    if (!panel) continue;
    panel.seen = isIntersecting;
    if (panel.seen && page.turn && panel.turn !== page.turn.number) panel.refresh(page.turn).catch(failed);
  }
}, { rootMargin: "400px" }); // what nobody sees is not asked

function place(board) {
  if (page.shown === board.uid) return;
  page.shown = board.uid;
  watcher.disconnect();
  for (const panel of page.panels) panel.leave();
  page.panels = board.panels.filter(({ type }) => type !== "row").map((json) => new Panel(json, host));
  const rows = board.panels.filter(({ type }) => type === "row").map(({ title, gridPos }) => {
    const heading = el("h2", "", title);
    heading.style.setProperty("--y", gridPos.y);
    return heading;
  });
  const at = (element, name) => Number(element.style.getPropertyValue(name));
  const top = (element) => 100 * at(element, "--y") + at(element, "--x");
  const elements = [...rows, ...page.panels.map(({ element }) => element)].sort((a, b) => top(a) - top(b));
  $("panels").replaceChildren(...elements);
  for (const { element } of page.panels) watcher.observe(element);
}

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details[open]")) if (!open.contains(event.target)) open.open = false;
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
