// The variables of a dashboard: which values there are, which are chosen, and what chooses them.

import { el, shortened } from "./format.js";
import { ask, filled } from "./prometheus.js";

const ALL = "$__all";
const RUN = "run_id", RUNS = "runs";
const LONGEST = 64; // letters of a name; the whole one shows under the pointer
const SORTED = { 1: (values) => values.sort(), 2: (values) => values.sort().reverse() };

/** Those that ask; the data source is the Prometheus that serves this page. */
export const asking = (board) => board.templating.list.filter(({ type }) => type === "query");

/** Whether a dashboard is about one run. */
export const isOfRun = (board) => asking(board).some(({ name }) => name === RUN);

/** Find the options of each, from left to right, as what stands left narrows what stands right.
 *
 * ``chosen``: the values of each by its name, which change where ``strict`` and no longer an option, or not chosen yet.
 * ``times``: those in which options were scraped. ``timesOf`` finds the times of the chosen run or runs; they replace
 * ``times`` for what stands right of it, and are returned.
 */
export async function resolve(board, chosen, times, strict, timesOf) {
  const values = {}, found = [];
  for (const variable of asking(board)) {
    const [, asked, label] = /^label_values\((.+), *(\w+)\)$/.exec(variable.definition);
    const parameters = { "match[]": filled(asked, values), start: times.from / 1000, end: times.to / 1000 };
    const options = await ask(`label/${label}/values`, parameters);
    (SORTED[variable.sort] ?? ((as) => as))(options);
    const kept = (chosen[variable.name] ?? []).filter((value) => !strict || value === ALL || options.includes(value));
    chosen[variable.name] = kept.length ? kept : variable.includeAll ? [ALL] : options.slice(0, 1);
    values[variable.name] = written(variable, chosen[variable.name]);
    found.push({ variable, options });
    if (timesOf && [RUN, RUNS].includes(variable.name)) times = await timesOf(values[variable.name]);
  }
  return { values, found, times };
}

export const isAll = (values) => values.includes(ALL);

// As Grafana writes values into PromQL: into a text, and into a regular expression where there may be several.
function written(variable, values) {
  if (isAll(values)) return variable.allValue ?? ".*";
  if (!variable.multi) return quoted(values[0] ?? "");
  const patterns = values.map((value) => quoted(value.replace(/[\\^$*+?.()|[\]{}]/g, "\\$&")));
  return patterns.length === 1 ? patterns[0] : `(${patterns.join("|")})`;
}
const quoted = (text) => text.replace(/[\\"]/g, "\\$&");

/** What chooses the values of one. ``changed`` is told the new ones. */
export function control({ variable, options }, chosen, changed) {
  const offered = [...new Set([...options, ...chosen.filter((value) => value !== ALL)])];
  const made = variable.multi ? several(variable, offered, chosen, changed) : one(variable, offered, chosen, changed);
  const box = el("label", "choice");
  box.append(el("span", "", variable.label), made);
  return box;
}

function one(variable, options, [value], changed) {
  const select = el("select");
  select.name = variable.name;
  select.title = value ?? "";
  for (const option of options) select.append(new Option(short(option), option, false, option === value));
  if (!options.length) select.append(new Option("none", ""));
  select.addEventListener("change", () => changed([select.value]));
  return select;
}

const short = (name) => shortened(name, (text) => text.length <= LONGEST);

function several(variable, options, values, changed) {
  const box = el("details"), list = el("div"), all = isAll(values);
  const text = all ? "All" : values.length === 1 ? values[0] : `${values.length} of ${options.length}`;
  const change = (value, on) => {
    const others = values.filter((other) => other !== value && other !== ALL);
    changed(value === ALL || (!on && !others.length) ? [ALL] : on ? [...others, value] : others);
  };
  for (const [value, name] of [[ALL, "All"], ...options.map((option) => [option, option])]) {
    const label = el("label"), tick = el("input");
    tick.type = "checkbox";
    tick.checked = all ? value === ALL : values.includes(value);
    tick.addEventListener("change", () => change(value, tick.checked));
    label.append(tick, name);
    list.append(label);
  }
  box.dataset.name = variable.name;
  box.title = values.length === 1 && !all ? text : "";
  box.append(el("summary", "", short(text)), list);
  box.addEventListener("toggle", () => {
    const { right } = list.getBoundingClientRect();
    list.style.left = `${Math.min(0, innerWidth - 16 - right)}px`; // so that long names stay in the window
  });
  return box;
}
