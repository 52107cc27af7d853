// A view's data: loading, ready or failed, read again when its key or a signal changes.
import { ask, Failure } from "./api.js";
import { useEffect, useState } from "./lib.js";
import { noticed } from "./store.js";

const RETRY_MS = 2000;
const STARTING = { state: "loading", data: null, failure: null };

/** Read `path` of /v1 and again whenever `again` changes; old data stays until new is here. */
export function useAsked(path, again = 0) {
  const [found, set] = useState({ ...STARTING, path });
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    let timer = null;
    async function read() {
      try {
        const data = await ask(path, { signal: stop.signal });
        set({ state: "ready", data, failure: null, path });
      } catch (failure) {
        if (failure.name === "AbortError") return;
        if (!(failure instanceof Failure)) throw failure;
        noticed(failure);
        set((before) => ({
          state: before.path === path && before.data ? "ready" : "failed",
          data: before.path === path ? before.data : null,
          failure,
          path,
        }));
        const passing = [0, 429, 503].includes(failure.status);
        if (passing) timer = setTimeout(read, (failure.retryAfterS ?? 0) * 1000 || RETRY_MS);
      }
    }
    read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path, again]);
  return found.path === path ? found : STARTING;
}
