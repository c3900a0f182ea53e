// Follows an order: pushed by the host where it can, asked for where it cannot (under Spin).

import { authorized, call, Refused } from "./api.js";
import { events } from "./sse.js";

/** Milliseconds before the first attempt to reconnect; doubled up to the second one. */
const RECONNECT_MS = [500, 15_000];
/** Milliseconds without a byte after which a stream counts as dead. The host sends a comment far more often. */
const SILENCE_MS = 60_000;
/** Milliseconds that a tab nobody looks at keeps its stream: a browser has only a handful of connections to a host. */
const HIDDEN_MS = 60_000;
/** Milliseconds between two looks where nothing is pushed: while things happen, and once they no longer do. */
const POLL_MS = [250, 10_000];
/** Answers that mean: there is no push here. */
const NO_PUSH = [404, 405, 406, 501];

/**
 * Calls `onEntry(place, entry)` once for each entry of the order's timeline, in order, until `signal` aborts. `onState` gets
 * `{ mode: "connecting" | "live" | "polling" | "waiting", retryAt?, retry? }`; calling `retry` ends a wait at once.
 * Rejects with a Refused where the order cannot be seen at all.
 */
export async function follow(orderId, { signal, onEntry, onState }) {
  const path = `/orders/${encodeURIComponent(orderId)}`;
  const seen = { last: null, count: 0 };
  const entry = (id, data) => {
    if (seen.last !== null && Number(id) <= Number(seen.last)) return;
    seen.last = id;
    seen.count += 1;
    onEntry(seen.count, data);
  };
  let wait = RECONNECT_MS[0];
  onState({ mode: "connecting" });
  while (!signal.aborted) {
    if (document.hidden) await visible(signal);
    try {
      const pushed = await push(path, { signal, last: seen.last, entry, onOpen: () => {
        wait = RECONNECT_MS[0];
        onState({ mode: "live" });
      }, onRetry: (ms) => {
        wait = Math.min(ms, RECONNECT_MS[1]);
      } });
      if (!pushed) return await poll(path, { signal, seen, onEntry, onState });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
    }
    await pause(wait * (0.75 + Math.random() / 2), { signal, onState });
    wait = Math.min(wait * 2, RECONNECT_MS[1]);
  }
}

/** Reads the stream to its end; false where the server has none. */
async function push(path, { signal, last, entry, onOpen, onRetry }) {
  const silence = new AbortController();
  // Aborted with the stream, so that nothing keeps listening.
  const closed = new AbortController();
  const response = await authorized(`${path}/events`, {
    headers: { accept: "text/event-stream", ...(last !== null && { "last-event-id": last }) },
    signal: AbortSignal.any([signal, silence.signal]),
    cache: "no-store",
  });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
  if (!response.ok || !isStream) {
    await response.body?.cancel();
    if (response.ok || NO_PUSH.includes(response.status)) return false;
    throw new Refused(response.status);
  }
  onOpen();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  heard();
  let hidden;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => silence.abort(), HIDDEN_MS);
  }, { signal: closed.signal });
  try {
    for await (const { event, id, data, retry } of events(response.body, heard)) {
      if (retry !== undefined) onRetry(retry);
      if (event === "timeline" && data !== undefined) entry(id, JSON.parse(data));
    }
  } finally {
    clearTimeout(timer);
    clearTimeout(hidden);
    closed.abort();
  }
  return true;
}

/** Asks for the timeline again and again, less often the less happens, and not at all while nobody looks. */
async function poll(path, { signal, seen, onEntry, onState }) {
  let wait = POLL_MS[0];
  let trouble = RECONNECT_MS[0];
  while (!signal.aborted) {
    if (document.hidden) await visible(signal);
    try {
      const { entries } = await call("GET", `${path}/timeline`, { signal });
      const fresh = entries.slice(seen.count);
      for (const entry of fresh) onEntry(++seen.count, entry);
      trouble = RECONNECT_MS[0];
      wait = fresh.length ? POLL_MS[0] : Math.min(wait * 1.5, POLL_MS[1]);
      onState({ mode: "polling" });
      await pause(wait, { signal });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      await pause(trouble, { signal, onState });
      trouble = Math.min(trouble * 2, RECONNECT_MS[1]);
    }
  }
}

/** Waits; with `onState` it is a wait after trouble, which ends early when the network is back or the reader says so. */
function pause(ms, { signal, onState }) {
  return new Promise((resolve) => {
    const done = new AbortController();
    const end = () => {
      clearTimeout(timer);
      done.abort();
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { signal: done.signal });
    if (!onState) return;
    addEventListener("online", end, { signal: done.signal });
    onState({ mode: "waiting", retryAt: Date.now() + ms, retry: end });
  });
}

function visible(signal) {
  return new Promise((resolve) => {
    const look = () => (!document.hidden || signal.aborted) && resolve();
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", look, { once: true });
  });
}
