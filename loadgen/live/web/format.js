// How figures, times and elements are written. Names come from servers, so text is only ever set as text.

export const DASH = "\u2013";
export const known = (v) => typeof v === "number" && Number.isFinite(v);
export const list = (v) => (Array.isArray(v) ? v : []);

export const fixed = (v, digits) =>
  v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const whole = (v) => (known(v) ? fixed(v, 0) : DASH);
export const users = (n) => `${whole(n)} ${n === 1 ? "user" : "users"}`;

/** A figure in about three digits. */
export function figure(v) {
  if (!known(v)) return DASH;
  const size = Math.abs(v);
  return fixed(v, size === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** A time in seconds as minutes and seconds. */
export function span(s) {
  const t = Math.round(s), two = (n) => String(n).padStart(2, "0");
  const minutes = Math.floor(t / 60) % 60, hours = Math.floor(t / 3600);
  return hours ? `${hours}:${two(minutes)}:${two(t % 60)}` : `${minutes}:${two(t % 60)}`;
}

/** An element; children are elements or text. */
export function el(tag, className, ...children) {
  const e = document.createElement(tag);
  e.className = className;
  e.append(...children);
  return e;
}
