// Calls, and the session that they are made with.
//
// The access token lives in this module and nowhere else. The refresh token has to outlive a reload, so it is in
// sessionStorage: it ends with the tab, and other tabs do not see it, which matters since it is good for one use and a second
// use ends the whole login. Script that does not come from this origin cannot read it: the page's policy lets none run.

const REFRESH = "refresh_token";
const EMAIL = "email";
/** Milliseconds until a call counts as lost. */
const TIMEOUT_MS = 20_000;

let accessToken = null;
let refreshing = null;

/** An answer that is no success. `problem` is the document of RFC 9457, `status` the code. */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem?.detail ?? `The server answered ${status}.`);
    Object.assign(this, { name: "Refused", status, problem, retryAfter });
  }
}

/** No answer at all. */
export class Unreachable extends Error {
  constructor(cause) {
    super("The shop cannot be reached. Check the connection and try again.", { cause });
    this.name = "Unreachable";
  }
}

export const session = {
  /** Somebody is signed in, as far as this tab knows. */
  get exists() {
    return Boolean(sessionStorage.getItem(REFRESH));
  },
  /** Whose. */
  get email() {
    return sessionStorage.getItem(EMAIL);
  },
  /** Whether the token says admin. The functions check it; the pages only show what would be answered. */
  get isAdmin() {
    const payload = accessToken?.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return Boolean(payload) && JSON.parse(atob(payload)).role === "admin";
  },
  async login(email, password) {
    const pair = await call("POST", "/auth/login", { body: { email, password }, anonymous: true });
    sessionStorage.setItem(EMAIL, email);
    keep(pair);
  },
  /** With what a passkey answered, which says whose it is to the server alone. */
  async loginByPasskey(credential) {
    keep(await call("POST", "/auth/login/passkey", { body: { credential }, anonymous: true }));
    const { email } = await call("GET", "/auth/me");
    sessionStorage.setItem(EMAIL, email);
    dispatchEvent(new Event("session"));
  },
  /** Ends the login here, and on the server if it can be reached. */
  async logout() {
    const refresh_token = sessionStorage.getItem(REFRESH);
    forget();
    if (!refresh_token) return;
    await call("POST", "/auth/logout", { body: { refresh_token }, anonymous: true }).catch(() => {});
  },
};

function keep(pair) {
  accessToken = pair.access_token;
  sessionStorage.setItem(REFRESH, pair.refresh_token);
  dispatchEvent(new Event("session"));
}

function forget() {
  accessToken = null;
  sessionStorage.removeItem(REFRESH);
  sessionStorage.removeItem(EMAIL);
  dispatchEvent(new Event("session"));
}

// One at a time for all calls that wait for it: the token is good for one use.
function refresh() {
  refreshing ??= (async () => {
    const refresh_token = sessionStorage.getItem(REFRESH);
    if (!refresh_token) throw new Refused(401, { detail: "Please sign in." });
    try {
      keep(await call("POST", "/auth/refresh", { body: { refresh_token }, anonymous: true }));
    } catch (error) {
      if (error.status === 401) forget();
      throw error;
    }
  })().finally(() => {
    refreshing = null;
  });
  return refreshing;
}

/** A response for the signed-in caller, whatever its status; a token that has run out is renewed once. */
export async function authorized(path, { headers, ...options } = {}) {
  if (!accessToken) await refresh();
  for (let again = true; ; again = false) {
    const used = accessToken;
    const response = await reach(path, { ...options, headers: { ...headers, authorization: `Bearer ${used}` } });
    // A wrong password is 401 too, and was counted: only what says that the token is not good is asked for once more.
    if (response.status !== 401 || !response.headers.has("www-authenticate") || !again) return response;
    await response.body?.cancel();
    // Another call may have renewed it meanwhile.
    if (accessToken === used) await refresh();
  }
}

async function reach(path, options) {
  try {
    return await fetch(path, { credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error);
  }
}

/** The body of a successful answer: parsed JSON, or null where there is none. */
export async function call(method, path, { body, headers, anonymous = false, signal } = {}) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const options = {
    method,
    headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  };
  try {
    const response = await (anonymous ? reach(path, options) : authorized(path, options));
    const text = await response.text();
    const json = /[/+]json/.test(response.headers.get("content-type") ?? "") && text ? JSON.parse(text, exact) : null;
    if (response.ok) return json;
    throw new Refused(response.status, json, response.headers.get("retry-after"));
  } catch (error) {
    if (error.name === "TimeoutError") throw new Unreachable(error);
    throw error;
  }
}

// Amounts are 64-bit integers; what a double would round is kept as a BigInt, where the browser shows its digits.
function exact(_, value, context) {
  return Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? BigInt(context.source) : value;
}

/** A key that makes it safe to send the same order again. Also without `crypto.randomUUID`, which plain HTTP lacks. */
export function idempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
