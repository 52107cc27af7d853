// From the best price to the one in the shop: a step a row, what it costs a day beside it.
import { capital, known, money } from "../format.js";
import { html } from "../lib.js";
import { Empty, Money, Panel, Shown } from "../ui.js";

const WIDTH = 220;
const EDGE = 8;

/** Steps with their move and what they cost a day; the present price where a decision is held. */
export function chain(decision, steps) {
  const rows = [];
  let before = null;
  let objective = null;
  for (const step of steps) {
    const value = step.objective_per_day_minor;
    const cost = known(value) && known(objective) ? objective - value : null;
    rows.push({ ...step, from: before, cost });
    before = step.price_minor;
    if (known(value)) objective = value;
  }
  if (decision.status === "held" && known(decision.price_minor)) {
    const present = decision.record?.present_objective_per_day_minor;
    rows.push({
      name: "held", why: "the decision is held: the price in the shop stays", from: before,
      price_minor: decision.price_minor, objective_per_day_minor: present,
      cost: known(present) && known(objective) ? objective - present : null,
    });
  }
  return rows;
}

function scaleOf(rows) {
  const prices = rows.map((one) => one.price_minor);
  const low = Math.min(...prices);
  const high = Math.max(...prices);
  const span = high - low || 1;
  return (price) => EDGE + ((WIDTH - 2 * EDGE) * (price - low)) / span;
}

function Move({ row, x }) {
  const to = x(row.price_minor);
  const from = known(row.from) ? x(row.from) : to;
  const tone = to > from ? "up" : to < from ? "down" : "flat";
  const tip = to > from ? -6 : 6;
  return html`<svg class=${`move ${tone}`} viewBox=${`0 0 ${WIDTH} 22`} width=${WIDTH} height="22" aria-hidden="true">
    <line class="track" x1="0" x2=${WIDTH} y1="11" y2="11" />
    ${from !== to && html`<line class="leg" x1=${from} x2=${to} y1="11" y2="11" />
      <path class="tip" d=${`M${to} 11 l${tip} -5 v10 z`} />`}
    ${!known(row.from) || from === to ? html`<circle class="at" cx=${to} cy="11" r="4.5" />` : ""}
  </svg>`;
}

const named = (step) => capital((step.why ?? step.name).replaceAll("_", " "));

export function Waterfall({ decision, steps }) {
  const { currency } = decision;
  if (!steps?.length) {
    return html`<${Panel} title="How the price came about" id="waterfall"><${Empty} title="No steps are recorded">
      The numbers of this decision were not finite.<//><//>`;
  }
  const rows = chain(decision, steps);
  const x = scaleOf(rows);
  const total = rows.reduce((sum, row) => sum + (row.cost ?? 0), 0);
  return html`<${Panel} title="How the price came about" id="waterfall" wide
      note="From the best price to the one in the shop. What a step costs is expected profit a day after risk; the costs add up to the money left on the table.">
    <div class="scroll" tabindex="0" role="group" aria-label="Waterfall from the best price to the price in the shop">
    <table class="waterfall"><thead><tr><th scope="col">Step</th><th scope="col"><span class="hidden">Move</span></th>
      <th scope="col" class="number">Price</th><th scope="col" class="number">Change</th><th scope="col" class="number">Costs / day</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr class=${row.cost > 0.5 ? "costs" : ""}>
      <th scope="row">${named(row)}</th>
      <td class="bars"><${Move} row=${row} x=${x} /></td>
      <td class="number"><${Money} minor=${row.price_minor} currency=${currency} /></td>
      <td class="number">${known(row.from) ? html`<${Money} minor=${row.price_minor - row.from} currency=${currency} signed />` : ""}</td>
      <td class="number">${row.cost === null ? "" : html`<${Money} minor=${row.cost} currency=${currency} tone=${row.cost > 0.5 ? "warn" : ""} />`}</td>
    </tr>`)}</tbody>
    <tfoot><tr><th scope="row">Left on the table a day</th><td></td><td></td><td></td>
      <td class="number"><b><${Shown}>${money(total, currency)}<//></b></td></tr></tfoot></table></div><//>`;
}
