// Server-sent events. The browser reconnects by itself with Last-Event-ID; where it gives up (the
// gateway answered with an error) we try again ever more slowly and read the whole anew.
import * as catalogue from "./catalogue_data.js";
import { breakers, connection, exceptionsFound, killSwitch, lag, steered } from "./store.js";

const FIRST_MS = 1000;
const LONGEST_MS = 30000;

let source = null;
let pause = FIRST_MS;
let timer = null;
let lost = false;

const HANDLERS = {
  row: (row) => catalogue.receive(row),
  exceptions: (found) => {
    exceptionsFound.value = typeof found === "number" ? found : found.count ?? found.found;
  },
  lag: (document) => {
    lag.value = document;
  },
  switch: (found) => {
    killSwitch.value = found;
    steered.value += 1;
  },
  breaker: (line) => {
    if (breakers.value) breakers.value = withLine(breakers.value, line);
    steered.value += 1;
  },
  reset: () => catalogue.load(),
};

export const sameScope = (left, right) => left.kind === right.kind && left.name === right.name;

function withLine(board, line) {
  const others = board.breakers.filter((one) => !sameScope(one.scope, line.scope));
  const closed = line.state === "CLOSED" && line.scope.kind !== "catalogue";
  return { ...board, breakers: closed ? others : [...others, line] };
}

function say(state) {
  connection.value = { state, since: Date.now() };
  document.documentElement.dataset.connection = state;
}

function opened() {
  pause = FIRST_MS;
  say("live");
  if (lost) catalogue.load();
  lost = false;
}

function broken() {
  say("lost");
  if (source.readyState !== EventSource.CLOSED) return;
  lost = true;
  clearTimeout(timer);
  timer = setTimeout(connect, pause);
  pause = Math.min(2 * pause, LONGEST_MS);
}

export function connect() {
  source?.close();
  source = new EventSource("/v1/desk/stream");
  source.onopen = opened;
  source.onerror = broken;
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, ({ data }) => handle(data ? JSON.parse(data) : null));
  }
}

export function disconnect() {
  clearTimeout(timer);
  source?.close();
}
