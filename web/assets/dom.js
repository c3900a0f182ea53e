// Elements without markup in strings: text is always text, which the page's policy (Trusted Types) insists on.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "circle", "rect"]);

/** An element: `h("a", { href: "#/", class: "x", onclick }, "text", other)`. False, null and undefined are left out. */
export function h(tag, props, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces what `parent` holds. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

/** Says something to who listens to the page instead of seeing it. */
export function announce(text) {
  const place = document.getElementById("announcer");
  // A line of its own each: two that follow closely are both read.
  place.append(h("p", null, text));
  while (place.childElementCount > 8) place.firstElementChild.remove();
}

/**
 * Money in minor units, as `18.90 €` in the reader's way and as children of an element: a long one may break between its groups.
 * Exact for amounts beyond what a double holds.
 */
export function money({ amount, currency }) {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  const digits = format.resolvedOptions().maximumFractionDigits;
  const text = BigInt(amount).toString().padStart(digits + 1, "0");
  const parts = format.formatToParts(digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text);
  return parts.flatMap(({ type, value }) => (type === "group" ? [value, h("wbr")] : [value]));
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const MOMENT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

/** A point in time with its machine-readable form; with `exact`, the time of day down to milliseconds. */
export function time(text, exact = false) {
  return h("time", { datetime: text }, (exact ? MOMENT : DAY).format(new Date(text)));
}

/** An order's id as people say it: its last digits, since the first ones are its time. */
export function shortId(id) {
  return id.slice(-6).toUpperCase();
}

/** A button that cannot be pressed again while it works; what it throws goes to `failed`. */
export function action(label, props, work, failed) {
  const button = h("button", { type: "button", ...props, onclick: async () => {
    if (button.getAttribute("aria-disabled")) return;
    // Not `disabled`: that would take the focus away from who pressed it.
    button.setAttribute("aria-disabled", "true");
    try {
      await work();
    } catch (error) {
      failed(error);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  } }, label);
  return button;
}

/** Where an error is shown, and read out at once. */
export function complaint() {
  const place = h("div", { class: "complaint", role: "alert" });
  return {
    place,
    show(error) {
      if (error.name === "AbortError") return;
      fill(place, h("p", null, error.problem?.detail ?? error.message));
    },
    clear: () => fill(place),
  };
}
