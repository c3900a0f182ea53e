// One order, as it happens.

import { call } from "./api.js";
import { learn, nameOf } from "./catalogue.js";
import { action, announce, complaint, fill, h, money, shortId, time } from "./dom.js";
import { follow } from "./follow.js";
import { mark, moon } from "./mark.js";
import { left, refund } from "./refund.js";
import { cancellable, happening, status } from "./words.js";

/** Who works on an order, in the order shown, with what each says before its first step. */
const LANES = [["order", "Order"], ["stock", "Stock"], ["payment", "Payment"]];
/** Milliseconds in which steps are gathered to be read out as one sentence. */
const GATHER_MS = 400;
/** Milliseconds after which an order is read again that is not as far as its timeline. */
const AGAIN_MS = 1000;
/** Milliseconds after which a lost connection is read out. */
const LOSS_MS = 2000;

export async function order({ main, signal, id, entitle }) {
  const title = h("h1", { tabindex: "-1" }, `Order ${shortId(id)}`);
  const view = { id, signal, order: null, entries: [], rows: new Map(), current: null, spoken: [], settled: null };
  view.head = h("div", { class: "state" });
  view.lanes = h("dl", { class: "lanes" });
  view.steps = h("ol", { class: "steps" });
  view.link = h("div", { class: "link" });
  view.actions = h("div", { class: "actions" });
  view.items = h("section", { class: "slip", "aria-labelledby": "items" });
  view.trouble = complaint();
  fill(main, h("div", { class: "order" },
    h("div", null, title, view.head, view.lanes,
      h("section", { "aria-labelledby": "story" },
        h("h2", { id: "story" }, "What happened"), view.steps, view.link)),
    h("aside", null, view.items, view.trouble.place, view.actions)));
  drawLanes(view);
  view.entitle = entitle;

  await follow(id, {
    signal,
    onEntries: (entries) => show(view, entries),
    onState: (state) => {
      drawLink(view, state);
      // Where the connection was lost before the order was read, it is read once there is one again.
      if (state.mode !== "waiting") read(view);
    },
  });
}

// What was ordered. Whether the order can be seen at all, and whether there is a connection, is told by following it.
function read(view) {
  view.reading ??= (async () => {
    take(view, await call("GET", `/orders/${encodeURIComponent(view.id)}`, { signal: view.signal }));
    await learn(view.order.items.map((item) => item.sku));
    drawItems(view);
  })().catch(() => {
    view.reading = null;
  });
}

// Takes the order as an answer has it, unless a newer one is known.
function take(view, order) {
  if (view.order && order.version < view.order.version) return;
  view.order = order;
  // What the timeline has said since may be newer than this answer.
  if (order.version > version(view.entries)) view.current = order.status;
  drawItems(view);
  draw(view);
}

/** The order's version at the end of its timeline: each status and each refund is one. */
const version = (entries) => entries.filter((entry) => entry.status || entry.event === "order.refunded").length;

// Takes all that is known so far. A step keeps its element, so that only what is new moves and is read out.
function show(view, entries) {
  view.entries = entries;
  const decided = entries.filter((entry) => entry.status);
  view.current = decided.at(-1)?.status ?? view.current;
  view.settled = decided.find((entry) => entry.status !== "PENDING") ?? null;
  const known = new Set(view.rows.keys());
  const count = {};
  const rows = entries.map((entry, place) => {
    count[entry.event] = (count[entry.event] ?? 0) + 1;
    const key = `${entry.event} ${count[entry.event]}`;
    if (!view.rows.has(key)) view.rows.set(key, h("li", { "data-event": entry.event, class: entry.status ? "turn" : null }));
    const row = view.rows.get(key);
    // The reason of a step that follows from the one before is the same.
    const detail = entry.detail && entry.detail !== entries[place - 1]?.detail && h("span", { class: "detail" }, sentence(entry.detail));
    fill(row, h("span", { class: "offset" }, place === 0 ? time(entry.at, true)
      : h("time", { datetime: entry.at, title: new Date(entry.at).toLocaleString() }, `+ ${span(entries[0].at, entry.at)}`)),
    h("span", { class: "word" }, happening(entry.event).word, detail));
    if (!known.has(key)) speak(view, entry);
    return row;
  });
  // Put back only where their order changed: an element that moves would move on the screen as well.
  rows.forEach((row, place) => {
    if (view.steps.children[place] !== row) view.steps.insertBefore(row, view.steps.children[place] ?? null);
  });
  drawLanes(view);
  draw(view);
  // What has gone back is not in the timeline, and another page may have asked for it.
  clearTimeout(view.again);
  if (entries.some((entry) => entry.event === "order.refunded") && view.order?.version < version(entries)) {
    view.again = setTimeout(() => {
      view.reading = null;
      if (!view.signal.aborted) read(view);
    }, AGAIN_MS);
  }
}

// Steps come within milliseconds of each other; one by one they would cut each other short.
function speak(view, entry) {
  const { word } = happening(entry.event);
  const decides = entry.status && entry.status !== "PENDING";
  view.spoken.push(decides ? `${word}. Status: ${status(entry.status).word}.` : `${word}.`);
  if (view.spoken.length > 1) return;
  setTimeout(() => {
    if (!view.signal.aborted) announce(view.spoken.join(" "));
    view.spoken = [];
  }, GATHER_MS);
}

