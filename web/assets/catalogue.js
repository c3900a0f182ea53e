// Products, as far as they were loaded: the shop shows them, orders and basket look names up.

import { call } from "./api.js";

const products = new Map();
let next;
let loading = null;

/** What is known, in the catalogue's order. */
export const known = () => [...products.values()];

/** Whether there are more than those. */
export const hasMore = () => next !== null;

/** One of them, or undefined. */
export const product = (sku) => products.get(sku);

/** A product's name; its SKU where it is not known. */
export const nameOf = (sku) => products.get(sku)?.name ?? sku;

/** Loads the next page. */
export function loadMore() {
  loading ??= (async () => {
    const cursor = next ? `?cursor=${encodeURIComponent(next)}` : "";
    const page = await call("GET", `/products${cursor}`, { anonymous: true });
    for (const one of page.products) products.set(one.sku, one);
    next = page.next_cursor;
  })().finally(() => {
    loading = null;
  });
  return loading;
}

/** Loads the first page anew: what is available changes with every order. */
export function reload() {
  next = undefined;
  return loadMore();
}

/** Makes these SKUs known, one call for each that no page had. One that is gone keeps its SKU as its name. */
export async function learn(skus) {
  await Promise.allSettled(skus.filter((sku) => !products.has(sku)).map(async (sku) => {
    products.set(sku, await call("GET", `/products/${encodeURIComponent(sku)}`, { anonymous: true }));
  }));
}
