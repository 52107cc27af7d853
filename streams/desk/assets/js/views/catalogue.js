// The catalogue: every product on one screen's worth of rows; sort, filter, search, live.
import * as data from "../catalogue_data.js";
import { ago, count, days, exact, known, money, number, percent, plain, share, significant, UNKNOWN } from "../format.js";
import { Grid } from "../grid.js";
import { html, signal, useEffect, useState } from "../lib.js";
import { go, href, productHref, replace, route } from "../router.js";
import { now } from "../store.js";
import { Badge, Breaker, Empty, Loading, Problem, ProductLink, Unknown } from "../ui.js";

const FLASH_MS = 1500;
const LEFT = "left_on_table_per_day_minor";

// Cells are made by plain functions and mostly text: a screenful is nearly a thousand of them, and
// a component each would make scrolling stutter.
const shown = (text) => (text === UNKNOWN ? html`<${Unknown} />` : text);

/** Elasticity with its interval, drawn between -6 and 0 with a mark at -1, and in figures. */
function elasticity(row) {
  if (!known(row.elasticity)) return shown(UNKNOWN);
  const at = (value) => 60 * (1 + Math.max(-6, Math.min(0, value)) / 6);
  const low = at(row.elasticity_low);
  const high = at(row.elasticity_high);
  return html`${number(row.elasticity)}
    <svg class="interval" viewBox="0 0 60 12" width="60" height="12" aria-hidden="true">
      <path class="one" d=${`M${at(-1)} 0V12`} /><path class="span" d=${`M${low} 6H${Math.max(high, low + 1)}`} />
      <circle class="dot" cx=${at(row.elasticity)} cy="6" r="2.6" /></svg>
    <span class="range">${number(row.elasticity_low, 1)} to ${number(row.elasticity_high, 1)}</span>`;
}

const STATUS = { published: "", held: "Held", reverted: "Reverted" };

function holding(row) {
  if (!row.held_by && row.status === "published") return "";
  return Badge({ tone: "warn", mark: "‖", children: row.held_by ?? STATUS[row.status] ?? row.status });
}

const text = (key) => (row) => shown(row[key] || UNKNOWN);
const cell = (key, format) => (row) => shown(format(row[key]));

const cash = (key, tone) => (row) => {
  const amount = shown(money(row[key], row.currency));
  const found = tone?.(row[key]);
  return found ? html`<span class=${found}>${amount}</span>` : amount;
};

const COLUMNS = [
  { key: "sku", name: "Product", width: "8.5rem", cell: (row) => ProductLink({ sku: row.sku }) },
  { key: "category", name: "Category", width: "7.3rem", cell: text("category") },
  { key: "price_minor", name: "Price", width: "6.2rem", number: true, cell: cash("price_minor") },
  { key: "margin_pct", name: "Margin", width: "5.2rem", number: true, cell: cell("margin_pct", percent),
    help: "Margin after VAT and fees, per cent of what the shop keeps" },
  { key: "profit_per_day_minor", name: "Profit / day", width: "7rem", number: true,
    cell: cash("profit_per_day_minor", (value) => (value < 0 ? "bad" : "")), help: "Expected profit a day" },
  { key: LEFT, name: "Left / day", width: "6.8rem", number: true,
    cell: cash(LEFT, (value) => (value > 0.5 ? "warn" : "")),
    help: "Left on the table: expected profit a day at the best price, less that at the price in the shop" },
  { key: "breaker", name: "Breaker", width: "6.8rem", cell: (row) => Breaker({ state: row.breaker }) },
  { key: "held_by", name: "Held by", width: "8rem", cell: holding },
  { key: "elasticity", name: "Elasticity, 90 % interval", width: "14.4rem", cell: elasticity,
    help: "Change of units sold in per cent for 1 % in price; the red mark is at −1" },
  { key: "return_rate", name: "Returns", width: "5.4rem", number: true, cell: cell("return_rate", share) },
  { key: "stock_cover_days", name: "Cover", width: "5rem", number: true, cell: cell("stock_cover_days", days),
    help: "Days that the stock lasts at the expected sales" },
  { key: "scaled_delta", name: "Δ·P/Π", width: "5.6rem", number: true, cell: cell("scaled_delta", (value) => number(value, 3)),
    help: "Scaled Delta: Delta times price over expected profit; 0 at an inner optimum" },
  { key: "delta", name: "Δ", width: "5.2rem", number: true, cell: cell("delta", significant), help: "Delta, units" },
  { key: "gamma", name: "Γ", width: "5.8rem", number: true, cell: cell("gamma", significant),
    help: "Gamma, units per minor unit of price; below 0 at an optimum" },
  { key: "vega", name: "Vega", width: "6.4rem", number: true, cell: cash("vega"),
    help: "Profit per unit of demand volatility" },
  { key: "stock_units", name: "Stock, units", width: "6.4rem", number: true, cell: cell("stock_units", count) },
  { key: "orders", name: "Orders seen", width: "6.4rem", number: true, cell: cell("orders", count) },
  { key: "decided_at", name: "Decided", width: "6.6rem", cell: (row) => shown(ago(row.decided_at, now.value)) },
  { key: "version", name: "Version", width: "5.2rem", number: true, cell: cell("version", count) },
];

