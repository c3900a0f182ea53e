// Follows an order: pushed by the host where it can, asked for where it cannot (under Spin).

import { authorized, call, Refused } from "./api.js";
import { events } from "./sse.js";
import { Story } from "./story.js";

/** Milliseconds before the first attempt to reconnect; doubled up to the second one. */
const RECONNECT_MS = [500, 15_000];
/** Milliseconds without a byte after which a stream counts as dead. The host sends a comment far more often. */
const SILENCE_MS = 60_000;
/** Milliseconds that a tab nobody looks at keeps its stream: a browser has only a handful of connections to a host. */
const HIDDEN_MS = 60_000;
/** Milliseconds in which records are gathered before the timeline is asked about them. */
const ASK_MS = 300;
/** Milliseconds between two looks where nothing is pushed: while things happen, and once they no longer do. */
const POLL_MS = [250, 10_000];
/** Answers that mean: nothing is pushed here. */
const NO_PUSH = [404, 405, 406, 501, 503];

/**
 * Calls `onEntries(entries)` with all that is known of the order's timeline whenever there is more, until `signal` aborts.
 * `onState` gets `{ mode: "connecting" | "live" | "polling" | "waiting", retryAt?, retry? }`; calling `retry` ends a wait at once.
 * Rejects with a Refused where the order cannot be seen at all.
 */
export async function follow(orderId, { signal, onEntries, onState }) {
  const order = { path: `/orders/${encodeURIComponent(orderId)}`, story: new Story(), cursor: null, signal, onEntries, onState };
  order.wait = RECONNECT_MS[0];
  onState({ mode: "connecting" });
  while (!signal.aborted) {
    if (document.hidden) await visible(signal);
    let ended = false;
    try {
      if (!(await push(order))) return await poll(order);
      ended = true;
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) throw error;
    }
    // A stream that came to its end is asked for again without a word; a broken one is said.
    await pause(order.wait * (0.75 + Math.random() / 2), { signal, onState: ended ? null : onState });
    order.wait = Math.min(order.wait * 2, RECONNECT_MS[1]);
  }
}

/** No other attempt would change it. */
function isFinal(error) {
  return error instanceof Refused && error.status < 500 && error.status !== 429;
}

/** Reads the stream to its end; false where the server has none. */
async function push(order) {
  // Aborted where the stream is given up from this side.
  const given = new AbortController();
  // Aborted with the stream, so that nothing is left listening.
  const closed = new AbortController();
  const response = await authorized(`${order.path}/events`, {
    headers: { accept: "text/event-stream", ...(order.cursor !== null && { "last-event-id": order.cursor }) },
    signal: AbortSignal.any([order.signal, given.signal]),
    cache: "no-store",
  });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
  if (!response.ok || !isStream) {
    await response.body?.cancel();
    if (response.ok || NO_PUSH.includes(response.status)) return false;
    throw new Refused(response.status);
  }
  order.wait = RECONNECT_MS[0];
  order.onState({ mode: "live" });
  const timers = {};
  const later = (name, ms, work) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(work, ms);
  };
  const heard = () => later("silence", SILENCE_MS, () => given.abort());
  heard();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timers.hidden);
    if (document.hidden) later("hidden", HIDDEN_MS, () => given.abort());
  }, { signal: closed.signal });
  try {
    for await (const event of events(response.body, heard)) {
      if (event.retry !== undefined) order.wait = Math.min(event.retry, RECONNECT_MS[1]);
      if (event.data !== undefined && !take(order, event)) later("ask", ASK_MS, () => ask(order).catch(() => given.abort()));
    }
  } finally {
    for (const timer of Object.values(timers)) clearTimeout(timer);
    closed.abort();
  }
  return true;
}

/** Takes an event of the stream; false where the timeline has to be asked. */
function take(order, { event, id, data }) {
  const content = JSON.parse(data);
  let clear = true;
  if (event === "snapshot") order.story.tell(content.entries);
  else clear = order.story.push(event, content);
  // Only now: what was not shown is asked for again.
  if (id !== undefined) order.cursor = id;
  order.onEntries(order.story.entries);
  return clear;
}

/** Reads the timeline itself; whether it has more than was known. */
async function ask(order) {
  const { entries } = await call("GET", `${order.path}/timeline`, { signal: order.signal });
  const before = order.story.entries.length;
  order.story.tell(entries);
  order.onEntries(order.story.entries);
  return order.story.entries.length > before;
}

/** Asks for the timeline again and again, less often the less happens, and not at all while nobody looks. */
async function poll(order) {
  const { signal, onState } = order;
  let wait = POLL_MS[0];
  let trouble = RECONNECT_MS[0];
  while (!signal.aborted) {
    if (document.hidden) await visible(signal);
    try {
      wait = (await ask(order)) ? POLL_MS[0] : Math.min(wait * 1.5, POLL_MS[1]);
      trouble = RECONNECT_MS[0];
      onState({ mode: "polling" });
      await pause(wait, { signal });
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) throw error;
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
