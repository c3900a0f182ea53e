// The catalogue, with the basket beside it where there is room.

import { pieces, quantity, refocus, set, slip, stepper, total } from "./basket.js";
import { hasMore, known, loadMore, reload } from "./catalogue.js";
import { action, announce, complaint, fill, h, money } from "./dom.js";
import { mark } from "./mark.js";

/** Pieces left from which on it is said how few they are. */
const SCARCE = 20;

export function shop({ main, signal, leave }) {
  const list = h("ul", { class: "catalogue", "aria-busy": "true" });
  const more = h("p", { class: "more" });
  const bar = h("p", { class: "bar" });
  const trouble = complaint();
  const basket = slip({ leave });

  function draw() {
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    fill(list, known().map(row));
    if (focused) refocus(list, focused);
    fill(more, hasMore() && known().length > 0
      && action("Show more", { class: "quiet" }, () => loadMore().then(draw), trouble.show));
    const sum = total();
    fill(bar, pieces() > 0 && h("a", { class: "primary", href: "#/basket" },
      h("span", null, `Basket: ${pieces()} ${pieces() === 1 ? "piece" : "pieces"}`), sum && h("span", null, money(sum))));
    basket.draw();
  }

  async function load() {
    trouble.clear();
    await reload();
    list.removeAttribute("aria-busy");
    draw();
  }

  fill(main,
    h("div", { class: "shop" },
      h("section", { "aria-labelledby": "title" },
        h("h1", { id: "title", tabindex: "-1" }, "What we have today"),
        trouble.place, list, more),
      h("aside", null, basket.place)),
    bar);
  if (known().length) draw();
  else fill(list, Array.from({ length: 6 }, () => h("li", { class: "blank", "aria-hidden": "true" })));
  addEventListener("basket", draw, { signal });
  addEventListener("session", () => basket.draw(), { signal });

  const failed = (error) => {
    if (signal.aborted) return;
    if (!known().length) fill(list);
    list.removeAttribute("aria-busy");
    trouble.show(error);
    trouble.place.append(action("Try again", { class: "quiet" }, load, failed));
  };
  return load().catch(failed);
}

/** The basket as a page of its own. */
export function basketPage({ main, signal, leave }) {
  const basket = slip({ heading: "h1", leave });
  fill(main, h("div", { class: "narrow" }, basket.place, h("p", null, h("a", { href: "#/" }, "Back to the shop"))));
  addEventListener("basket", () => basket.draw(), { signal });
}

function row({ sku, name, price, available }) {
  const inBasket = quantity(sku);
  const left = available === 0 ? "Sold out" : available <= SCARCE ? `Only ${available} left` : "In stock";
  // Also of what is sold out: whether there is any is decided when the order is, not when the list was read.
  const label = available === 0 ? "Add anyway" : "Add";
  const add = h("button", { type: "button", class: "add", "data-focus": `add:${sku}`, "aria-label": `${label}: ${name}`, onclick: () => {
    set(sku, 1);
    announce(`${name} is in the basket`);
  } }, label);
  return h("li", { class: inBasket ? "chosen" : null }, mark(sku),
    h("span", { class: "what" }, h("span", { class: "name" }, name),
      h("span", { class: available === 0 ? "stock gone" : available <= SCARCE ? "stock scarce" : "stock" }, left)),
    h("span", { class: "price" }, money(price)),
    h("span", { class: "act" }, inBasket ? stepper(sku, name) : add));
}