// On a phone what matters most stands beside the product; the rest is a swipe away.
const PHONE_FIRST = ["sku", "price_minor", LEFT, "breaker", "margin_pct", "held_by"];
const PHONE_COLUMNS = [
  ...PHONE_FIRST.map((key) => COLUMNS.find((one) => one.key === key)),
  ...COLUMNS.filter((one) => !PHONE_FIRST.includes(one.key)),
];
const narrow = matchMedia("(max-width: 40rem)");
const isPhone = signal(narrow.matches);
narrow.addEventListener("change", () => {
  isPhone.value = narrow.matches;
});

const STATES = [
  ["", "All"],
  ["waiting", "With money left on the table"],
  ["tripped", "Breaker not closed"],
  ["held", "Held or reverted"],
];

/** What the address says, and the view that the worker is asked for. */
function viewOf(query) {
  const named = query.get("sort") ?? `-${LEFT}`;
  return {
    sort: named.replace(/^-/, ""),
    descending: named.startsWith("-"),
    filter: { text: query.get("q") ?? "", category: query.get("category") ?? "", state: query.get("state") ?? "" },
  };
}

function change(view, changes) {
  const next = { ...view, ...changes };
  const { text: q, category, state } = next.filter;
  replace(href("catalogue", [], { q, category, state, sort: `${next.descending ? "-" : ""}${next.sort}` }));
}

function sorted(view, key) {
  const column = COLUMNS.find((one) => one.key === key);
  const descending = view.sort === key ? !view.descending : Boolean(column.number);
  change(view, { sort: key, descending });
}

/** The active cell in full: for whoever works by keyboard, and where a column is too narrow. */
function exactly(row, column) {
  const value = row[column.key];
  if (!known(value)) return "unknown";
  if (column.key.endsWith("_minor") || column.key === "vega") return money(value, row.currency);
  if (column.key === "elasticity") {
    return `${number(value)}, 90 % interval ${number(row.elasticity_low)} to ${number(row.elasticity_high)}`;
  }
  if (column.key === "decided_at") return exact(value);
  return typeof value === "number" ? number(value, Number.isInteger(value) ? 0 : 4) : plain(String(value));
}

export function Catalogue() {
  const { query } = route.value;
  const address = query.toString();
  const view = viewOf(query);
  const [active, setActive] = useState(null);
  useEffect(() => data.arrange(viewOf(query)), [address]);
  data.changes.value;
  const loaded = data.state.value;
  if (loaded.name === "loading") return html`<${Loading} what="the catalogue" />`;
  if (loaded.name === "failed") return html`<${Problem} failure=${loaded.failure} what="the catalogue" />`;
  const order = data.order.value;
  const row = (index) => {
    const found = data.rowAt(order[index]);
    const fresh = performance.now() - (data.changedAt.get(found.sku) ?? -Infinity) < FLASH_MS;
    return { ...found, id: found.sku, className: fresh ? "fresh" : "" };
  };
  return html`<div class="catalogue"><h1 class="hidden">Catalogue</h1>
    <${Controls} view=${view} shown=${order.length} />
    ${order.length === 0
      ? html`<${Empty} title=${data.size.value ? "No product matches" : "No product has been decided on yet"}>
          ${data.size.value ? "Change the search or the filters." : "A product appears here at its first decision."}<//>`
      : html`<${Grid} label="Products" columns=${isPhone.value ? PHONE_COLUMNS : COLUMNS} total=${order.length} row=${row}
          sort=${{ key: view.sort, descending: view.descending }} onSort=${(key) => sorted(view, key)}
          onOpen=${(found) => go(productHref(found.sku))}
          onActive=${(found, column) => setActive({ sku: found.sku, column })} />`}
    <p class="cell-line">${active && data.rowOf(active.sku)
      ? html`<b>${active.sku}</b> ${active.column.name}: ${exactly(data.rowOf(active.sku), active.column)}`
      : "Arrow keys move, Enter opens a product or sorts by a column."}</p>
  </div>`;
}

function Controls({ view, shown }) {
  const filter = (changes) => change(view, { filter: { ...view.filter, ...changes } });
  const moved = data.moved.value;
  return html`<search class="controls">
    <label class="hidden" for="search">Search products</label>
    <input id="search" type="search" placeholder="Search product, category, family" value=${view.filter.text}
      onInput=${(event) => filter({ text: event.target.value })} />
    <label class="hidden" for="category">Category</label>
    <select id="category" value=${view.filter.category} onChange=${(event) => filter({ category: event.target.value })}>
      <option value="">All categories</option>
      ${data.categories.value.map((one) => html`<option value=${one}>${one}</option>`)}
    </select>
    <label class="hidden" for="standing">State</label>
    <select id="standing" value=${view.filter.state} onChange=${(event) => filter({ state: event.target.value })}>
      ${STATES.map(([value, name]) => html`<option value=${value}>${name}</option>`)}
    </select>
    <p class="shown" role="status">${count(shown)} of ${count(data.size.value)} products</p>
    <button type="button" class="quiet" disabled=${!moved} onClick=${() => data.arrange(view)}
      title="Rows change in place and keep their rank until you sort them in">
      ${moved ? "Sort changes in" : "In order"}</button>
  </search>`;
}
