// Numbers and times for people. What is not known is "–", never 0.
import { minorDigits } from "./currencies.js";

export const UNKNOWN = "–";
export const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

// A minus as wide as a digit, where the locale writes a hyphen.
const minus = (text) => text.replace(/^-/, "−");

const formats = new Map();

function formatOf(key, options) {
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(undefined, options));
  return formats.get(key);
}

/** Minor units as money: money(1999, "EUR") is "€19.99". `signed` shows a plus, too. */
export function money(minor, currency, { signed = false } = {}) {
  if (!known(minor)) return UNKNOWN;
  if (!currency) return number(minor, 0);
  const digits = minorDigits(currency);
  const format = formatOf(`${currency}${signed}`, {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    signDisplay: signed ? "exceptZero" : "negative",
  });
  return minus(format.format(minor / 10 ** digits));
}

/** A number with so many digits after the point. */
export function number(value, digits = 2, { signed = false } = {}) {
  if (!known(value)) return UNKNOWN;
  const format = formatOf(`n${digits}${signed}`, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    signDisplay: signed ? "exceptZero" : "negative",
  });
  return minus(format.format(value));
}

/** Three significant digits, for Greeks, whose sizes differ by orders. */
export function significant(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 100) return number(value, 0);
  const format = formatOf("s3", { maximumSignificantDigits: 3, signDisplay: "negative" });
  return minus(size !== 0 && size < 1e-3 ? value.toExponential(1) : format.format(value));
}

export const count = (value) => number(value, 0);
export const percent = (value, digits = 1) =>
  known(value) ? `${number(value, digits)} %` : UNKNOWN;
export const share = (value, digits = 1) => percent(known(value) ? value * 100 : null, digits);
export const days = (value) =>
  known(value) ? `${value >= 100 ? number(value, 0) : number(value, 1)} d` : UNKNOWN;

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A length of time in its largest unit: duration(7300) is "2 h". */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  const size = Math.abs(seconds);
  if (size < 1) return `${number(seconds, size === 0 ? 0 : 2)} s`;
  const [length, name] = UNITS.find(([length]) => size >= length);
  const whole = seconds / length;
  return `${number(whole, name === "s" || Math.abs(whole) >= 10 ? 0 : 1)} ${name}`;
}

export function ago(text, nowMs) {
  const at = Date.parse(text);
  if (Number.isNaN(at)) return UNKNOWN;
  const seconds = Math.floor((nowMs - at) / 1000);
  return seconds < 0 ? `in ${duration(-seconds)}` : `${duration(seconds)} ago`;
}

const stamps = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "medium",
  timeZone: "UTC",
});

export function exact(text) {
  const at = Date.parse(text);
  return Number.isNaN(at) ? UNKNOWN : `${stamps.format(at)} UTC`;
}

const WORDS = { CLOSED: "Closed", HALF_OPEN: "Half open", OPEN: "Open" };
export const breakerWords = (state) => WORDS[state] ?? state ?? UNKNOWN;
export const plain = (name) => name.replaceAll("_", " ");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
