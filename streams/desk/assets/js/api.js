// The gateway's JSON API. Errors become Failure with what the gateway says of them.

export class Failure extends Error {
  constructor(status, error, retryAfterS = null) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.fix = error.fix ?? null;
    this.retryAfterS = retryAfterS;
  }
}

const UNREACHABLE = {
  code: "unreachable",
  message: "the gateway does not answer.",
  fix: "Check the network, and that pricemaker gateway runs.",
};

async function failureOf(response) {
  const after = Number(response.headers.get("retry-after"));
  let error = null;
  try {
    error = (await response.json()).error;
  } catch {
    // no JSON: a proxy answered
  }
  return new Failure(
    response.status,
    error ?? { code: "unexpected", message: `the gateway answered ${response.status}.` },
    after || null,
  );
}

/** A request to /v1; `body` makes it a POST. Raises Failure. */
export async function ask(path, { method, body, signal } = {}) {
  const headers = { "x-requested-with": "pricemaker-desk" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(`/v1${path}`, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, UNREACHABLE);
  }
  if (!response.ok) throw await failureOf(response);
  return response.status === 204 ? null : response.json();
}

export const product = (sku) => `/desk/products/${encodeURIComponent(sku)}`;
