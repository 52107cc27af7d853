// How far consumers are behind: status by Burrow's rules, seconds, rate, time to catch up.
import { capital, count, duration, known, number } from "../format.js";
import { html, useEffect } from "../lib.js";
import { useAsked } from "../loaded.js";
import { lag } from "../store.js";
import { Answer, Badge, Empty, Panel, Shown, Table, Time } from "../ui.js";

const TONES = { OK: "good", WARN: "warn", STOP: "bad", STALL: "bad", REWIND: "bad" };
const MARKS = { OK: "●", WARN: "▲", STOP: "■", STALL: "‖", REWIND: "↺" };
const MEANINGS = [
  ["OK", "keeps up, or caught up within the window"],
  ["WARN", "reads on, but the lag never falls"],
  ["STALL", "commits, but the offset does not move"],
  ["STOP", "has not committed for as long as the window is"],
  ["REWIND", "the offset went back"],
];

export function Lag() {
  const found = useAsked("/desk/lag");
  const shown = lag.value ? { state: "ready", data: lag.value, failure: found.failure } : found;
  useEffect(() => {
    if (found.data && !lag.value) lag.value = found.data;
  }, [found.data]);
  return html`<h1>Consumer lag</h1>
    <${Answer} found=${shown} what="consumer lag">${(data) => html`<${Groups} data=${data} />`}<//>`;
}

const seconds = (ms) => (known(ms) ? duration(ms / 1000) : null);

export function Status({ status }) {
  if (!known(status)) return html`<${Badge} mark="?">Unknown<//>`;
  return html`<${Badge} tone=${TONES[status] ?? "quiet"} mark=${MARKS[status] ?? "?"}>${status}<//>`;
}

function Groups({ data }) {
  return html`<p class="lead">Measured <${Time} at=${data.observed_at} />. What is not known is said to be unknown, never 0.</p>
    <div class="panels"><${Freshness} freshness=${data.freshness} />
    ${data.groups.length === 0 && html`<${Empty} title="No consumer group yet">Start a worker: pricemaker worker.<//>`}
    ${data.groups.map((one) => html`<${Group} key=${one.group} group=${one} />`)}</div>
    <dl class="legend">${MEANINGS.map(([name, meaning]) => html`<div><dt><${Status} status=${name} /></dt><dd>${meaning}</dd></div>`)}</dl>`;
}

function Group({ group }) {
  const rows = group.partitions;
  return html`<${Panel} title=${group.group} id=${`group-${group.group}`} wide actions=${html`<${Status} status=${group.status} />`}
      note=${`${capital(group.state ?? "state unknown")}, ${count(group.members)} ${group.members === 1 ? "member" : "members"}${group.reason ? `; ${group.reason}` : ""}`}>
    <dl class="figures small">
      <div><dt>Messages behind</dt><dd class="big" data-lag=${group.group}><${Shown}>${count(group.consumer_lag_messages_sum)}<//></dd></div>
      <div><dt>Oldest waiting</dt><dd class="big"><${Shown}>${seconds(group.consumer_lag_ms_max)}<//></dd></div>
      <div><dt>Catches up in</dt><dd class="big"><${Shown}>${duration(group.catch_up_s)}<//></dd></div>
    </dl>
    <${Table} label=${`Partitions of ${group.group}`} head=${[{ name: "Topic" }, { name: "Partition", number: true }, { name: "Status" }, { name: "Messages", number: true },
        { name: "Seconds", number: true }, { name: "Read / s", number: true }, { name: "Written / s", number: true }, { name: "Catches up in", number: true },
        { name: "Committed", number: true }, { name: "End", number: true }, { name: "Remarks" }]}
      rows=${rows.map((one) => html`<tr key=${`${one.topic}/${one.partition}`}><th scope="row">${one.topic}</th><td class="number num">${one.partition}</td>
        <td><${Status} status=${one.status} /></td><td class="number num"><${Shown}>${count(one.consumer_lag_messages)}<//></td>
        <td class="number num"><${Shown}>${seconds(one.consumer_lag_ms)}<//></td><td class="number num"><${Shown}>${number(one.rate_out, 1)}<//></td>
        <td class="number num"><${Shown}>${number(one.rate_in, 1)}<//></td><td class="number num"><${Shown}>${duration(one.catch_up_s)}<//></td>
        <td class="number num"><${Shown}>${count(one.offset_committed)}<//></td><td class="number num"><${Shown}>${count(one.offset_end)}<//></td>
        <td class="why">${one.unknown ?? one.reason ?? ""}</td></tr>`)} />
    ${group.topics_missing?.map((topic) => html`<p class="bad">Topic ${topic} does not exist.</p>`)}<//>`;
}

function Freshness({ freshness }) {
  if (!freshness) return null;
  return html`<${Panel} title="Freshness of prices" id="freshness" wide note="How old the newest event is that prices know of, by tape partition, in event time.">
    <${Table} label="Freshness" head=${[{ name: "Tape partition", number: true }, { name: "Newest event applied" }, { name: "Newest event waiting" }, { name: "Behind", number: true }, { name: "Remarks" }]}
      rows=${(freshness.partitions ?? freshness).map((one) => html`<tr><td class="number num">${one.partition}</td>
        <td><${Time} at=${one.applied_at} /></td><td><${Time} at=${one.waiting_at} /></td>
        <td class="number num"><${Shown}>${seconds(one.behind_ms)}<//></td><td class="why">${one.unknown ?? ""}</td></tr>`)} /><//>`;
}
