// Asks the Prometheus that serves this page, as Grafana's data source does.

const API = "../../api/v1/", TIMEOUT_MS = 15000;
const UNITS_S = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
const STEPS_S = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** Nobody answers; an Error is an answer that says what is wrong. */
export class Away extends Error {}

/** Text of what this server has at a path. */
export async function text(path) {
  try {
    const response = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = await response.text();
    if (response.status === 503) throw new Away("Prometheus is not ready");
    return { ok: response.ok, status: response.status, body };
  } catch (error) {
    if (error instanceof Away) throw error;
    throw new Away(error.name === "TimeoutError" ? "Prometheus is slow to answer" : "Prometheus does not answer");
  }
}

export async function ask(route, parameters = {}) {
  const { status, body } = await text(`${API}${route}?${new URLSearchParams(parameters)}`);
  let answer = {};
  try {
    answer = JSON.parse(body);
  } catch {
    throw new Error(`Prometheus answered ${status}: ${body.slice(0, 200)}`);
  }
  if (answer.status !== "success") throw new Error(answer.error ?? `Prometheus answered ${status}`);
  return answer.data;
}

/** Seconds of a duration such as 5s or 1m30s. */
export function seconds(duration) {
  const parts = [...duration.matchAll(/(\d+)(ms|[smhdw])/g)];
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS_S[unit], 0);
}

/** How often it scrapes: what the data source's interval would be set to in Grafana. */
export async function scrapeInterval() {
  const { yaml } = await ask("status/config");
  const [, interval] = /^global:\n(?: .*\n)*? +scrape_interval: (\S+)/m.exec(yaml) ?? [null, "1m"];
  return seconds(interval) || 60;
}

/** Ms of a time as Grafana writes it: Unix time in ms, now, or now-15m. */
export function instant(time, now = Date.now()) {
  if (/^\d+$/.test(time)) return Number(time);
  const back = /^now(?:-(\d+[smhdw]))?$/.exec(time);
  return back ? now - 1000 * seconds(back[1] ?? "") : NaN;
}

const EVER = "5y"; // longer than any Prometheus keeps data
const WINDOWS = 1000;

/** The times of a run in ms: from its start to its end, or to now while it goes on. Null for an unknown run.
 *
 * ``run``: its id, as it is written into PromQL. After a run its process may still be scraped, in the state "ended".
 */
export async function spanOf(run, scrape_s, now = Date.now()) {
  const began = `max(max_over_time(llmload_run_start_timestamp_seconds{run_id="${run}"}[${EVER}]))`;
  const { result: [start] } = await ask("query", { query: began, time: now / 1000 });
  if (!start) return null;
  const from = 1000 * Number(start.value[1]), last = await lastBeforeEnd(run, from, now) ?? from;
  const to = last + 2000 * scrape_s; // its last figures came with the next scrape
  return { from: Math.floor(from), to: Math.min(now, to), goesOn: to >= now };
}

/** The times in ms from the first start of several runs to now, within a range. ``runs``: a pattern of their ids. */
export async function sinceFirst(runs, { from, to }) {
  const span = Math.ceil((to - from) / 1000);
  const query = `min(min_over_time(llmload_run_start_timestamp_seconds{run_id=~"${runs}"}[${span}s]))`;
  const { result: [start] } = await ask("query", { query, time: to / 1000 });
  return start ? { from: Math.max(from, Math.floor(1000 * Number(start.value[1]))), to, goesOn: true } : { from, to };
}

// The time of the last sample in which a run has not ended. One window of many has it, so that few samples are read,
// however long ago and however long the run was.
async function lastBeforeEnd(run, from, now) {
  const states = `llmload_run_state{run_id="${run}", state!="ended"}`;
  const width = Math.max(1, Math.ceil((now - from) / 1000 / WINDOWS)), end = now / 1000;
  const query = `max(max_over_time(${states}[${width}s])) == 1`;
  const start = end - width * Math.ceil((now - from) / 1000 / width);
  const { result: [windows] } = await ask("query_range", { query, start, end, step: width });
  if (!windows) return null;
  const [time] = windows.values.at(-1), { result } = await ask("query", { query: `${states}[${width}s]`, time });
  const samples = result.flatMap(({ values }) => values.filter(([, value]) => value === "1"));
  return 1000 * Math.max(...samples.map(([at]) => at));
}

/** What a panel of this width asks for: times that are multiples of the step, and the variables of its own. */
export function frame({ from, to }, scrape_s, width) {
  const span = Math.max(1, (to - from) / 1000);
  const step = Math.max(scrape_s, STEPS_S.find((s) => s >= (0.8 * span) / width) ?? 86400);
  const rate = Math.max(4, 4 * scrape_s, step + scrape_s);
  const own = { __interval: `${step}s`, __rate_interval: `${rate}s`, __range: `${Math.ceil(span)}s` };
  const begin = Math.ceil(from / 1000 / step) * step, end = Math.floor(to / 1000 / step) * step;
  return { step, begin, end: Math.max(begin, end), at: to / 1000, own };
}

/** An expression, or any text, with its $variables filled in; what is unknown stays, as the $1 of a rule does. */
export function filled(expression, values) {
  return expression.replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, a, b) => values[a ?? b] ?? whole);
}

const number = (value) => (Number.isFinite(Number(value)) ? Number(value) : null);

/** The series of a query. Of a range, one value for each of times; null where there is none. */
export async function series(target, values, { step, begin, end, at, own }) {
  const query = filled(target.expr, { ...values, ...own });
  if (target.instant) {
    const { result } = await ask("query", { query, time: at });
    return result.map(({ metric, value }) => ({ labels: metric, values: [number(value[1])] }));
  }
  const { result } = await ask("query_range", { query, start: begin, end, step });
  const count = Math.round((end - begin) / step) + 1;
  return result.map(({ metric, values: found }) => {
    const row = new Array(count).fill(null);
    for (const [time, value] of found) row[Math.round((time - begin) / step)] = number(value);
    return { labels: metric, values: row };
  });
}

/** The times of a frame. */
export function times({ begin, end, step }) {
  return Array.from({ length: Math.round((end - begin) / step) + 1 }, (_, i) => begin + i * step);
}
