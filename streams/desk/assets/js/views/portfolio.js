// Currency Greeks added up: only money of one currency is ever summed.
import { capital, count, known } from "../format.js";
import { html } from "../lib.js";
import { useAsked } from "../loaded.js";
import { href, replace, route } from "../router.js";
import { Answer, Empty, Money, Panel, Table } from "../ui.js";

const BY = ["category", "family", "currency", "breaker"];
const SHOWN_MAX = 200;
const COLUMNS = [
  ["profit_per_day_minor", "Profit / day", "Expected profit a day"],
  ["left_on_table_per_day_minor", "Left on table / day", "Best price's profit less that of the price in the shop"],
  ["price_delta_minor", "P·Δ", "What prices 100 % higher would add, to first order"],
  ["price2_gamma_minor", "P²·Γ", "How fast P·Δ falls as prices rise"],
  ["sigma_vega_minor", "σ·Vega", "What doubled demand volatility would add"],
  ["theta_minor", "Theta / day", "What one day passed adds"],
];

export function Portfolio() {
  const asked = route.value.query.get("by");
  const by = BY.includes(asked) ? asked : "category";
  const found = useAsked(`/desk/portfolio?by=${by}`);
  return html`<h1>Portfolio Greeks</h1>
    <p class="lead">Sensitivities in money, added up over products, each currency by itself; over each product's own horizon.</p>
    <fieldset class="tabs"><legend class="hidden">Group by</legend>${BY.map((one) => html`<label class=${one === by ? "on" : ""}>
      <input type="radio" name="by" checked=${one === by} onChange=${() => replace(href("portfolio", [], { by: one }))} />${capital(one)}</label>`)}</fieldset>
    <${Answer} found=${found} what="the portfolio">${(data) => html`<${Groups} data=${data} by=${by} />`}<//>`;
}

function Groups({ data, by }) {
  const { groups, unknown } = data;
  if (!groups.length) return html`<${Empty} title="No product has Greeks yet">They come with the first decisions.<//>`;
  const currencies = [...new Set(groups.map((one) => one.currency))].sort();
  return html`${unknown > 0 && html`<p class="notice">${count(unknown)} ${unknown === 1 ? "product has" : "products have"} no Greeks and ${unknown === 1 ? "is" : "are"} not in these sums.</p>`}
    ${currencies.map((currency) => html`<${OfCurrency} key=${currency} currency=${currency} by=${by}
      groups=${groups.filter((one) => one.currency === currency)} />`)}`;
}

function OfCurrency({ currency, groups, by }) {
  const size = (one) => Math.abs(one.price_delta_minor ?? 0);
  const ranked = [...groups].sort((left, right) => size(right) - size(left));
  const shown = ranked.slice(0, SHOWN_MAX);
  const most = Math.max(...ranked.map(size), 1);
  const sum = (key) => ranked.reduce((total, one) => (known(one[key]) && known(total) ? total + one[key] : null), 0);
  return html`<${Panel} title=${currency} id=${`sum-${currency}`} wide note="By the size of P·Δ: where the prices are furthest from where profit would have them.">
    <${Table} label=${`Portfolio in ${currency} by ${by}`} head=${[{ name: capital(by) }, { name: "Products", number: true }, ...COLUMNS.map(([, name]) => ({ name, number: true })), { name: "P·Δ" }]}
      rows=${html`<tr class="total"><th scope="row">All</th><td class="number num">${count(sum("products"))}</td>
          ${COLUMNS.map(([key]) => html`<td class="number"><${Money} minor=${sum(key)} currency=${currency} /></td>`)}<td></td></tr>
        ${shown.map((one) => html`<tr><th scope="row">${one.name || "unknown"}</th><td class="number num">${count(one.products)}</td>
          ${COLUMNS.map(([key]) => html`<td class="number"><${Money} minor=${one[key]} currency=${currency} /></td>`)}
          <td class="bars"><${Bar} share=${(one.price_delta_minor ?? 0) / most} /></td></tr>`)}`} />
    ${ranked.length > shown.length && html`<p class="note">${count(ranked.length - shown.length)} smaller ones are in the sums, not in the rows.</p>`}
    <dl class="legend">${COLUMNS.map(([, name, meaning]) => html`<div><dt>${name}</dt><dd>${meaning}</dd></div>`)}</dl><//>`;
}

function Bar({ share }) {
  const width = 60 * Math.abs(share);
  return html`<svg viewBox="-62 0 124 10" width="124" height="10" aria-hidden="true" class="signed">
    <line x1="0" x2="0" y1="0" y2="10" /><rect class=${share < 0 ? "down" : "up"} x=${share < 0 ? -width : 0} y="2" width=${width} height="6" /></svg>`;
}

