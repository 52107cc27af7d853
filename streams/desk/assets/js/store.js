// What every view shares: who is here, the kill switch, counts, the connection, the clock.
import { ask, Failure } from "./api.js";
import { computed, signal } from "./lib.js";

const TOASTS_MAX = 4;
const TOAST_MS = 8000;

export const session = signal({ state: "unknown" }); // unknown, in (actor, role), out
export const connection = signal({ state: "connecting", since: Date.now() });
export const killSwitch = signal(null); // {on, actor, reason, at} once known
export const exceptionsFound = signal(null);
export const lag = signal(null);
export const steered = signal(0); // rises when a breaker, the switch or an approval changed
export const now = signal(Date.now());
export const toasts = signal([]);

export const mayOperate = computed(() => ["operate", "admin"].includes(session.value.role));

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => {
  now.value = Date.now();
});

let number = 0;

/** A short message that screen readers read out; errors stay until they are closed. */
export function toast(text, tone = "good") {
  number += 1;
  const id = number;
  toasts.value = [...toasts.value, { id, text, tone }].slice(-TOASTS_MAX);
  if (tone !== "bad") setTimeout(() => closeToast(id), TOAST_MS);
}

export function closeToast(id) {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

export async function readSession() {
  try {
    session.value = { state: "in", ...(await ask("/session")) };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    session.value = error.status === 401 ? { state: "out" } : { state: "failed", failure: error };
  }
}

export async function logIn(token) {
  session.value = { state: "in", ...(await ask("/session", { body: { token } })) };
}

export async function logOut() {
  await ask("/session", { method: "DELETE" });
  session.value = { state: "out" };
}

/** An answer of 401 anywhere means that the token has expired. */
export function noticed(failure) {
  if (failure.status === 401) session.value = { state: "out", expired: true };
}
