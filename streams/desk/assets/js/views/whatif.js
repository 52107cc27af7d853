// What if: price, cost, stock, elasticity. The gateway answers with the decision's own inputs changed.
import { ask, product } from "../api.js";
import { capital, known, money, number, share } from "../format.js";
import { html, useEffect, useState } from "../lib.js";
import { noticed } from "../store.js";
import { Panel, Shown } from "../ui.js";
import { minorDigits } from "../currencies.js";

const PAUSE_MS = 120; // a slider that moves asks when it rests

/** The sliders: from the decision's own values, in the units people think in. */
function sliders(decision) {
  const { record, currency } = decision;
  const unit = 10 ** minorDigits(currency);
  const price = decision.price_minor ?? decision.wanted_minor;
  const cost = record.unit_cost_minor;
  const stock = record.stock.sellable_units;
  const step = 1 / unit;
  return [
    { key: "price_minor", name: `Price, ${currency}`, value: price / unit, min: Math.max(step, (0.5 * price) / unit), max: (1.8 * price) / unit, step, times: unit },
    { key: "unit_cost_minor", name: `Unit cost, ${currency}`, value: cost / unit, min: (0.5 * cost) / unit, max: (1.8 * cost) / unit, step, times: unit },
    { key: "stock_units", name: "Stock, units", value: stock ?? 0, min: 0, max: Math.max(20, 3 * (stock ?? 30)), step: 1, times: 1, unknown: stock === null },
    { key: "elasticity", name: "Elasticity", value: record.demand.elasticity, min: Math.min(-6, record.demand.elasticity), max: -0.2, step: 0.05, times: 1 },
  ];
}

const DIGITS = { elasticity: 2, stock_units: 0 };

export function WhatIf({ sku, decision, onTried }) {
  if (!decision.record) return null;
  return html`<${Sliders} key=${sku} sku=${sku} decision=${decision} onTried=${onTried} />`;
}

/** Ask for `body` after a pause, again with each `key`; nothing is asked where it is null. */
function useReckoned(sku, key, body, pauseMs) {
  const [found, setFound] = useState({ answer: null, failure: null });
  useEffect(() => {
    if (body === null) {
      setFound({ answer: null, failure: null });
      return undefined;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setFound({ answer: await ask(`${product(sku)}/whatif`, { body, signal: stop.signal }), failure: null });
      } catch (failure) {
        if (failure.name === "AbortError") return;
        noticed(failure);
        setFound((before) => ({ ...before, failure }));
      }
    }, pauseMs);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key]);
  return found;
}

function Sliders({ sku, decision, onTried }) {
  const all = sliders(decision);
  const [changed, setChanged] = useState({}); // stays when a new decision comes
  const price = { price_minor: decision.price_minor ?? decision.wanted_minor };
  const times = Object.fromEntries(all.map((one) => [one.key, one.times]));
  const asked = Object.entries(changed).map(([key, value]) => [key, value * times[key]]);
  const body = asked.length ? { ...price, ...Object.fromEntries(asked) } : null;
  const now = useReckoned(sku, decision.version, price, 0);
  const tried = useReckoned(sku, `${decision.version}/${JSON.stringify(body)}`, body, PAUSE_MS);
  const today = now.answer;
  const answer = tried.answer ?? today;
  const failure = tried.failure ?? now.failure;
  useEffect(() => onTried(tried.answer), [tried.answer]);

  const put = (key, value) => setChanged((before) => ({ ...before, [key]: value }));
  const best = known(answer?.best_price_minor) && answer.best_price_minor / all[0].times;
  return html`<${Panel} title="What if" id="whatif" note="Nothing here is sent to the shop."
      actions=${html`<button type="button" class="quiet" disabled=${!Object.keys(changed).length} onClick=${() => setChanged({})}>Reset sliders</button>`}>
    <div class="sliders">${all.map((one) => html`<${Slider} ...${one} id=${`if-${one.key}`} now=${changed[one.key] ?? one.value}
      was=${one.value} isSet=${one.key in changed} put=${(value) => put(one.key, value)} digits=${DIGITS[one.key] ?? minorDigits(decision.currency)} />`)}</div>
    ${failure && html`<p class="bad" role="alert">${capital(failure.message)}</p>`}
    ${answer && today && html`<${Compared} answer=${answer} today=${today} currency=${decision.currency} />`}
    ${best !== false && html`<p class="best" role="status">Best price under these: <b>${money(answer.best_price_minor, decision.currency)}</b>,
      ${" "}earning ${money(answer.best_objective_per_day_minor, decision.currency)} a day
      ${" "}<button type="button" class="quiet" onClick=${() => put("price_minor", best)}>Try it</button></p>`}<//>`;
}

function Slider({ id, name, now, was, min, max, step, put, digits, isSet, unknown }) {
  return html`<div class="slider">
    <label for=${id}>${name}</label>
    <output for=${id} class=${isSet ? "changed" : ""}>${unknown && !isSet ? "unlimited" : number(now, digits)}${isSet ? html` <span class="was">was ${unknown ? "unlimited" : number(was, digits)}</span>` : ""}</output>
    <input id=${id} type="range" min=${min} max=${max} step=${step} value=${now}
      aria-valuetext=${number(now, digits)} onInput=${(event) => put(Number(event.target.value))} />
  </div>`;
}

const ROWS = [
  ["Price", "price_minor", (value, currency, signed) => money(value, currency, { signed })],
  ["Profit after risk / day", "objective_per_day_minor", (value, currency, signed) => money(value, currency, { signed })],
  ["Units / day", "expected_units_per_day", (value, _, signed) => number(value, 2, { signed })],
  ["Margin a unit", "margin_minor", (value, currency, signed) => money(value, currency, { signed })],
  ["Returns", "return_rate", (value) => share(value)],
  ["Profit's sd, horizon", "profit_sd_minor", (value, currency, signed) => money(value, currency, { signed })],
];

function Compared({ answer, today, currency }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label="What if, compared"><table class="compared"><thead><tr><th scope="col"><span class="hidden">Figure</span></th>
    <th scope="col" class="number">Today</th><th scope="col" class="number">What if</th><th scope="col" class="number">Difference</th></tr></thead>
    <tbody>${ROWS.map(([name, key, format]) => {
      const difference = known(answer[key]) && known(today[key]) ? answer[key] - today[key] : null;
      const gain = key === "objective_per_day_minor" && known(difference) && Math.abs(difference) >= 0.5;
      return html`<tr><th scope="row">${name}</th>
        <td class="number num"><${Shown}>${format(today[key], currency)}<//></td>
        <td class="number num" data-figure=${key}><${Shown}>${format(answer[key], currency)}<//></td>
        <td class=${`number num ${gain ? (difference > 0 ? "good" : "bad") : ""}`}><${Shown}>${format(difference, currency, true)}<//></td></tr>`;
    })}</tbody></table></div>`;
}
