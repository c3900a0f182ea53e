// What states and events are called for people.

/** Status of an order: its words, its sentence, the phase of its moon and its tone. */
const STATUS = {
  PENDING: ["Under way", "Stock and payment are being checked.", "half", "wait"],
  CONFIRMED: ["Confirmed", "Everything is reserved and paid for.", "full", "good"],
  REJECTED: ["Rejected", "Not everything is in stock, so nothing was charged.", "new", "bad"],
  PAYMENT_FAILED: ["Payment failed", "The payment was not accepted, so nothing was charged.", "new", "bad"],
  CANCELLED: ["Cancelled", "What was reserved is free again, and what was paid comes back.", "new", "calm"],
  EXPIRED: ["Expired", "It waited too long for stock or payment, so nothing was charged.", "new", "bad"],
};

/** Events of a timeline: what happened, whose step it is, and where that one stands after it. */
const EVENT = {
  "order.created": ["Order received", "order", "received"],
  "order.confirmed": ["Order confirmed", "order", "confirmed"],
  "order.rejected": ["Order rejected", "order", "rejected"],
  "order.cancelled": ["Order cancelled", "order", "cancelled"],
  "order.expired": ["Order expired", "order", "expired"],
  "order.refunded": ["Refund asked for", "order", "refund asked for"],
  "inventory.reserved": ["Stock reserved", "stock", "reserved"],
  "inventory.rejected": ["Not enough stock", "stock", "not enough"],
  "inventory.committed": ["Stock taken from the shelf", "stock", "taken"],
  "inventory.released": ["Stock put back", "stock", "put back"],
  "inventory.expired": ["Reservation ran out", "stock", "ran out"],
  "payment.authorized": ["Payment authorized", "payment", "authorized"],
  "payment.declined": ["Payment declined", "payment", "declined"],
  "payment.captured": ["Payment taken", "payment", "taken"],
  "payment.voided": ["Payment released", "payment", "released"],
  "payment.refunded": ["Payment refunded", "payment", "refunded"],
};

/** A name that these pages do not know yet, made readable. */
function readable(name) {
  const text = name.replace(/[._]/g, " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function status(name) {
  const [word, sentence, phase, tone] = STATUS[name] ?? [readable(name), "", "half", "calm"];
  return { word, sentence, phase, tone };
}

export function happening(name) {
  const [word, lane, state] = EVENT[name] ?? [readable(name), null, null];
  return { word, lane, state };
}

/** All that a list can be narrowed to. */
export const STATUSES = ["PENDING", "CONFIRMED", "REJECTED", "PAYMENT_FAILED", "CANCELLED", "EXPIRED"];

/** An order that may still be cancelled. */
export const cancellable = (name) => name === "PENDING" || name === "CONFIRMED";

/** What a client calls itself, as people say it; as it is where these pages do not know it. */
export function client(device) {
  // The first that fits: most call themselves what others are called too.
  const browser = ["Firefox", "Edg", "OPR", "Chrome", "Safari"].find((one) => device.includes(`${one}/`));
  const system = ["Windows", "Android", "iPhone", "iPad", "Mac OS X", "Linux"].find((one) => device.includes(one));
  const name = { Edg: "Edge", OPR: "Opera" }[browser] ?? browser;
  return name && system ? `${name} on ${system.replace(" OS X", "")}` : device || "An unknown client";
}
