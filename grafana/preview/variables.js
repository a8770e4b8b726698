// The variables of a dashboard: which values there are, which are chosen, and what chooses them.

import { el } from "./format.js";
import { ask, filled } from "./prometheus.js";

const ALL = "$__all";
const SORTED = { 1: (values) => values.sort(), 2: (values) => values.sort().reverse() };

/** Those that ask; the data source is the Prometheus that serves this page. */
export const asking = (board) => board.templating.list.filter(({ type }) => type === "query");

/** Find the options of each, from left to right, as what stands left narrows what stands right.
 *
 * ``chosen``: the values of each by its name, which change where ``strict`` and no longer an option, or not chosen yet.
 */
export async function resolve(board, chosen, range, strict) {
  const values = {}, found = [];
  for (const variable of asking(board)) {
    const [, asked, label] = /^label_values\((.+), *(\w+)\)$/.exec(variable.definition);
    const parameters = { "match[]": filled(asked, values), start: range.from / 1000, end: range.to / 1000 };
    const options = await ask(`label/${label}/values`, parameters);
    (SORTED[variable.sort] ?? ((as) => as))(options);
    const kept = (chosen[variable.name] ?? []).filter((value) => !strict || value === ALL || options.includes(value));
    chosen[variable.name] = kept.length ? kept : variable.includeAll ? [ALL] : options.slice(0, 1);
    values[variable.name] = written(variable, chosen[variable.name]);
    found.push({ variable, options });
  }
  return { values, found };
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
  for (const option of options) select.append(new Option(option, option, false, option === value));
  if (!options.length) select.append(new Option("none", ""));
  select.addEventListener("change", () => changed([select.value]));
  return select;
}

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
  box.append(el("summary", "", text), list);
  return box;
}
