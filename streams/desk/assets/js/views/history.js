// Price, what was wanted, and the robust rival price, over event time.
import { axes, Chart, ink, stepped } from "../chart.js";
import { known, money } from "../format.js";
import { html, useMemo } from "../lib.js";
import { Empty, Money, Panel, Table, Time } from "../ui.js";
import { minorDigits } from "../currencies.js";

const NUMBERS_MAX = 60;
const FEW = 3; // decisions that make no line: dots, then

function series(history, currency) {
  const unit = 10 ** minorDigits(currency);
  const of = (name, where = () => true) =>
    history.map((one) => (where(one) && known(one[name]) ? one[name] / unit : null));
  return [
    history.map((one) => Date.parse(one.decided_at) / 1000),
    of("price_minor"),
    of("rival_minor"),
    of("wanted_minor", (one) => one.status !== "published"),
  ];
}

export function History({ history, currency, sku }) {
  const data = useMemo(() => series(history, currency), [history, currency]);
  const options = useMemo(() => () => {
    const unit = 10 ** minorDigits(currency);
    const few = history.length < FEW;
    const value = (_, found) => (found === null ? "–" : money(found * unit, currency));
    const line = (label, colour, more) => ({
      label, value, stroke: ink(colour), width: 2, paths: stepped, spanGaps: true, points: { show: few }, ...more,
    });
    return {
      axes: axes((found) => money(found * unit, currency)),
      series: [
        { label: "Event time, UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        line("Price", "accent"),
        line("Robust rival price", "rival", { dash: [6, 4], width: 1.5 }),
        line("Wanted, held", "warn", { paths: () => null, points: { show: true, size: 7 } }),
      ],
      tzDate: (at) => uPlotUtc(at),
    };
  }, [currency, history]);
  if (!history.length) {
    return html`<${Panel} title="Price and rivals" id="history"><${Empty} title="No history yet">Each decision adds a point.<//><//>`;
  }
  const prices = history.map((one) => one.price_minor).filter(known);
  const label = `Price of ${sku} over ${history.length} decisions, between `
    + `${money(Math.min(...prices), currency)} and ${money(Math.max(...prices), currency)}, with the robust rival price.`;
  return html`<${Panel} title="Price and rivals" id="history">
    <${Chart} label=${label} data=${data} options=${options}
      table=${html`<${Numbers} history=${history} currency=${currency} />`} /><//>`;
}

// uPlot reads a Date's local parts; shifted by the zone's offset these are UTC's.
function uPlotUtc(seconds) {
  const at = new Date(seconds * 1000);
  return new Date(at.getTime() + at.getTimezoneOffset() * 60000);
}

function Numbers({ history, currency }) {
  const shown = history.slice(-NUMBERS_MAX).reverse();
  return html`<${Table} label="Price history" head=${[{ name: "When" }, { name: "Price", number: true }, { name: "Rival", number: true }, { name: "Wanted", number: true }]}
    rows=${shown.map((one) => html`<tr key=${one.version}><td><${Time} at=${one.decided_at} quiet /></td>
      <td class="number"><${Money} minor=${one.price_minor} currency=${currency} /></td>
      <td class="number"><${Money} minor=${one.rival_minor} currency=${currency} /></td>
      <td class="number"><${Money} minor=${one.wanted_minor} currency=${currency} /></td></tr>`)} />`;
}
