// How far consumers are behind: status by Burrow's rules, seconds, rate, time to catch up.
import { capital, count, duration, known, number } from "../format.js";
import { html, useEffect } from "../lib.js";
import { useAsked } from "../loaded.js";
import { lag } from "../store.js";
import { Answer, Badge, Empty, Loading, Panel, Shown, Table, Time } from "../ui.js";

const UNKNOWN = "UNKNOWN";
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
  if (!known(status) || status === UNKNOWN) return html`<${Badge} mark="?">Unknown<//>`;
  return html`<${Badge} tone=${TONES[status] ?? "quiet"} mark=${MARKS[status] ?? "?"}>${status}<//>`;
}

function Groups({ data }) {
  if (!data.observed_at) {
    return data.problem ? html`<${Empty} title="Lag is not known"><${Trouble} problem=${data.problem} /><//>`
      : html`<${Loading} what="consumer lag for the first time" />`;
  }
  return html`<p class="lead">Measured <${Time} at=${data.observed_at} />. What is not known is said to be unknown, never 0.</p>
    ${data.problem && html`<p class="stale" role="status">These are the last known figures. <${Trouble} problem=${data.problem} /></p>`}
    <div class="panels"><${Freshness} freshness=${data.freshness} />
    ${data.groups.map((one) => html`<${Group} key=${one.group} group=${one} />`)}</div>
    <dl class="legend">${MEANINGS.map(([name, meaning]) => html`<div><dt><${Status} status=${name} /></dt><dd>${meaning}</dd></div>`)}</dl>`;
}

const Trouble = ({ problem }) => html`${capital(problem.message)} ${problem.fix}`;

/** When all partitions will have caught up; null where that is not known of one of them. */
function catchUp(rows) {
  const times = rows.map((one) => one.catch_up_s);
  return times.length && times.every(known) ? Math.max(...times) : null;
}

/** Why a partition stands where it does, and what is not known of it. */
function remarks(one) {
  const stuck = one.not_moving && one.assigned ? "assigned but not moving" : null;
  return [one.unknown, one.unknown === one.reason ? null : one.reason, stuck].filter(Boolean).join("; ");
}

function Group({ group }) {
  const rows = group.partitions;
  return html`<${Panel} title=${group.group} id=${`group-${group.group}`} wide actions=${html`<${Status} status=${group.status} />`}
      note=${`${capital(group.state ?? "state unknown")}, ${count(group.members)} ${group.members === 1 ? "member" : "members"}`}>
    <dl class="figures small">
      <div><dt>Messages behind</dt><dd class="big" data-lag=${group.group}><${Shown}>${count(group.consumer_lag_messages_sum)}<//></dd></div>
      <div><dt>Oldest waiting</dt><dd class="big"><${Shown}>${seconds(group.consumer_lag_ms_max)}<//></dd></div>
      <div><dt>Catches up in</dt><dd class="big"><${Shown}>${duration(catchUp(rows))}<//></dd></div>
    </dl>
    <${Table} label=${`Partitions of ${group.group}`} head=${[{ name: "Topic" }, { name: "Partition", number: true }, { name: "Status" }, { name: "Messages", number: true },
        { name: "Seconds", number: true }, { name: "Read / s", number: true }, { name: "Written / s", number: true }, { name: "Catches up in", number: true },
        { name: "Committed", number: true }, { name: "End", number: true }, { name: "Remarks" }]}
      rows=${rows.map((one) => html`<tr key=${`${one.topic}/${one.partition}`}><th scope="row">${one.topic}</th><td class="number num">${one.partition}</td>
        <td><${Status} status=${one.status} /></td><td class="number num"><${Shown}>${count(one.consumer_lag_messages)}<//></td>
        <td class="number num"><${Shown}>${seconds(one.consumer_lag_ms)}<//></td><td class="number num"><${Shown}>${number(one.messages_out_per_s, 1)}<//></td>
        <td class="number num"><${Shown}>${number(one.messages_in_per_s, 1)}<//></td><td class="number num"><${Shown}>${duration(one.catch_up_s)}<//></td>
        <td class="number num"><${Shown}>${count(one.offset_committed)}<//></td><td class="number num"><${Shown}>${count(one.offset_end)}<//></td>
        <td class="why">${remarks(one)}</td></tr>`)} />
    ${group.topics_missing?.map((topic) => html`<p class="bad">Topic ${topic} does not exist.</p>`)}<//>`;
}

function Freshness({ freshness }) {
  if (!freshness.length) return null;
  return html`<${Panel} title="Freshness of prices" id="freshness" wide note="By tape partition, in event time: what prices rest on, and the newest event there is.">
    <${Table} label="Freshness" head=${[{ name: "Tape partition", number: true }, { name: "Prices rest on" }, { name: "Newest event" }, { name: "Behind", number: true },
        { name: "Waiting on the tape", number: true }, { name: "Remarks" }]}
      rows=${freshness.map((one) => html`<tr><td class="number num">${one.partition}</td>
        <td><${Time} at=${one.event_time_applied} /></td><td><${Time} at=${one.event_time_newest} /></td>
        <td class="number num"><${Shown}>${seconds(one.behind_ms)}<//></td><td class="number num"><${Shown}>${count(one.tape_waiting)}<//></td>
        <td class="why">${one.unknown ?? ""}</td></tr>`)} /><//>`;
}
