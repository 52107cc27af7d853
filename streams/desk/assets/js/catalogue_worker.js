// Loads, sorts and filters the catalogue beside the page, so that 20,000 rows never freeze it.
// Numbers travel as Float64Array with NaN for what is not known; NaN sorts last either way.

const TEXT = new Set([
  "sku", "category", "family", "status", "currency", "breaker", "held_by", "decided_at",
]);
const collator = new Intl.Collator(undefined, { numeric: true });

let names = [];
let columns = {};
let places = new Map();

const value = (name, given) => (TEXT.has(name) ? given : given === null ? NaN : Number(given));

function pivot(body) {
  names = body.columns;
  columns = {};
  body.rows.sort((left, right) => (left[0] < right[0] ? -1 : 1));
  names.forEach((name, column) => {
    const length = body.rows.length;
    const filled = TEXT.has(name) ? new Array(length) : new Float64Array(length);
    for (let row = 0; row < length; row += 1) filled[row] = value(name, body.rows[row][column]);
    columns[name] = filled;
  });
  places = new Map(columns.sku.map((sku, row) => [sku, row]));
}

async function load() {
  let response;
  try {
    response = await fetch("/v1/desk/catalogue");
    const body = await response.json();
    if (!response.ok) {
      postMessage({ type: "failed", status: response.status, error: body.error });
      return;
    }
    pivot(body);
    postMessage({
      type: "loaded", cursor: body.cursor, currencies: body.currencies, names, columns,
    });
  } catch {
    const message = "the gateway does not answer.";
    postMessage({
      type: "failed", status: response?.status ?? 0, error: { code: "unreachable", message },
    });
  }
}

function put(row) {
  const place = places.get(row[0]);
  const at = place ?? columns.sku.length;
  if (place === undefined) places.set(row[0], at);
  names.forEach((name, column) => {
    if (place === undefined && !TEXT.has(name)) {
      const longer = new Float64Array(at + 1);
      longer.set(columns[name]);
      columns[name] = longer;
    }
    columns[name][at] = value(name, row[column]);
  });
}

function passes({ text, category, state }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const { sku, category: categories, family, breaker, held_by: held } = columns;
  return (row) => {
    if (category && categories[row] !== category) return false;
    if (state === "held" && !held[row]) return false;
    if (state === "tripped" && breaker[row] === "CLOSED") return false;
    if (state === "waiting" && !(columns.left_on_table_per_day_minor[row] > 0)) return false;
    if (!words.length) return true;
    const whole = `${sku[row]} ${categories[row]} ${family[row]}`.toLowerCase();
    return words.every((word) => whole.includes(word));
  };
}

function comparison(name, descending) {
  const filled = columns[name];
  const turn = descending ? -1 : 1;
  if (!TEXT.has(name)) {
    return (left, right) => {
      const a = filled[left];
      const b = filled[right];
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return turn * (a - b);
    };
  }
  const ranked = [...new Set(filled)].filter((one) => one !== null).sort(collator.compare);
  const ranks = new Map(ranked.map((one, rank) => [one, rank]));
  return (left, right) => {
    const a = ranks.get(filled[left]) ?? Infinity;
    const b = ranks.get(filled[right]) ?? Infinity;
    return a === b ? 0 : a === Infinity || b === Infinity ? a - b : turn * (a - b);
  };
}

function order({ id, sort, descending, filter }) {
  const began = performance.now();
  const accept = passes(filter);
  const rows = [];
  for (let row = 0; row < columns.sku.length; row += 1) if (accept(row)) rows.push(row);
  if (columns[sort]) {
    const compare = comparison(sort, descending);
    rows.sort((left, right) => compare(left, right) || left - right);
  }
  const found = Uint32Array.from(rows);
  const tookMs = performance.now() - began;
  postMessage({ type: "order", id, order: found, tookMs }, [found.buffer]);
}

const HANDLERS = { load, order, rows: ({ rows }) => rows.forEach(put) };
onmessage = ({ data }) => HANDLERS[data.type](data);
