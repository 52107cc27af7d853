// What needs a person, by money at stake a day.
import { capital, count } from "../format.js";
import { html, useState } from "../lib.js";
import { useAsked } from "../loaded.js";
import { href } from "../router.js";
import { exceptionsFound, steered } from "../store.js";
import { Answer, Badge, Empty, Money, ProductLink, Table, Time } from "../ui.js";

const STEP = 50;
const TONES = { blocked: "bad", "kill switch": "bad", breaker: "bad", gate: "bad", guard: "bad", drift: "warn", approval: "warn" };
const MARKS = { blocked: "✕", "kill switch": "■", breaker: "○", gate: "‖", guard: "‖", approval: "?", drift: "∿", limited: "⌈", "gave way": "!" };

export function Exceptions() {
  const [limit, setLimit] = useState(STEP);
  const found = useAsked(`/desk/exceptions?limit=${limit}`, `${exceptionsFound.value}/${steered.value}`);
  return html`<h1>Exceptions</h1>
    <p class="lead">Products that need a person, by the money at stake a day: what a held price would earn more,
      else what lies between the best price and the one in the shop. Where nobody can tell, the product comes first.</p>
    <${Answer} found=${found} what="the exceptions">${(data) => html`<${Ranked} data=${data} more=${() => setLimit(limit + STEP)} />`}<//>`;
}

function Ranked({ data, more }) {
  const { found, exceptions } = data;
  if (!found) return html`<${Empty} title="Nothing needs a person">Every price is out, and no limit costs money.<//>`;
  return html`<div class="panel"><${Table} label="Exceptions" className="cases" head=${[{ name: "Rank", number: true }, { name: "At stake / day", number: true }, { name: "Product" }, { name: "What" }, { name: "Why" }, { name: "Decided" }]}
    rows=${exceptions.map((one, place) => html`<tr key=${one.sku}>
      <td class="number num">${place + 1}</td>
      <td class="number stake"><${Money} minor=${one.at_stake_per_day_minor} currency=${one.currency} /></td>
      <th scope="row"><${ProductLink} sku=${one.sku} /></th>
      <td><${Badge} tone=${TONES[one.kind] ?? "quiet"} mark=${MARKS[one.kind] ?? "!"}>${capital(one.label ?? one.kind)}<//></td>
      <td class="why">${one.reasons.join("; ")}${one.kind === "approval" && html` <a href=${href("approvals")}>Decide</a>`}</td>
      <td><${Time} at=${one.decided_at} quiet /></td></tr>`)} />
    <p class="note" role="status">${count(exceptions.length)} of ${count(found)}
      ${exceptions.length < found && html` <button type="button" class="quiet" onClick=${more}>Show more</button>`}</p></div>`;
}