function draw(view) {
  const name = view.current ?? view.order?.status;
  if (!name) return;
  const words = status(name);
  view.entitle(`${words.word}: order ${shortId(view.id)}`);
  const reason = view.settled?.detail ?? view.order?.reason;
  const took = view.settled && view.settled.status === name && span(view.entries[0].at, view.settled.at);
  fill(view.head, moon(words),
    h("div", null,
      h("p", { class: `status ${words.tone}`, "data-status": name }, words.word),
      h("p", { class: "soft" }, reason && words.tone === "bad" ? sentence(reason) : words.sentence,
        took && ` Decided in ${took}.`)));
  drawActions(view, name);
}

// Only what changes is drawn anew, and nothing under somebody's hands: steps come while a question is asked.
function drawActions(view, name) {
  if (view.actions.querySelector("dialog[open]")) return;
  const refundable = name === "CONFIRMED" && view.order ? left(view.order) : [];
  const offered = JSON.stringify([name, refundable.map(({ sku, left: pieces }) => [sku, pieces])]);
  if (view.offered === offered) return;
  view.offered = offered;
  fill(view.actions,
    refundable.length > 0 && asking(view, "Refund", "refund", ({ close, done, failed }) =>
      refund({ order: view.order, close, done, failed })),
    cancellable(name) && asking(view, "Cancel order", "cancel", cancelling(view)));
}

const cancelling = (view) => ({ close, done, failed }) => [
  h("h2", { id: "cancel-question" }, "Cancel this order?"),
  h("p", null, "What is reserved becomes free again, and what was paid comes back."),
  h("div", { class: "pair" },
    h("button", { type: "button", class: "quiet", autofocus: true, onclick: close }, "Keep it"),
    action("Cancel the order", { class: "danger" }, async () =>
      done(await call("POST", `/orders/${encodeURIComponent(view.id)}/cancel`)), failed)),
];

// A button whose deed is asked about once more, in a dialog that is filled when it opens.
function asking(view, label, verb, content) {
  const dialog = h("dialog", { "aria-labelledby": `${verb}-question`, onclose: () => draw(view) });
  const close = () => dialog.close();
  const failed = (error) => {
    close();
    view.trouble.show(error);
  };
  const done = (order) => {
    close();
    take(view, order);
    document.querySelector("h1")?.focus();
  };
  return [h("button", { type: "button", class: "quiet", onclick: () => {
    view.trouble.clear();
    fill(dialog, content({ close, done, failed }));
    dialog.showModal();
  } }, label), dialog];
}

function drawLanes(view) {
  const states = new Map();
  for (const { event } of view.entries) {
    const { lane, state } = happening(event);
    if (lane) states.set(lane, state);
  }
  const open = !view.settled;
  fill(view.lanes, LANES.map(([lane, label]) => {
    const state = states.get(lane);
    return h("div", { class: state ? "reached" : open ? "awaited" : null },
      h("dt", null, label), h("dd", null, state ?? (open ? "waiting" : "not needed")));
  }));
}

function drawLink(view, { mode, retryAt, retry }) {
  view.link.dataset.mode = mode;
  const text = {
    connecting: "Connecting …",
    live: "Live: each step as it is committed.",
    polling: "Looking for news every few seconds.",
    waiting: "The connection is lost.",
  }[mode];
  const next = mode === "waiting" && Math.max(1, Math.round((retryAt - Date.now()) / 1000));
  tellOfLoss(view, mode === "waiting");
  fill(view.link, h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", null, text, next && ` Trying again in ${next} s.`),
    retry && h("button", { type: "button", class: "plain", onclick: retry }, "Try now"));
}

// Read out only where it lasts: a connection that is back at once is nobody's concern.
function tellOfLoss(view, lost) {
  if (lost) {
    view.loss ??= setTimeout(() => {
      view.told = true;
      if (!view.signal.aborted) announce("The connection is lost. Trying again.");
    }, LOSS_MS);
    return;
  }
  clearTimeout(view.loss);
  if (view.told) announce("Connected again.");
  view.loss = undefined;
  view.told = false;
}

function drawItems(view) {
  const { items, total, created_at, refunded, status: name } = view.order;
  fill(view.items, h("h2", { id: "items" }, "What was ordered"),
    h("ul", { class: "lines" }, items.map(({ sku, quantity, unit_price }) => h("li", null, mark(sku),
      h("span", { class: "what" }, h("span", { class: "name" }, nameOf(sku)),
        h("span", { class: "soft" }, `${quantity} × `, money({ amount: unit_price, currency: total.currency }))),
      h("span", { class: "price" }, money({ amount: BigInt(unit_price) * BigInt(quantity), currency: total.currency }))))),
    h("p", { class: "sum" }, h("span", null, "Total"), h("strong", null, money(total))),
    // Of a cancelled order all of it comes back, and the steps say so.
    refunded && name !== "CANCELLED" && h("p", { class: "back" }, h("span", null, "Refunded"), h("span", null, money(refunded))),
    h("p", { class: "soft" }, "Placed ", time(created_at)),
    h("p", { class: "soft id" }, view.id));
}

function span(from, to) {
  const ms = Math.max(0, new Date(to) - new Date(from));
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const minutes = Math.round(ms / 60_000);
  return minutes < 120 ? `${minutes} min` : minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
