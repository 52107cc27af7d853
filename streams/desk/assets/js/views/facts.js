// What the decision rests on: beliefs, Greeks, the passport of a new product, the decisions before.
import { capital, count, days, known, money, number, percent, share, significant } from "../format.js";
import { html, useState } from "../lib.js";
import { Badge, Facts, Money, Panel, Shown, Table, Time } from "../ui.js";
import { minorDigits } from "../currencies.js";

const LOG_SHOWN = 25;

export function Beliefs({ decision }) {
  const { record, currency } = decision;
  if (!record) return null;
  const { demand, returns, stock, competitors } = record;
  const cover = known(stock.sellable_units) && stock.expected_sales_units > 0
    ? days((stock.sellable_units / stock.expected_sales_units) * stock.horizon_days) : null;
  const quote = record.market_maker;
  return html`<${Panel} title="What is believed" id="beliefs"><${Facts} rows=${[
    ["Elasticity", `${number(demand.elasticity)} (${number(demand.elasticity_low)} to ${number(demand.elasticity_high)}, 90 %)`],
    ["Demand may be inelastic", share(demand.probability_inelastic, 0)],
    ["Units a day at the reference price", `${number(demand.units_per_day)} at ${money(demand.reference_price_minor, currency)}`],
    ["Learned from", `${count(demand.orders)} orders, ${count(demand.epochs)} epochs; ${demand.prior}`],
    ["Return rate", `${share(returns.rate)} ± ${share(returns.rate_sd)}`],
    ["Cost of handling a return", `${money(returns.handling_cost_minor, currency)} (${returns.handling_cost_source})`],
    known(returns.reserve_minor) && ["Returns still to come", `${number(returns.expected_back_units, 1)} units, ${money(returns.reserve_minor, currency)}`],
    ["Stock", stock.sellable_units === null ? "never reported: taken as unlimited" : `${count(stock.sellable_units)} units, ${cover ?? "cover unknown"}`],
    ["Horizon", days(stock.horizon_days)],
    ["Robust rival price", competitors.robust_price_minor === null ? null : `${money(competitors.robust_price_minor, currency)} of ${competitors.rivals_used} of ${competitors.rivals_seen} rivals`],
    ["Unit cost", money(record.unit_cost_minor, currency)],
    quote && ["As a quote", `fair ${money(quote.fair_minor, currency)}, skew ${money(quote.skew_minor, currency, { signed: true })}, half spread ${money(quote.half_spread_minor, currency)}`],
    ["Probe's cost a day", money(decision.exploration_cost_per_day_minor, currency)],
  ]} /><//>`;
}

/** Each Greek with its unit and what it says in money. */
function greekRows(decision) {
  const { greeks, currency } = decision;
  const unit = 10 ** minorDigits(currency);
  const major = money(unit, currency);
  const cash = (value) => (known(value) ? money(value, currency, { signed: true }) : null);
  const times = (value, factor) => (known(value) ? value * factor : null);
  return [
    ["Delta", "dΠ/dP", significant(greeks.delta), "units", `${major} dearer`, cash(times(greeks.delta, unit))],
    ["Gamma", "d²Π/dP²", significant(greeks.gamma), "units per minor unit", `each further ${major}`, cash(times(greeks.gamma, unit * unit))],
    ["Vega", "dΠ/dσ", significant(greeks.vega), "minor units", "demand 10 % more volatile", cash(times(greeks.vega, 0.1))],
    ["Rho", "dΠ/dq", significant(greeks.rho), "minor units per unit", "one unit more in stock", cash(greeks.rho)],
    ["Theta", "−dΠ/dT", significant(greeks.theta), "minor units a day", "one day passed", cash(greeks.theta)],
    ["Vanna", "d²Π/dP dσ", significant(greeks.vanna), "units", "Delta, 10 % more volatile", known(greeks.vanna) ? `${significant(greeks.vanna * 0.1)} units` : null],
    ["Vega of elasticity", "dΠ/d sd(ε)", significant(greeks.vega_elasticity), "minor units", "0.1 less sure of elasticity", cash(times(greeks.vega_elasticity, 0.1))],
    ["Vega of returns", "dΠ/d sd(R)", significant(greeks.vega_return), "minor units", "1 point less sure of returns", cash(times(greeks.vega_return, 0.01))],
    ["Cost slope", "dΠ/dC", significant(greeks.cost_slope), "units", `cost ${major} higher`, cash(times(greeks.cost_slope, unit))],
    ["Rival slope", "dΠ/d ln Pc", significant(greeks.rival_slope), "minor units", "rivals 1 % dearer", cash(times(greeks.rival_slope, 0.01))],
  ];
}

