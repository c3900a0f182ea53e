// My orders and my notifications: pages by cursor.

import { call } from "./api.js";
import { action, complaint, fill, h, money, shortId, time } from "./dom.js";
import { moon } from "./mark.js";
import { status, STATUSES } from "./words.js";

export function orders({ main, signal }) {
  const filter = h("select", { id: "filter" },
    h("option", { value: "" }, "All"), STATUSES.map((name) => h("option", { value: name }, status(name).word)));
  const list = paged({ signal, noun: "orders", path: () => `/orders?limit=20${filter.value && `&status=${filter.value}`}`,
    entries: (page) => page.orders, row: orderRow,
    empty: () => (filter.value ? "No order is in this state." : h("span", null, "No order yet. ", h("a", { href: "#/" }, "See what there is"), ".")) });
  filter.addEventListener("change", () => list.restart());
  fill(main, h("div", { class: "page" },
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "My orders"),
      h("label", { class: "field inline", for: "filter" }, "Show", filter)),
    list.place));
  return list.restart();
}

export function notifications({ main, signal }) {
  const list = paged({ signal, noun: "messages", path: () => "/notifications?limit=20",
    entries: (page) => page.notifications, row: notificationRow, empty: () => "Nothing yet. You are told here what becomes of your orders." });
  fill(main, h("div", { class: "page" }, h("h1", { tabindex: "-1" }, "Notifications"), list.place));
  return list.restart();
}

// A list that grows by pages. A restart while a page is on its way makes that page's answer void.
export function paged({ signal, path, entries, row, empty, noun }) {
  const list = h("ul", { class: "rows", "aria-busy": "true" });
  const more = h("p", { class: "more" });
  const trouble = complaint();
  const place = h("div", null, list, trouble.place, more);
  let turn = 0;
  let cursor = null;

  async function load(fresh) {
    const mine = ++turn;
    trouble.clear();
    list.setAttribute("aria-busy", "true");
    const page = await call("GET", path() + (fresh || !cursor ? "" : `&cursor=${encodeURIComponent(cursor)}`), { signal });
    if (mine !== turn) return;
    cursor = page.next_cursor;
    const rows = entries(page).map(row);
    if (fresh) fill(list, rows);
    else list.append(...rows);
    list.removeAttribute("aria-busy");
    if (!fresh) rows[0]?.querySelector("a")?.focus();
    fill(more, list.childElementCount === 0 ? h("span", { class: "soft" }, empty())
      : cursor && action(`Show older ${noun}`, { class: "quiet" }, () => load(false), trouble.show));
  }

  const restart = () => load(true).catch((error) => {
    if (signal.aborted) return;
    if (error.status === 401) throw error;
    list.removeAttribute("aria-busy");
    trouble.show(error);
    trouble.place.append(action("Try again", { class: "quiet" }, restart, trouble.show));
  });
  return { place, restart };
}

function orderRow({ order_id, status: name, items, total, created_at }) {
  const words = status(name);
  const count = items.reduce((sum, item) => sum + item.quantity, 0);
  return h("li", null, moon(words),
    h("span", { class: "what" },
      h("a", { class: "name", href: `#/orders/${order_id}` }, `Order ${shortId(order_id)}`),
      h("span", { class: "soft" }, time(created_at), `, ${count}\u00a0${count === 1 ? "piece" : "pieces"}`)),
    h("span", { class: `word ${words.tone}` }, words.word),
    h("span", { class: "price" }, money(total)));
}

function notificationRow({ order_id, status: name, created_at, messages }) {
  const words = status(name);
  const email = messages.find((message) => message.channel === "email");
  const subject = email?.subject ?? words.word;
  // The subject is the text's first line as well, and the order its last.
  const text = (email?.text ?? "").split("\n").filter((line) => line && line !== subject && !line.startsWith("Order ")).join(" ");
  return h("li", null, moon(words),
    h("span", { class: "what" },
      h("span", { class: "name" }, subject),
      text && h("span", null, text),
      h("span", { class: "soft" }, time(created_at), ", by ", messages.map((message) => (message.channel === "sms" ? "SMS" : "e-mail")).join(" and "), ". ",
        h("a", { href: `#/orders/${order_id}` }, `Order ${shortId(order_id)}`))));
}
