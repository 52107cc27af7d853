// Light or dark: as the system has it, or as the button said last.
import { signal } from "./lib.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const named = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");

export const theme = signal(named());
dark.addEventListener("change", () => {
  theme.value = named();
});

export function turn() {
  const next = theme.value === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("desk-theme", next);
  theme.value = next;
}
