// Small drawings: a mark for each product, made from its SKU so that any catalogue has them, and the moon of a status.

import { h } from "./dom.js";

const TONES = 6;
/** Shapes of one quarter, in a square of 12. */
const SHAPES = [
  "M0 0h12v12H0z",
  "M0 0h12A12 12 0 0 1 0 12z",
  "M12 0v12A12 12 0 0 1 0 0z",
  "M12 12H0A12 12 0 0 1 12 0z",
  "M0 12V0a12 12 0 0 1 12 12z",
  "M6 0a6 6 0 0 1 0 12A6 6 0 0 1 6 0z",
];

// FNV-1a with a final mix: even, and the same in every browser.
function hash(text) {
  let value = 0x811c9dc5;
  for (const unit of text) value = Math.imul(value ^ unit.codePointAt(0), 0x01000193);
  value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d);
  return (value ^ (value >>> 12)) >>> 0;
}

/** The mark of a product, for the eye only. */
export function mark(sku) {
  const seed = hash(sku);
  const quarters = [[0, 0], [12, 0], [0, 12], [12, 12]].map(([x, y], i) => {
    const shape = SHAPES[(seed >>> (i * 4)) % SHAPES.length];
    return h("path", { d: shape, transform: `translate(${x} ${y})`, class: (seed >>> (16 + i)) & 1 ? "deep" : "pale" });
  });
  return h("svg", { class: `mark tone-${seed % TONES}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, quarters);
}

/** The moon of a status: half while it is open, full when it went well, new when it ended otherwise. */
export function moon({ phase, tone }) {
  return h("svg", { class: `moon ${tone}`, viewBox: "0 0 24 24", "aria-hidden": "true" },
    h("circle", { cx: 12, cy: 12, r: 9 }),
    phase === "half" && h("path", { d: "M12 3a9 9 0 0 1 0 18z" }),
    phase === "full" && h("path", { d: "M12 3a9 9 0 0 1 0 18 9 9 0 0 1 0-18z" }));
}