export function Greeks({ decision }) {
  if (!decision.greeks || !decision.record) return null;
  const { horizon_days: horizon } = decision.record.stock;
  return html`<${Panel} title="Greeks at this price" id="greeks" note=${`Π is expected profit after risk over ${number(horizon, 1)} days.`}>
    <${Table} label="Greeks" head=${[{ name: "Greek" }, { name: "Value", number: true }, { name: "Unit" }, { name: "If" }, { name: "Π changes by", number: true }]}
      rows=${greekRows(decision).map(([name, sign, value, unit, event, effect]) => html`<tr>
        <th scope="row">${name} <span class="note">${sign}</span></th><td class="number num"><${Shown}>${value}<//></td>
        <td class="note">${unit}</td><td>${event}</td><td class="number num"><${Shown}>${effect}<//></td></tr>`)} /><//>`;
}

export function Passport({ passport, currency }) {
  if (!passport) return null;
  const graduated = known(passport.graduated_at);
  return html`<${Panel} title="Cold-start passport" id="passport"
      actions=${html`<${Badge} tone=${graduated ? "good" : "warn"} mark=${graduated ? "✓" : "…"}>${graduated ? "Graduated" : "Still learning"}<//>`}>
    <div class="meter" role="img" aria-label=${`confidence ${share(passport.confidence, 0)}`}><span style=${{ width: `${100 * passport.confidence}%` }}></span></div>
    <${Facts} rows=${[
      ["Confidence", share(passport.confidence, 0)],
      ["Prior", `${passport.prior} (${passport.prior_sha256.slice(0, 12)})`],
      ["Orders seen", count(passport.orders)],
      ["Graduated", graduated ? html`<${Time} at=${passport.graduated_at} />` : `when ${passport.graduates_when}`],
      ["Expert's price", `${money(passport.expert_price_minor, currency)}, share ${share(passport.expert_share, 0)}`],
      ["Distance of its attributes", known(passport.attribute_distance) ? `${number(passport.attribute_distance)} (1 is typical)` : null],
      known(passport.hedged_price_minor) && ["Hedged price", money(passport.hedged_price_minor, currency)],
    ]} /><//>`;
}

const TONES = { published: "good", held: "warn", reverted: "bad" };
const MARKS = { published: "✓", held: "‖", reverted: "↩" };

export function DecisionLog({ history, currency }) {
  const [all, setAll] = useState(false);
  const newest = [...history].reverse();
  const shown = all ? newest : newest.slice(0, LOG_SHOWN);
  const more = history.length - shown.length;
  return html`<${Panel} title="Decision log" id="log" wide note=${`${count(history.length)} decisions, newest first; the last 500 are kept here.`}>
    <${Table} label="Decisions" head=${[{ name: "Version", number: true }, { name: "When" }, { name: "Status" }, { name: "Asked for by" },
        { name: "Price", number: true }, { name: "Wanted", number: true }, { name: "Rival", number: true }, { name: "Margin", number: true },
        { name: "Elasticity", number: true }, { name: "Returns", number: true }]}
      rows=${shown.map((one) => html`<tr key=${one.version}><td class="number num">${one.version}</td><td><${Time} at=${one.decided_at} quiet /></td>
        <td><${Badge} tone=${TONES[one.status]} mark=${MARKS[one.status]}>${capital(one.status)}<//></td><td><${Shown}>${one.trigger}<//></td>
        <td class="number"><${Money} minor=${one.price_minor} currency=${currency} /></td>
        <td class="number"><${Money} minor=${one.wanted_minor} currency=${currency} /></td>
        <td class="number"><${Money} minor=${one.rival_minor} currency=${currency} /></td>
        <td class="number num"><${Shown}>${percent(one.margin_pct)}<//></td><td class="number num"><${Shown}>${number(one.elasticity)}<//></td>
        <td class="number num"><${Shown}>${share(one.return_rate)}<//></td></tr>`)} />
    ${more > 0 && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>Show ${count(more)} earlier ones</button>`}<//>`;
}
