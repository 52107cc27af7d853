// URLs are routes: #/product/LAM-00007, #/catalogue?q=lamp&sort=-left. Each can be shared.
import { signal } from "./lib.js";

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { view: view || "catalogue", rest, query: new URLSearchParams(query) };
}

export const route = signal(read());
addEventListener("hashchange", () => {
  route.value = read();
});

export function href(view, rest = [], query = {}) {
  const words = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  const search = new URLSearchParams(words).toString();
  const path = [view, ...rest].map(encodeURIComponent).join("/");
  return `#/${path}${search && `?${search}`}`;
}

export const productHref = (sku) => href("product", [sku]);

export function go(address) {
  location.hash = address;
}

/** Change the address without a step in the browser's history. */
export function replace(address) {
  history.replaceState(null, "", address);
  route.value = read();
}
