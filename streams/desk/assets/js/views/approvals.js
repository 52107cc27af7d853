// Prices that wait for a person's yes or no.
import { ask, product } from "../api.js";
import { known, money, percent } from "../format.js";
import { html, useState } from "../lib.js";
import { useAsked } from "../loaded.js";
import { exceptionsFound, steered } from "../store.js";
import { Answer, Confirm, Empty, Money, Operate, ProductLink, Time } from "../ui.js";

const SHOWN_MAX = 1000; // exceptions that are looked through for those that wait
const CARDS = 20;

export function Approvals() {
  const [answered, setAnswered] = useState(0);
  const [cards, setCards] = useState(CARDS);
  const again = `${exceptionsFound.value}/${steered.value}/${answered}`;
  const found = useAsked(`/desk/exceptions?limit=${SHOWN_MAX}`, again);
  return html`<h1>Approvals</h1>
    <p class="lead">The policy asks a person about these prices. An approved price is checked again by every guard before it goes out.</p>
    <${Answer} found=${found} what="what waits for approval">${(data) => {
      const waiting = data.exceptions.filter((one) => one.kind === "approval" && one.price_id);
      if (!waiting.length) return html`<${Empty} title="Nothing waits for approval">Prices that the policy wants approved will be here.<//>`;
      return html`<p role="status" class="note">${waiting.length} ${waiting.length === 1 ? "price waits" : "prices wait"}</p>
        <ul class="cards">${waiting.slice(0, cards).map((one) => html`<${Card} key=${one.price_id} case=${one} done=${() => setAnswered(answered + 1)} />`)}</ul>
        ${waiting.length > cards && html`<button type="button" class="quiet" onClick=${() => setCards(cards + CARDS)}>Show more</button>`}`;
    }}<//>`;
}

function Card({ case: one, done }) {
  const [dialog, setDialog] = useState(null);
  const found = useAsked(product(one.sku), one.price_id);
  const decision = found.data?.decision;
  const change = known(decision?.price_minor) && known(decision?.wanted_minor)
    ? 100 * (decision.wanted_minor / decision.price_minor - 1) : null;
  return html`<li class="card"><header><h2><${ProductLink} sku=${one.sku} /></h2><${Time} at=${one.decided_at} /></header>
    <p class="proposal">${decision
      ? html`<span class="hidden">from </span><${Money} minor=${decision.price_minor} currency=${decision.currency} /><span aria-hidden="true"> → </span><span class="hidden"> to </span>
          <b><${Money} minor=${decision.wanted_minor} currency=${decision.currency} /></b>
          <span class="note">${change !== null && ` ${change > 0 ? "+" : ""}${percent(change)}`}</span>`
      : html`<span class="note">reading the price…</span>`}</p>
    <p>${one.reasons.join("; ")}</p>
    <p class="note">Waiting costs <${Money} minor=${one.at_stake_per_day_minor} currency=${one.currency} /> a day</p>
    <div class="buttons"><${Operate} tone="primary" label=${`Approve ${one.sku}`} onClick=${() => setDialog("approve")}>Approve…<//>
      <${Operate} label=${`Reject ${one.sku}`} onClick=${() => setDialog("reject")}>Reject…<//></div>
    ${dialog && html`<${ApprovalDialog} answer=${dialog} sku=${one.sku} priceId=${one.price_id} from=${decision?.price_minor}
      to=${decision?.wanted_minor} currency=${one.currency} close=${() => { setDialog(null); done(); }} />`}
  </li>`;
}

export function ApprovalDialog({ answer, sku, priceId, from, to, currency, close }) {
  const approve = answer === "approve";
  return html`<${Confirm} title=${`${approve ? "Approve" : "Reject"} the price of ${sku}?`} verb=${approve ? "Approve" : "Reject"}
    done=${`${approve ? "The approval" : "The rejection"} of ${sku} is on the tape.`}
    send=${(reason) => ask("/desk/approvals", { body: { sku, price_id: priceId, answer, reason } })} close=${close}>
    <p>${approve
      ? `From ${money(from, currency)} to ${money(to, currency)}. It goes out if the guards still allow it.`
      : `The price stays at ${money(from, currency)}.`}</p><//>`;
}
