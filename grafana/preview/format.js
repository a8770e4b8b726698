// How figures, names and colours are written.

export const DASH = "\u2013";
export const known = (v) => typeof v === "number" && Number.isFinite(v);

const THOUSAND = ["n", "\u00B5", "m", "", "k", "M", "G", "T", "P"];
const KIBI = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "\u00B5s"], [0, "ns"]];

const scaled = (unit, prefixes, base, least) => (size) => {
  const power = size > 0 ? Math.floor(Math.log(size * (1 + 1e-9)) / Math.log(base)) : 0;
  const i = Math.min(prefixes.length - 1, Math.max(0, power + least));
  return [base ** (i - least), ` ${prefixes[i]}${unit}`];
};
// Of each unit: by what a figure of this size is divided, and what follows it.
const UNITS = {
  none: () => [1, ""],
  percentunit: () => [0.01, " %"],
  s: (size) => {
    const [divisor, name] = TIMES.find(([at]) => size >= at * (1 - 1e-9));
    return size === 0 ? [1, " s"] : [divisor || 1e-9, ` ${name}`];
  },
  bytes: scaled("B", KIBI, 1024, 0),
  Bps: scaled("B/s", THOUSAND.slice(3), 1000, 0),
  watt: scaled("W", THOUSAND, 1000, 3),
  hertz: scaled("Hz", THOUSAND.slice(3), 1000, 0),
  celsius: () => [1, " \u00B0C"],
};

function unitOf(name) {
  if (name?.startsWith("suffix:")) return () => [1, name.slice("suffix:".length)];
  return UNITS[name] ?? (() => [1, name ? ` ${name}` : ""]);
}

const two = (n) => String(n).padStart(2, "0");
const fixed = (v, least, most) =>
  v.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most });

function digits(v) {
  const size = Math.abs(v);
  return size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(size)));
}

/** A figure with its unit: three digits that count, or as many decimals as are asked for. */
export function figure(v, unit, decimals) {
  if (!known(v)) return DASH;
  if (unit === "dateTimeAsIso") return `${day(v)} ${clock(v)}`;
  const [divisor, name] = unitOf(unit)(Math.abs(v)), shown = v / divisor;
  return decimals === undefined ? fixed(shown, 0, digits(shown)) + name : fixed(shown, decimals, decimals) + name;
}

/** The figures of an axis: all in the unit of the greatest, as exact as their distance asks for. */
export function ticks(values, unit) {
  const size = Math.max(...values.map(Math.abs), 0), [divisor, name] = unitOf(unit)(size);
  const gap = values.length > 1 ? Math.abs(values[1] - values[0]) / divisor : 1;
  const decimals = Math.max(0, Math.min(6, Math.ceil(-Math.log10(gap) - 1e-9)));
  const exact = gap * 10 ** decimals % 1 > 1e-6 ? decimals + 1 : decimals; // as 2.5 is
  return values.map((v) => fixed(v / divisor, exact, exact) + name);
}

export function clock(ms, withSeconds = true) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
}
export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** Compare two names by the numbers in them: 2 comes before 16. */
export const naturally = new Intl.Collator("en", { numeric: true }).compare;

/** A name whose middle is left out, as long as ``fits`` does not take it: names often differ at their ends. */
export function shortened(name, fits) {
  let kept = name;
  for (let length = name.length - 1; length > 4 && !fits(kept); length--) {
    kept = `${name.slice(0, Math.ceil(length / 2))}\u2026${name.slice(name.length - Math.floor(length / 2))}`;
  }
  return kept;
}

/** A name with its {{labels}} filled in; where there is none, the series as Prometheus writes it. */
export function named(legend, labels) {
  if (legend && legend !== "__auto") return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
  const { __name__: metric = "", ...rest } = labels;
  const inner = Object.entries(rest).map(([key, value]) => `${key}="${value}"`).join(", ");
  return inner || !metric ? `${metric}{${inner}}` : metric;
}

// -- colours

const style = () => getComputedStyle(document.documentElement);
const PALETTE = 8;

/** A colour of preview.css. */
export const theme = (name) => style().getPropertyValue(`--${name}`).trim();
/** What Grafana calls a colour, here. */
export const colour = (name) => (name === "transparent" ? name : theme(name === "text" ? "ink" : name) || name);
export const palette = (i) => theme(`c${i % PALETTE}`);

// Turbo, by the polynomials that its authors at Google give.
const TURBO = [
  [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
  [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
  [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
];
/** The colour of a share from 0 to 1. */
export function turbo(share) {
  const parts = TURBO.map((factors) => factors.reduceRight((sum, factor) => sum * share + factor, 0));
  return `rgb(${parts.map((part) => Math.round(255 * Math.min(1, Math.max(0, part)))).join(" ")})`;
}

// -- elements: names come from servers, so that text is set through textContent only

export function el(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
