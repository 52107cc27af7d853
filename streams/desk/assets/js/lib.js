// The small stack in one place: Preact, its hooks, signals, and htm for markup without a build.
import htm from "../vendor/htm.js";
import { h, render } from "../vendor/preact.js";

export { render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
export { batch, computed, effect, signal, useComputed, useSignal } from "../vendor/signals.js";

export const html = htm.bind(h);
