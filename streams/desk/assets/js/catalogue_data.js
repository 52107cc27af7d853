// The catalogue on the page's side: columns to draw from, live rows, and an order from the worker.
import { Failure } from "./api.js";
import { batch, computed, signal } from "./lib.js";
import { noticed } from "./store.js";

const RETRY_MS = 2000;
const NEW_ROWS_MAX = 2000; // kept for the worker between two orders; more reload the whole

export const state = signal({ name: "loading" }); // loading, ready, or failed with a Failure
export const currencies = signal([]);
export const order = signal(new Uint32Array());
export const changes = signal(0); // rises when drawn rows may look different
export const moved = signal(0); // rows that changed since the order was made
export const sortedMs = signal(null);

let names = [];
let columns = {};
let places = new Map();
let waiting = [];
let scheduled = false;
let asked = 0;
let wanted = null;
let retry = null;

export const changedAt = new Map(); // SKU -> when its row last changed here, for the flash
export const size = computed(() => {
  changes.value;
  return places.size;
});

const worker = new Worker(new URL("./catalogue_worker.js", import.meta.url));

export function load() {
  clearTimeout(retry);
  worker.postMessage({ type: "load" });
}

/** Ask for rows by `{sort, descending, filter}`; the answer is in `order`. */
export function arrange(view) {
  wanted = view;
  if (state.peek().name !== "ready") return;
  if (waiting.length) worker.postMessage({ type: "rows", rows: waiting });
  waiting = [];
  asked += 1;
  worker.postMessage({ type: "order", id: asked, ...view });
}

/** The row at a place of the columns, as an object. */
export function rowAt(place) {
  const row = {};
  for (const name of names) row[name] = columns[name][place];
  return row;
}

export function rowOf(sku) {
  changes.value;
  const place = places.get(sku);
  return place === undefined ? null : rowAt(place);
}

export const categories = computed(() => {
  if (state.value.name !== "ready") return [];
  return [...new Set(columns.category)].filter(Boolean).sort();
});

/** Rows that changed: drawn in place at the next frame, sorted in when people ask for it. */
export function receive(row) {
  if (state.peek().name !== "ready") return;
  const sku = row[0];
  const place = places.get(sku);
  const version = names.indexOf("version");
  // The same version may come again with another breaker, or a reason why it is held.
  if (place !== undefined && columns.version[place] > row[version]) return;
  waiting.push(row);
  if (place === undefined) extend();
  const at = place ?? places.size;
  places.set(sku, at);
  names.forEach((name, column) => {
    const text = Array.isArray(columns[name]);
    columns[name][at] = !text && row[column] === null ? NaN : row[column];
  });
  changedAt.set(sku, performance.now());
  if (waiting.length > NEW_ROWS_MAX) flush();
  if (!scheduled) {
    scheduled = true;
    requestAnimationFrame(drawn);
  }
}

function flush() {
  worker.postMessage({ type: "rows", rows: waiting });
  waiting = [];
}

function extend() {
  for (const name of names) {
    if (Array.isArray(columns[name])) continue;
    const room = places.size;
    if (columns[name].length > room) continue;
    const longer = new Float64Array(room + 256).fill(NaN);
    longer.set(columns[name]);
    columns[name] = longer;
  }
}

function drawn() {
  scheduled = false;
  batch(() => {
    changes.value += 1;
    moved.value += 1;
  });
}

const HANDLERS = {
  loaded(data) {
    names = data.names;
    columns = data.columns;
    places = new Map(columns.sku.map((sku, place) => [sku, place]));
    waiting = [];
    batch(() => {
      state.value = { name: "ready", cursor: data.cursor };
      currencies.value = data.currencies;
      order.value = Uint32Array.from(columns.sku.keys());
      changes.value += 1;
    });
    if (wanted) arrange(wanted);
  },
  failed({ status, error }) {
    const failure = new Failure(status, error ?? { code: "unexpected", message: "no answer." });
    noticed(failure);
    if (state.peek().name !== "ready") state.value = { name: "failed", failure };
    if (status === 503 || status === 0) retry = setTimeout(load, RETRY_MS);
  },
  order({ id, order: found, tookMs }) {
    if (id !== asked) return;
    batch(() => {
      order.value = found;
      moved.value = 0;
      sortedMs.value = tookMs;
    });
  },
};

worker.onmessage = ({ data }) => HANDLERS[data.type](data);
