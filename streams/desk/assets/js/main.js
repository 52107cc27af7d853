// The desk's frame: navigation, the connection, the kill switch's banner, messages.
import * as catalogue from "./catalogue_data.js";
import { ago, capital, count } from "./format.js";
import { html, render, useEffect, useRef } from "./lib.js";
import { connect, disconnect } from "./live.js";
import { href, route } from "./router.js";
import { theme, turn } from "./scheme.js";
import { closeToast, connection, exceptionsFound, killSwitch, lag, logOut, now, readSession, session, toasts } from "./store.js";
import { Badge, Empty, Loading, Problem, Time } from "./ui.js";
import { Approvals } from "./views/approvals.js";
import { Breakers } from "./views/breakers.js";
import { Catalogue } from "./views/catalogue.js";
import { Exceptions } from "./views/exceptions.js";
import { Lag } from "./views/lag.js";
import { Login } from "./views/login.js";
import { Portfolio } from "./views/portfolio.js";
import { Product } from "./views/product.js";

const VIEWS = [
  ["catalogue", "Catalogue", Catalogue],
  ["exceptions", "Exceptions", Exceptions],
  ["approvals", "Approvals", Approvals],
  ["breakers", "Breakers", Breakers],
  ["portfolio", "Portfolio", Portfolio],
  ["lag", "Lag", Lag],
];
const NAV_MARGIN_PX = 60;
const WORST = ["REWIND", "STOP", "STALL", "WARN"];

function worstLag() {
  const found = new Set((lag.value?.groups ?? []).map((one) => one.status));
  return WORST.find((one) => found.has(one)) ?? null;
}

function Navigation() {
  const { view } = route.value;
  const notes = { exceptions: exceptionsFound.value ? count(exceptionsFound.value) : null, lag: worstLag(),
    breakers: killSwitch.value?.on ? "switch on" : null };
  const place = useRef(null);
  useEffect(() => {
    // On a phone the list is wider than the screen: show where one is.
    const here = place.current.querySelector("[aria-current]");
    if (here) place.current.scrollLeft = here.offsetLeft - place.current.offsetLeft - NAV_MARGIN_PX;
  }, [view]);
  return html`<nav aria-label="Views" ref=${place}><ul>${VIEWS.map(([key, name]) => {
    const here = view === key || (key === "catalogue" && view === "product");
    return html`<li><a href=${href(key)} aria-current=${here ? "page" : undefined}>${name}${notes[key] && html` <span class="tag">${notes[key]}</span>`}</a></li>`;
  })}</ul></nav>`;
}

const STATES = { live: ["good", "●", "Live"], connecting: ["quiet", "…", "Connecting"], lost: ["bad", "✕", "Reconnecting"] };

function Connection() {
  const { state, since } = connection.value;
  const [tone, mark, name] = STATES[state];
  return html`<span role="status" class="connection"><${Badge} tone=${tone} mark=${mark}>${name}<//>
    ${state === "lost" && html`<span class="note">figures as of ${ago(new Date(since).toISOString(), now.value)}</span>`}</span>`;
}

function Bar() {
  const { actor, role } = session.value;
  const dark = theme.value === "dark";
  return html`<header class="bar"><a class="brand" href=${href("catalogue")}><img src="icon.svg" alt="" width="22" height="22" />Pricemaker</a>
    <${Navigation} />
    <div class="who"><${Connection} />
      <button type="button" class="quiet" aria-pressed=${dark} onClick=${turn}>${dark ? "Light" : "Dark"}<span class="hidden"> colours</span></button>
      <span class="actor" title=${`role ${role}`}>${actor} <span class="note">${role}</span></span>
      ${actor !== "local" && html`<button type="button" class="quiet" onClick=${logOut}>Log out</button>`}</div>
  </header>`;
}

function Banner() {
  const found = killSwitch.value;
  if (!found?.on) return null;
  return html`<div class="banner" role="alert"><b><span aria-hidden="true">■</span> The kill switch is on: no new price goes out.</b>
    <span> By ${found.actor ?? "unknown"}${found.at && html`, <${Time} at=${found.at} />`}${found.reason && `: ${found.reason}`}</span>
    <a href=${href("breakers")}>Breakers</a></div>`;
}

const TOAST_MARKS = { good: "✓", bad: "✕" };

function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite" aria-atomic="false">${toasts.value.map((one) => html`<div key=${one.id} class=${`toast ${one.tone}`}>
    <span aria-hidden="true">${TOAST_MARKS[one.tone]}</span> ${one.text}
    <button type="button" class="quiet" aria-label="Close this message" onClick=${() => closeToast(one.id)}>✕</button></div>`)}</div>`;
}

function Here() {
  const { view, rest } = route.value;
  if (view === "product" && rest[0]) return html`<${Product} key=${rest[0]} sku=${rest[0]} />`;
  const found = VIEWS.find(([key]) => key === view);
  if (!found) return html`<${Empty} title="There is no such page"><a href=${href("catalogue")}>To the catalogue</a><//>`;
  return html`<${found[2]} />`;
}

function title() {
  const { view, rest } = route.value;
  const alarm = killSwitch.value?.on ? "■ " : "";
  return `${alarm}${view === "product" ? rest[0] : capital(view)} · Pricemaker desk`;
}

function Desk() {
  const { state, failure } = session.value;
  useEffect(() => {
    if (state !== "in") return undefined;
    catalogue.load();
    return disconnect;
  }, [state]);
  const { name, cursor } = catalogue.state.value;
  useEffect(() => {
    if (state === "in" && name === "ready") connect(cursor);
  }, [state, name, cursor]);
  const at = `${route.value.view}/${route.value.rest.join("/")}`;
  useEffect(() => {
    scrollTo(0, 0);
  }, [at]);
  document.title = title();
  if (state === "unknown") return html`<main class="boot-state"><${Loading} what="the desk" /></main>`;
  if (state === "failed") return html`<main class="boot-state"><${Problem} failure=${failure} what="the desk" /></main>`;
  if (state === "out") return html`<${Login} />`;
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the page</a><${Bar} /><${Banner} />
    <main id="main" tabindex="-1" class=${route.value.view === "catalogue" ? "full" : ""}><${Here} /></main><${Toasts} />`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const SESSION_RETRY_MS = 2000;

async function begin() {
  await readSession();
  if (session.value.state === "failed") setTimeout(begin, SESSION_RETRY_MS);
}

const root = document.getElementById("desk");
root.textContent = "";
render(html`<${Desk} />`, root);
begin();
