// Asking for money back: of all that is left of an order, or of some pieces.

import { call, idempotencyKey } from "./api.js";
import { nameOf } from "./catalogue.js";
import { action, fill, h, money } from "./dom.js";

/** Characters of a reason, as the order function takes them. */
const REASON_MAX = 200;

/** What may still go back: the order's lines with the pieces that are left of each, without those of which none is. */
export function left({ items, refunded }) {
  const gone = new Map((refunded?.items ?? []).map(({ sku, quantity }) => [sku, quantity]));
  return items.map((item) => ({ ...item, left: item.quantity - (gone.get(item.sku) ?? 0) })).filter((item) => item.left > 0);
}

/** What a dialog about a refund of `order` holds. `close` leaves it, `done` gets the order as it is afterwards. */
export function refund({ order, close, done, failed }) {
  const lines = left(order);
  const currency = order.total.currency;
  const wanted = new Map(lines.map((line) => [line.sku, line.left]));
  // Stays the same while the same is asked for, so that pressing again after a lost answer refunds once.
  let key = null;
  const sum = h("strong");
  const note = h("p", { class: "note wrong", role: "alert" });
  const amount = () => lines.reduce((all, { sku, unit_price }) => all + BigInt(unit_price) * BigInt(wanted.get(sku)), 0n);
  const deed = action("Refund", { class: "danger" }, async () => {
    if (!amount()) {
      fill(note, "Choose what goes back.");
      return;
    }
    key ??= idempotencyKey();
    const whole = lines.every(({ sku, left: pieces }) => wanted.get(sku) === pieces);
    const some = lines.filter(({ sku }) => wanted.get(sku) > 0).map(({ sku }) => ({ sku, quantity: wanted.get(sku) }));
    const body = { ...(!whole && { lines: some }), ...(reason.value.trim() && { reason: reason.value.trim() }) };
    done(await call("POST", `/orders/${encodeURIComponent(order.order_id)}/refund`, { body, headers: { "idempotency-key": key } }));
  }, failed);
  const changed = () => {
    key = null;
    fill(sum, money({ amount: amount(), currency }));
    fill(note);
  };
  const reason = h("input", { maxlength: REASON_MAX, autocomplete: "off", oninput: () => {
    key = null;
  } });
  changed();
  return [
    h("h2", { id: "refund-question" }, "What goes back?"),
    h("p", null, "The money goes back to where it came from. Goods that you keep stay yours."),
    h("div", { class: "fields" },
      lines.map(({ sku, left: pieces }) => h("label", { class: "field inline" }, h("span", null, nameOf(sku)),
        h("select", { onchange: (event) => {
          wanted.set(sku, Number(event.target.value));
          changed();
        } }, choices(pieces).map((count) => h("option", { value: count, selected: count === pieces }, `${count} of ${pieces}`))))),
      h("label", { class: "field" }, "Reason (may be empty)", reason)),
    h("p", { class: "sum" }, h("span", null, "Goes back"), sum),
    note,
    h("div", { class: "pair" },
      h("button", { type: "button", class: "quiet", autofocus: true, onclick: close }, "Keep it"), deed),
  ];
}

/** None up to all pieces; of very many, the round numbers between. */
function choices(pieces) {
  const step = 10 ** Math.max(0, Math.ceil(Math.log10(pieces / 100)));
  const all = Array.from({ length: Math.floor(pieces / step) + 1 }, (_, n) => n * step);
  return all.at(-1) === pieces ? all : [...all, pieces];
}
