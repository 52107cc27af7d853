// The breaker board and the kill switch. What is done here is an event on the tape.
import { ask } from "../api.js";
import { capital, count, known } from "../format.js";
import { html, useEffect, useState } from "../lib.js";
import { useAsked } from "../loaded.js";
import { killSwitch, steered } from "../store.js";
import { Answer, Badge, Breaker, Confirm, Empty, Operate, Panel, ProductLink, Shown, Table, Time } from "../ui.js";

export const scopeWords = (scope) =>
  scope.kind === "catalogue" ? "The whole catalogue" : `${scope.kind === "sku" ? "Product" : "Family"} ${scope.name}`;

export function Breakers() {
  const found = useAsked("/desk/breakers", steered.value);
  useEffect(() => {
    if (found.data) killSwitch.value = found.data.switch;
  }, [found.data]);
  return html`<h1>Breakers</h1>
    <p class="lead">What holds prices back, and by whose hand. What is done here is an event on the tape, with your name and reason.</p>
    <${Answer} found=${found} what="the breaker board">${(data) => html`<${Board} data=${data} />`}<//>`;
}

function Board({ data }) {
  const [dialog, setDialog] = useState(null);
  const ask = (what, scope) => setDialog({ what, scope });
  const open = data.breakers.filter((one) => one.state !== "CLOSED");
  const whole = data.breakers.find((one) => one.scope.kind === "catalogue");
  return html`<div class="panels">
    <${Switch} found=${data.switch} />
    <${Panel} title="Whole catalogue" id="whole" actions=${whole && html`<${Breaker} state=${whole.state} />`}
        note="Open, it holds every price of the catalogue where it is.">
      ${whole?.reasons.length ? html`<p>${whole.reasons.join("; ")}</p>` : html`<p>No reason to hold anything.</p>`}
      <div class="buttons"><${Operate} onClick=${() => ask("trip", { kind: "catalogue", name: null })}>Trip the catalogue…<//>
        <${Operate} onClick=${() => ask("trip", null)}>Trip a product or family…<//></div><//>
    <${Panel} title="Not closed" id="open" wide note="Open: the price stays. Half open: a small step is allowed, to see whether the reason has passed.">
      ${open.length === 0 ? html`<${Empty} title="Every breaker is closed">Prices go out as they are decided.<//>` : html`<${Open} lines=${open} ask=${ask} />`}<//>
    <${Panel} title="Timeline" id="timeline" wide note="The last 200 changes, newest first.">
      ${data.timeline?.length ? html`<${Timeline} lines=${data.timeline} />` : html`<${Empty} title="No breaker has changed yet">Each change will be here with its reason.<//>`}<//>
    ${dialog && html`<${ScopeDialog} what=${dialog.what} kind=${dialog.scope?.kind} name=${dialog.scope?.name} choose=${!dialog.scope} close=${() => setDialog(null)} />`}
  </div>`;
}

const ScopeName = ({ scope }) =>
  scope.kind === "sku" ? html`Product <${ProductLink} sku=${scope.name} />` : scopeWords(scope);

function Open({ lines, ask }) {
  return html`<${Table} label="Breakers that are not closed" head=${[{ name: "Scope" }, { name: "State" }, { name: "Why" }, { name: "Products", number: true }, { name: "Since" }, { name: "Act" }]}
    rows=${lines.map((one) => html`<tr key=${`${one.scope.kind}/${one.scope.name}`}>
      <th scope="row"><${ScopeName} scope=${one.scope} /></th><td><${Breaker} state=${one.state} /></td>
      <td class="why">${one.reasons.join("; ")}</td><td class="number num"><${Shown}>${count(one.products)}<//></td>
      <td><${Time} at=${one.since} /></td>
      <td class="acts"><${Operate} label=${`Reset ${scopeWords(one.scope)}`} onClick=${() => ask("reset", one.scope)}>Reset…<//></td></tr>`)} />`;
}

/** "OPEN -> HALF_OPEN by ann: mended" without what stands beside it already. */
const withoutStates = (message) => message.replace(/^\w+ -> \w+:? /, "");

function Timeline({ lines }) {
  return html`<${Table} label="Timeline of breakers" head=${[{ name: "When" }, { name: "Scope" }, { name: "Became" }, { name: "Why" }]}
    rows=${lines.map((one) => html`<tr><td><${Time} at=${one.at} quiet /></td><th scope="row"><${ScopeName} scope=${one.scope} /></th>
      <td><${Breaker} state=${one.to} /></td><td class="why">${one.reasons.join("; ") || withoutStates(one.message)}</td></tr>`)} />`;
}

function Switch({ found }) {
  const [asking, setAsking] = useState(false);
  const on = Boolean(found?.on);
  const verb = on ? "Release the kill switch" : "Throw the kill switch";
  return html`<${Panel} title="Kill switch" id="switch"
      actions=${html`<${Badge} tone=${on ? "bad" : "good"} mark=${on ? "■" : "●"}>${on ? "On: nothing goes out" : "Off"}<//>`}
      note="Thrown, no new price leaves: the workers, the feeds and this gateway stop passing prices on at once. Prices in the shop stay.">
    ${on && html`<p>By ${found.actor ?? "unknown"}${known(found.at) && html`, <${Time} at=${found.at} />`}${found.reason && `: ${found.reason}`}</p>`}
    <div class="buttons"><${Operate} tone=${on ? "primary" : "danger"} onClick=${() => setAsking(true)}>${verb}…<//></div>
    ${asking && html`<${Confirm} title=${`${verb}?`} verb=${verb} tone=${on ? "" : "danger"}
      done=${on ? "The kill switch was released: products are decided anew." : "The kill switch was thrown."}
      send=${(reason) => ask("/desk/kill-switch", { body: { on: !on, reason } })} close=${() => setAsking(false)}>
      <p>${on ? "Every product is decided anew at the next tick, and prices go out again." : "No new price of any product goes out until it is released."}</p><//>`}<//>`;
}

/** Trip or reset a breaker; `choose` asks for the scope, too. */
export function ScopeDialog({ what, kind, name, choose = false, close }) {
  const scope = { kind, name: name ?? null };
  const title = choose ? "Trip a breaker" : `${capital(what)}: ${scopeWords(scope)}`;
  const send = (reason, form) => ask(`/desk/breakers/${what}`, {
    body: { scope: choose ? { kind: form.get("kind"), name: form.get("name").trim() } : scope, reason },
  });
  return html`<${Confirm} title=${title} verb=${what === "trip" ? "Trip" : "Reset"} tone=${what === "trip" ? "danger" : ""}
    done=${what === "trip" ? "The trip is on the tape." : "The reset is on the tape."} send=${send} close=${close}>
    ${choose && html`<div class="pair"><label>Scope <select name="kind"><option value="sku">Product</option><option value="family">Family</option></select></label>
      <label>Name <input name="name" required autocomplete="off" /></label></div>`}
    <p>${what === "trip" ? "Its price stays where it is until somebody resets it." : "It becomes half open, with everything below it: small steps are allowed until they prove harmless."}</p><//>`;
}

