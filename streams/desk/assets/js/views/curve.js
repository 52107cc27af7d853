// The profit curve: what each price is expected to earn a day after risk, by the decision's record.
import { product } from "../api.js";
import { axes, Chart, dot, ink, mark, shade } from "../chart.js";
import { known, money, number } from "../format.js";
import { html, useMemo } from "../lib.js";
import { useAsked } from "../loaded.js";
import { Answer, Money, Panel, Table } from "../ui.js";
import { minorDigits } from "../currencies.js";

const NUMBERS = 25;

export function ProfitCurve({ sku, version, tried }) {
  const found = useAsked(`${product(sku)}/curve`, version);
  return html`<${Panel} title="Profit curve" id="curve" note="Expected profit a day after risk, over prices; by what the last decision knew.">
    <${Answer} found=${found} what="the profit curve">${(curve) => html`<${Plot} curve=${curve} tried=${tried} />`}<//><//>`;
}

function Plot({ curve, tried }) {
  const { currency } = curve;
  const unit = 10 ** minorDigits(currency);
  const data = useMemo(() => [
    curve.price_minor.map((one) => one / unit),
    curve.objective_per_day_minor.map((one) => (known(one) ? one / unit : null)),
    curve.expected_units_per_day,
  ], [curve]);
  const options = useMemo(() => () => ({
    axes: axes((value) => money(value * unit, currency), (value) => money(value * unit, currency)),
    scales: { x: { time: false }, units: {} },
    series: [
      { label: "Price", value: (_, value) => money(known(value) ? value * unit : null, currency) },
      { label: "Profit after risk / day", stroke: ink("accent"), width: 2, points: { show: false },
        value: (_, value) => money(known(value) ? value * unit : null, currency) },
      { label: "Units / day", scale: "units", stroke: ink("rival"), width: 1, dash: [4, 4], points: { show: false },
        value: (_, value) => number(value, 2) },
    ],
    hooks: { drawClear: [(plot) => shade(plot, bound(curve.lower_minor, unit), bound(curve.upper_minor, unit), ink("shade"))],
      draw: [(plot) => marks(plot, curve, tried, unit)] },
  }), [curve, tried]);
  return html`<${Chart} label=${said(curve, currency)} data=${data} options=${options} height=${300}
    table=${html`<${Numbers} curve=${curve} />`} />
    <${Bounds} curve=${curve} />`;
}

const bound = (minor, unit) => (known(minor) ? minor / unit : null);

function marks(plot, curve, tried, unit) {
  const at = (one) => [one.price_minor / unit, one.objective_per_day_minor / unit];
  const { chosen, optimum } = curve;
  if (known(curve.lower_minor)) mark(plot, curve.lower_minor / unit, "lowest", ink("muted"), 2, [3, 3]);
  if (known(curve.upper_minor)) mark(plot, curve.upper_minor / unit, "highest", ink("muted"), 2, [3, 3]);
  if (known(optimum?.price_minor)) {
    mark(plot, optimum.price_minor / unit, "best", ink("good"), 1, [6, 4]);
    if (known(optimum.objective_per_day_minor)) dot(plot, ...at(optimum), ink("good"), true);
  }
  if (known(chosen?.price_minor)) {
    mark(plot, chosen.price_minor / unit, "chosen", ink("accent"));
    if (known(chosen.objective_per_day_minor)) dot(plot, ...at(chosen), ink("accent"));
  }
  if (tried && known(tried.objective_per_day_minor)) {
    mark(plot, tried.price_minor / unit, "what if", ink("warn"), 3, [2, 3]);
    dot(plot, ...at(tried), ink("warn"));
  }
}

function said(curve, currency) {
  const point = (one) => `${money(one?.price_minor, currency)} earning ${money(one?.objective_per_day_minor, currency)} a day`;
  return `Profit curve. Chosen: ${point(curve.chosen)}. Best: ${point(curve.optimum)}.`;
}

function Bounds({ curve }) {
  const { currency, clamps } = curve;
  const limits = [
    known(curve.lower_minor) && `not below ${money(curve.lower_minor, currency)}`,
    known(curve.upper_minor) && `not above ${money(curve.upper_minor, currency)}`,
  ].filter(Boolean);
  if (!clamps.length && !limits.length) return html`<p class="note">No guard moved this price.</p>`;
  return html`${limits.length > 0 && html`<p class="note">The guards allow: ${limits.join(", ")}.</p>`}
    ${clamps.length > 0 && html`<${Table} label="Guards that bound" head=${[{ name: "Guard that bound" }, { name: "Bound", number: true },
        { name: "Shadow price, units", number: true }, { name: "Costs / day", number: true }]}
      rows=${clamps.map((one) => html`<tr><th scope="row">${one.guard.replaceAll("_", " ")}${one.place ? ` (${one.place})` : ""}</th>
        <td class="number"><${Money} minor=${one.bound_minor} currency=${currency} /></td>
        <td class="number num">${number(one.shadow_price)}</td>
        <td class="number"><${Money} minor=${one.cost_per_day_minor} currency=${currency} tone="warn" /></td></tr>`)} />`}`;
}

function Numbers({ curve }) {
  const every = Math.max(1, Math.floor(curve.price_minor.length / NUMBERS));
  const places = curve.price_minor.map((_, place) => place).filter((place) => place % every === 0);
  return html`<${Table} label="Profit curve" head=${[{ name: "Price", number: true }, { name: "Profit after risk / day", number: true }, { name: "Units / day", number: true }]}
    rows=${places.map((place) => html`<tr><td class="number"><${Money} minor=${curve.price_minor[place]} currency=${curve.currency} /></td>
      <td class="number"><${Money} minor=${curve.objective_per_day_minor[place]} currency=${curve.currency} /></td>
      <td class="number num">${number(curve.expected_units_per_day[place], 2)}</td></tr>`)} />`;
}
