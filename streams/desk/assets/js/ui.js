// Parts that every view uses.
import { ago, breakerWords, capital, exact, known, money, UNKNOWN } from "./format.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { productHref } from "./router.js";
import { mayOperate, noticed, now, toast } from "./store.js";

/** "3 s ago" with the exact time on hover and on focus. */
export function Time({ at, quiet = false }) {
  if (!at) return html`<${Unknown} />`;
  return html`<time class="time" datetime=${at} tabindex=${quiet ? undefined : 0}
    data-exact=${exact(at)}>${ago(at, now.value)}<span class="hidden">, ${exact(at)}</span></time>`;
}

export function Unknown() {
  return html`<span aria-hidden="true" class="unknown">${UNKNOWN}</span><span class="hidden">unknown</span>`;
}

/** Text, or a dash that is read out as "unknown". */
export const Shown = ({ children }) =>
  known(children) && children !== UNKNOWN ? html`${children}` : html`<${Unknown} />`;

/** Money whose sign matters: what costs is marked by its sign and colour, never colour alone. */
export function Money({ minor, currency, signed = false, tone = "" }) {
  return html`<span class=${`num ${tone}`}><${Shown}>${money(minor, currency, { signed })}<//></span>`;
}

const MARKS = { CLOSED: "●", HALF_OPEN: "◐", OPEN: "○" };
const TONES = { CLOSED: "quiet", HALF_OPEN: "warn", OPEN: "bad" };

export function Breaker({ state }) {
  return Badge({ tone: TONES[state] ?? "quiet", mark: MARKS[state] ?? "?", children: breakerWords(state) });
}

export function Badge({ tone = "quiet", mark = null, children }) {
  const sign = mark && html`<span aria-hidden="true" class="mark">${mark}</span>`;
  return html`<span class=${`badge ${tone}`}>${sign}${children}</span>`;
}

export const ProductLink = ({ sku }) =>
  html`<a class="sku" href=${productHref(sku)}>${sku}</a>`;

export function Panel({ title, note, actions, wide = false, id, children }) {
  return html`<section class=${`panel ${wide ? "wide" : ""}`} aria-labelledby=${id} data-panel=${id}>
    <header class="panel-head"><h2 id=${id}>${title}</h2>${actions}</header>
    ${note && html`<p class="note">${note}</p>`}${children}
  </section>`;
}

export function Empty({ title, children }) {
  return html`<div class="state"><p class="state-title">${title}</p><p>${children}</p></div>`;
}

export function Loading({ what }) {
  return html`<div class="state" role="status"><span class="spinner" aria-hidden="true"></span>
    <p class="state-title">Reading ${what}…</p></div>`;
}

/** What went wrong, in the gateway's words, and what helps. */
export function Problem({ failure, what }) {
  const starting = failure.status === 503;
  const title = starting
    ? "The gateway is not ready yet"
    : failure.status === 403
      ? "Your role does not allow this"
      : failure.status === 404
        ? `There is no ${what}`
        : `Reading ${what} failed`;
  const again = [0, 429, 503].includes(failure.status);
  return html`<div class="state" role=${starting ? "status" : "alert"}>
    <p class="state-title">${title}</p>
    <p>${capital(failure.message)}</p>
    ${failure.fix && html`<p>${failure.fix}</p>`}
    ${again && html`<p class="note"><span class="spinner" aria-hidden="true"></span> Trying again by itself.</p>`}
  </div>`;
}

/** A view's answer, or how far it is. `children` is a function of the data. */
export function Answer({ found, what, children }) {
  if (found.state === "loading") return html`<${Loading} what=${what} />`;
  if (found.state === "failed") return html`<${Problem} failure=${found.failure} what=${what} />`;
  const stale = found.failure && html`<p class="stale" role="status">
    These are the last known figures: ${found.failure.message}</p>`;
  return html`${stale}${children(found.data)}`;
}

/** A table that scrolls by itself, also by keyboard, so that the page never gets wider. */
export function Table({ label, head, rows, className = "" }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>
    <table class=${className}><thead><tr>${head.map(
      (one) => html`<th scope="col" class=${one.number ? "number" : ""}>${one.name}</th>`,
    )}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

/** Facts as term and value. */
export function Facts({ rows }) {
  return html`<dl class="facts">${rows
    .filter(Boolean)
    .map(([term, value]) => html`<div><dt>${term}</dt><dd><${Shown}>${value}<//></dd></div>`)}</dl>`;
}

/** A button that only an operator can use; others read why. */
export function Operate({ onClick, tone = "", children, label }) {
  const may = mayOperate.value;
  return html`<button type="button" class=${tone} aria-label=${label} onClick=${onClick}
    disabled=${!may} title=${may ? undefined : "Needs the role operate"}>${children}</button>`;
}

const REASON_MIN = 3;

/**
 * A dialog that asks for a reason before something is sent to the tape. `send(reason, form)` does
 * it; the dialog closes when it worked and says so, else it shows what the gateway says.
 */
export function Confirm({ title, verb, tone = "", done, send, close, children }) {
  const dialog = useRef(null);
  const [failure, setFailure] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.isConnected && before.focus();
  }, []);
  async function submit(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    setBusy(true);
    try {
      await send(form.get("reason").trim(), form);
      toast(done);
      close();
    } catch (error) {
      noticed(error);
      setFailure(error);
      setBusy(false);
    }
  }
  return html`<dialog ref=${dialog} class="dialog" aria-labelledby="confirm-title" onClose=${close}>
    <form onSubmit=${submit}>
      <h2 id="confirm-title">${title}</h2>
      ${children}
      <label for="confirm-reason">Reason, kept on the tape with your name</label>
      <textarea id="confirm-reason" name="reason" required minlength=${REASON_MIN} maxlength="500"
        rows="3"></textarea>
      ${failure && html`<p class="bad" role="alert">${capital(failure.message)} ${failure.fix}</p>`}
      <div class="buttons">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="submit" class=${`primary ${tone}`} disabled=${busy}>${verb}</button>
      </div>
    </form>
  </dialog>`;
}
