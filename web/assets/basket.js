// The basket: what is in it, how it is shown, and ordering it.

import { call, idempotencyKey, session } from "./api.js";
import { known, learn, nameOf, product } from "./catalogue.js";
import { action, announce, complaint, fill, h, money } from "./dom.js";
import { mark } from "./mark.js";

const STORE = "basket";
/** Pieces of a line, as the order function takes them. */
const QUANTITY_MAX = 10_000;

/** How the simulated gateway can be asked to behave. */
const PAYMENTS = [
  ["tok_ok", "Card that works"],
  ["tok_declined", "Card that is declined"],
  ["tok_slow", "Bank that answers slowly"],
  ["tok_flaky", "Bank that fails twice, then answers"],
  ["tok_down", "Bank that never answers"],
];

let lines = read();
let payment = PAYMENTS[0][0];
// Stays the same until the basket changes or was ordered, so that pressing again after a lost answer orders once.
let key = null;

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE)) ?? [];
    return new Map(stored.filter(([sku, quantity]) => typeof sku === "string" && Number.isInteger(quantity)));
  } catch {
    return new Map();
  }
}

function changed() {
  key = null;
  localStorage.setItem(STORE, JSON.stringify([...lines]));
  dispatchEvent(new Event("basket"));
}

export const quantity = (sku) => lines.get(sku) ?? 0;
export const pieces = () => [...lines.values()].reduce((sum, one) => sum + one, 0);

export function set(sku, wanted) {
  const bounded = Math.max(0, Math.min(QUANTITY_MAX, Math.trunc(wanted) || 0));
  if (bounded) lines.set(sku, bounded);
  else lines.delete(sku);
  changed();
}

/** What the basket costs by the prices shown, or null while one is unknown or they have several currencies. */
export function total() {
  let amount = 0n;
  let currency = null;
  for (const [sku, count] of lines) {
    const price = product(sku)?.price;
    if (!price || (currency ?? price.currency) !== price.currency) return null;
    currency = price.currency;
    amount += BigInt(price.amount) * BigInt(count);
  }
  return currency && { amount, currency };
}

async function order(onOrdered) {
  key ??= idempotencyKey();
  const body = { items: [...lines].map(([sku, count]) => ({ sku, quantity: count })), payment_token: payment };
  const made = await call("POST", "/orders", { body, headers: { "idempotency-key": key } });
  lines = new Map();
  payment = PAYMENTS[0][0];
  changed();
  announce("Order sent.");
  onOrdered(made);
}

/** One more and one less, with the count between them. */
export function stepper(sku, name) {
  const count = quantity(sku);
  const step = (label, by, sign) => h("button", {
    type: "button", "aria-label": `${label} ${name}`, "data-focus": `${by}:${sku}`, onclick: () => {
      set(sku, quantity(sku) + by);
      announce(quantity(sku) ? `${quantity(sku)} of ${name} in the basket` : `${name} taken out of the basket`);
    },
  }, sign);
  return h("span", { class: "stepper" },
    step("One less of", -1, "−"),
    h("span", { class: "count" }, String(count)),
    step("One more of", 1, "+"));
}

/** The basket with everything to order it. `leave` goes to another page. Redraw it by calling `draw`. */
export function slip({ heading = "h2", leave }) {
  const trouble = complaint();
  const place = h("section", { class: "slip", "aria-labelledby": "slip-title" });

  function draw() {
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const title = h(heading, { id: "slip-title", ...(heading === "h1" && { tabindex: "-1" }) }, "Basket");
    if (!lines.size) {
      fill(place, title, h("p", { class: "soft" }, "Nothing in it yet."));
      if (focused) title.focus();
      return;
    }
    const sum = total();
    fill(place, title,
      h("ul", { class: "lines" }, [...lines].map(([sku]) => line(sku))),
      h("p", { class: "sum" }, h("span", null, "Total"), h("strong", null, sum ? money(sum) : "see the order")),
      h("label", { class: "field" }, "Pay with",
        h("select", { "data-focus": "payment", onchange: (event) => {
          payment = event.target.value;
          key = null;
        } }, PAYMENTS.map(([value, label]) => h("option", { value, selected: value === payment }, label)))),
      trouble.place,
      session.exists
        ? action("Place order", { class: "primary wide", "data-focus": "order" }, async () => {
          trouble.clear();
          await order((made) => leave(`#/orders/${made.order_id}`));
        }, (error) => (error.status === 401 ? leave("#/sign-in") : trouble.show(named(error))))
        : h("a", { class: "primary wide", href: "#/sign-in", "data-focus": "order" }, "Sign in to order"));
    if (focused) refocus(place, focused);
  }

  draw();
  learn([...lines.keys()].filter((sku) => known().length === 0 || !product(sku))).then(draw);
  return { place, draw };
}

/** Puts the focus where it was before a redraw, or close to it. */
export function refocus(place, focused) {
  const sku = focused.slice(focused.indexOf(":") + 1);
  const candidates = [focused, `1:${sku}`, `add:${sku}`, "order"];
  candidates.map((one) => place.querySelector(`[data-focus="${CSS.escape(one)}"]`)).find(Boolean)?.focus();
}

// The server names the line by its number; people know it by its name.
function named(error) {
  const index = /^items\[(\d+)\]/.exec(error.problem?.field ?? "")?.[1];
  if (index === undefined) return error;
  const sku = [...lines.keys()][index];
  return new Error(`${nameOf(sku)}: ${error.message}.`);
}

function line(sku) {
  const known = product(sku);
  return h("li", null, mark(sku),
    h("span", { class: "what" }, h("span", { class: "name" }, nameOf(sku)),
      known && h("span", { class: "soft" }, money(known.price), " each")),
    stepper(sku, nameOf(sku)));
}
