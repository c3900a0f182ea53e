// What an admin sees of the forecasts: what to order again, and a product's past and future in one picture.

import { call } from "./api.js";
import { action, complaint, fill, h, time } from "./dom.js";

const DAY_MS = 86_400_000;
const WIDTH = 900;
const HEIGHT = 300;
/** Days of history in the picture. */
const PAST_DAYS = 91;

const MODELS = {
  "seasonal-naive": "the same weekday of the last week", "ets-level": "exponential smoothing", mstl: "week and trend (MSTL)",
  "ets-weekly": "exponential smoothing with a week", "mean-of-three": "mean of three models", tsb: "for rare demand (TSB)",
};

/** All forecasts, or those of products to order again. */
export async function forecasts({ main, signal }) {
  const low = h("input", { type: "checkbox", id: "low" });
  const body = h("tbody");
  const trouble = complaint();
  const more = h("p", { class: "more" });
  const load = async (cursor) => {
    trouble.clear();
    const page = await call("GET", `/forecast?low=${low.checked}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, { signal });
    const rows = page.forecasts.map(row);
    if (cursor) body.append(...rows);
    else fill(body, rows.length ? rows : h("tr", null, h("td", { colspan: 6 }, low.checked ? "Nothing is to be ordered." : "No forecast yet. Each product has one from the day after its first order.")));
    fill(more, page.next_cursor && action("Show more", { class: "quiet" }, () => load(page.next_cursor), trouble.show));
  };
  low.addEventListener("change", () => load().catch(trouble.show));
  const heads = ["Product", "Next 28 days", "Available", "Order at", "Order now", "Error"].map((text) => h("th", { scope: "col" }, text));
  fill(main, h("div", { class: "page" },
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Forecasts"), h("label", { class: "inline", for: "low" }, low, " Only what is to be ordered")),
    trouble.place,
    h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": "Forecasts" }, h("table", { class: "numbers" }, h("thead", null, h("tr", null, heads)), body)), more));
  await load();
}

function row({ sku, stock, forecast }) {
  const cell = (text) => h("td", null, text);
  const known = (value) => (value === null || value === undefined ? "–" : `${value}`);
  return h("tr", null, h("th", { scope: "row" }, h("a", { href: `#/forecast/${sku}` }, sku)),
    cell(Math.round(forecast.units_in_all)), cell(known(stock && stock.on_hand - stock.reserved)), cell(forecast.reorder_point),
    cell(known(forecast.reorder_quantity)), cell(forecast.error === null ? "–" : forecast.error.toFixed(2)));
}

/** One product. */
export async function forecast({ main, signal, id: sku, entitle }) {
  fill(main, h("div", { class: "page" }, h("h1", { tabindex: "-1" }, sku), h("p", { class: "loading" }, "Loading …")));
  entitle(`Forecast of ${sku}`);
  const [found, live] = await Promise.all([
    call("GET", `/forecast/${sku}`, { signal }),
    // Inventory's own word, which also knows what was put into the stock since the last order.
    call("GET", `/inventory/${sku}`, { signal }).catch(() => null),
  ]);
  const { forecast: made, history, days } = found;
  fill(main, h("div", { class: "page" }, h("p", null, h("a", { href: "#/forecast" }, "All forecasts")), h("h1", { tabindex: "-1" }, sku),
    made
      ? [picture(history, days, made.begins), legend(), facts(found, live)]
      : h("p", null, "No forecast yet: the first is made on the day after the first order.")));
}

function facts({ forecast: made, stock, lead_time_days, service_level_percent }, live) {
  const units = live ?? (stock && { ...stock, available: stock.on_hand - stock.reserved });
  const fact = (name, value) => [h("dt", null, name), h("dd", null, value)];
  const error = made.error === null ? "not known yet" : `${made.error.toFixed(2)}; ${made.naive_error.toFixed(2)} if each day were as a week before`;
  return h("dl", { class: "facts" },
    fact("Model", MODELS[made.model] ?? made.model), fact("Error (MASE)", error), fact("Made", time(made.made_at)),
    fact("Available", units ? `${units.available} (${units.on_hand} in stock, ${units.reserved} reserved)` : "not known"),
    fact("Order at", `${made.reorder_point} or fewer: ${lead_time_days} days to arrive, ${service_level_percent}% sure`),
    fact("Order now", made.reorder_quantity === null ? "not known" : `${made.reorder_quantity}`));
}

// Past, future and what may be around it. Its facts are in the list below, so a reader that sees nothing misses little.
function picture(history, days, begins) {
  const first = Date.parse(begins);
  const past = new Map(history.map((entry) => [(Date.parse(entry.day) - first) / DAY_MS, entry]));
  const from = Math.max(-PAST_DAYS, Math.min(-1, ...past.keys()));
  const top = Math.max(1, ...days.map((day) => day.within_95[1]), ...[...past].filter(([day]) => day >= from).map(([, { units }]) => units));
  const x = (day) => (((day - from) / (days.length - 1 - from)) * WIDTH).toFixed(1);
  const y = (units) => (HEIGHT - (units / top) * (HEIGHT - 10)).toFixed(1);
  const line = (points) => points.map(([day, units], index) => `${index ? "L" : "M"}${x(day)} ${y(units)}`).join("");
  const band = (name) => line([...days.map((day, index) => [index, day[name][1]]), ...days.map((day, index) => [index, day[name][0]]).reverse()]) + "Z";
  const before = Array.from({ length: -from }, (_, index) => from + index);
  const short = before.filter((day) => past.get(day)?.short);
  const width = Math.max(2, WIDTH / (days.length - from));
  const caption = h("p", { class: "soft" }, `Units a day, up to ${Math.round(top)}, from ${date(first + from * DAY_MS)} to ${date(first + (days.length - 1) * DAY_MS)}.`);
  return [h("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none",
    "aria-label": `Units a day: ${-from} days of history and ${days.length} days of forecast, up to ${Math.round(top)}` },
  short.map((day) => h("rect", { class: "no-stock", x: x(day - 0.5), y: 0, width, height: HEIGHT })),
  h("path", { class: "band-95", d: band("within_95") }), h("path", { class: "band-80", d: band("within_80") }),
  h("path", { class: "past", d: line(before.map((day) => [day, past.get(day)?.units ?? 0])) }),
  h("path", { class: "ahead", d: line(days.map((day, index) => [index, day.units])) })), caption];
}

// Days are UTC, wherever the reader is.
function date(milliseconds) {
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" }).format(milliseconds);
}

function legend() {
  const key = (name, text) => h("span", { class: `key ${name}` }, text);
  return h("p", { class: "legend" }, key("past", "ordered"), key("ahead", "forecast"), key("band-80", "80%"), key("band-95", "95%"), key("no-stock", "without stock"));
}
