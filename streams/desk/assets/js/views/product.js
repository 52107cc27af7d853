// One product: what its price is, why, what would happen otherwise, and what was decided before.
import * as catalogue from "../catalogue_data.js";
import { product as pathOf } from "../api.js";
import { capital, known, money, percent, share } from "../format.js";
import { html, useState } from "../lib.js";
import { useAsked } from "../loaded.js";
import { href } from "../router.js";
import { Answer, Badge, Breaker, Empty, Money, Operate, Panel, Shown, Time } from "../ui.js";
import { ApprovalDialog } from "./approvals.js";
import { ScopeDialog } from "./breakers.js";
import { ProfitCurve } from "./curve.js";
import { Beliefs, DecisionLog, Greeks, Passport } from "./facts.js";
import { History } from "./history.js";
import { Waterfall } from "./waterfall.js";
import { WhatIf } from "./whatif.js";

export function Product({ sku }) {
  const row = catalogue.rowOf(sku);
  const found = useAsked(pathOf(sku), row && `${row.version}/${row.breaker}/${row.held_by}`);
  return html`<p class="crumbs"><a href=${href("catalogue")}>Catalogue</a> / <span>${sku}</span></p>
    <${Answer} found=${found} what=${`product ${sku}`}>${(data) => html`<${Page} sku=${sku} data=${data} />`}<//>`;
}

function Page({ sku, data }) {
  const { decision } = data;
  const [tried, setTried] = useState(null);
  if (!decision) {
    return html`<h1>${sku}</h1><${Empty} title="This product has no decision yet">
      ${data.blocked ? `It can't be priced: ${data.blocked}.` : "Its first price will appear here."}<//>`;
  }
  return html`<${Head} sku=${sku} data=${data} />
    <div class="panels">
      <${Waterfall} decision=${decision} steps=${data.waterfall} />
      <div class="column">
        <${History} history=${data.history} currency=${decision.currency} sku=${sku} />
        <${Greeks} decision=${decision} />
        <${Passport} passport=${data.passport} currency=${decision.currency} />
      </div>
      <div class="column">
        <${ProfitCurve} sku=${sku} version=${decision.version} tried=${tried} />
        <${WhatIf} sku=${sku} decision=${decision} onTried=${setTried} />
        <${Beliefs} decision=${decision} />
      </div>
      <${DecisionLog} history=${data.history} currency=${decision.currency} />
      <${Panel} title="In words" id="words" wide><pre class="words" tabindex="0">${data.text.trim()}</pre><//>
    </div>`;
}

function Head({ sku, data }) {
  const { decision } = data;
  const { record, currency, status } = decision;
  const [dialog, setDialog] = useState(null);
  const waits = decision.reasons.some((reason) => reason.startsWith("approval") && !reason.includes("rejected before"));
  const kept = status === "held" && known(decision.price_minor);
  const live = catalogue.rowOf(sku);
  const state = live?.breaker ?? record?.breaker.state;
  return html`<header class="product-head">
    <div>
      <h1>${sku}</h1>
      <p class="note">${record?.category || "no category"} · version ${decision.version} · decided <${Time} at=${decision.decided_at} />${" "}
        · asked for by ${record?.trigger ?? "unknown"}</p>
      <p class="badges"><${Breaker} state=${state} />
        ${status !== "published" && html`<${Badge} tone="warn" mark="‖">${capital(status)}<//>`}
        ${data.blocked && html`<${Badge} tone="bad" mark="!">Can't be priced: ${data.blocked}<//>`}
        ${data.drift && html`<${Badge} tone="warn" mark="!">${data.drift}<//>`}
        ${record?.gave_way.map((rule) => html`<${Badge} tone="warn" mark="!">${rule.replaceAll("_", " ")} gave way<//>`)}</p>
    </div>
    <dl class="figures">
      <div><dt>${status === "held" ? "Price in the shop" : "Price"}</dt><dd class="big"><${Money} minor=${decision.price_minor} currency=${currency} /></dd></div>
      ${(status !== "published") && html`<div><dt>Wanted</dt><dd class="big warn"><${Money} minor=${decision.wanted_minor} currency=${currency} /></dd></div>`}
      <div><dt>Margin</dt><dd><${Shown}>${percent(decision.margin_pct)}<//></dd></div>
      <div><dt>Profit / day</dt><dd><${Money} minor=${record?.expected_profit_per_day_minor} currency=${currency} /></dd></div>
      <div><dt>Nearly as good</dt><dd><${Shown}>${decision.acceptable && `${money(decision.acceptable.low_minor, currency)} to ${money(decision.acceptable.high_minor, currency)}`}<//></dd></div>
      <div><dt>Confidence</dt><dd><${Shown}>${share(decision.confidence, 0)}<//></dd></div>
    </dl>
    <div class="buttons">
      ${waits && html`<${Operate} tone="primary" onClick=${() => setDialog("approve")}>Approve…<//>
        <${Operate} onClick=${() => setDialog("reject")}>Reject…<//>`}
      ${state === "CLOSED"
        ? html`<${Operate} onClick=${() => setDialog("trip")}>Trip breaker…<//>`
        : html`<${Operate} onClick=${() => setDialog("reset")}>Reset breaker…<//>`}
    </div>
    ${status !== "published" && html`<div class="notice warn"><b>${kept ? "Held" : capital(status)}:</b> ${decision.reasons.join("; ")}</div>`}
    ${(dialog === "approve" || dialog === "reject") && html`<${ApprovalDialog} answer=${dialog} sku=${sku}
      priceId=${decision.price_id} from=${decision.price_minor} to=${decision.wanted_minor} currency=${currency} close=${() => setDialog(null)} />`}
    ${(dialog === "trip" || dialog === "reset") && html`<${ScopeDialog} what=${dialog} kind="sku" name=${sku} close=${() => setDialog(null)} />`}
  </header>`;
}

