// Server-sent events, from the catalogue's cursor on, so that no change falls between the two. The
// browser reconnects by itself with Last-Event-ID; where it gives up (the gateway answered with an
// error), or the cursor is of another process, the catalogue is read anew, and the stream after it.
import { ask } from "./api.js";
import * as catalogue from "./catalogue_data.js";
import { connection, exceptionsFound, killSwitch, lag, steered } from "./store.js";

const FIRST_MS = 1000;
const LONGEST_MS = 30000;

let source = null;
let pause = FIRST_MS;
let timer = null;

const HANDLERS = {
  row: (row) => catalogue.receive(row),
  exceptions: ({ found }) => {
    exceptionsFound.value = found;
  },
  lag: (document) => {
    lag.value = document;
  },
  switch: (found) => {
    killSwitch.value = found;
    steered.value += 1;
  },
  breaker: () => {
    steered.value += 1;
  },
  reset: () => {
    source.close();
    catalogue.load();
  },
};

function say(state) {
  connection.value = { state, since: Date.now() };
  document.documentElement.dataset.connection = state;
}

/** What the stream tells only when it changes. */
async function readStanding() {
  const [cases, board, document] = await Promise.allSettled([
    ask("/desk/exceptions?limit=1"), ask("/desk/breakers"), ask("/desk/lag"),
  ]);
  if (cases.value) exceptionsFound.value = cases.value.found;
  if (board.value) {
    killSwitch.value = board.value.switch;
    steered.value += 1;
  }
  if (document.value) lag.value = document.value;
}

function opened() {
  pause = FIRST_MS;
  say("live");
  readStanding();
}

function broken() {
  say("lost");
  if (source.readyState !== EventSource.CLOSED) return;
  clearTimeout(timer);
  timer = setTimeout(catalogue.load, pause);
  pause = Math.min(2 * pause, LONGEST_MS);
}

/** Listen to what changes after `cursor`. */
export function connect(cursor) {
  source?.close();
  source = new EventSource(`/v1/desk/stream?cursor=${encodeURIComponent(cursor)}`);
  source.onopen = opened;
  source.onerror = broken;
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, ({ data }) => handle(JSON.parse(data)));
  }
}

export function disconnect() {
  clearTimeout(timer);
  source?.close();
}
