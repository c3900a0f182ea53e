// What becomes of the timeline and of pushed records together.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const source = readFileSync(new URL("../assets/story.js", import.meta.url));
const { Story } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

const at = (ms) => new Date(Date.UTC(2026, 10, 22) + ms).toISOString();
const told = (...events) => events.map(([event, ms]) => ({ event, at: at(ms) }));
const record = (ms, data = {}) => ({ topic: "t", time: at(ms), data });
const events = (story) => story.entries.map((one) => one.event).join(" ");

test("a new kind is shown at once, with the status that it brings", () => {
  const story = new Story();
  assert.ok(story.push("order.created", record(0)));
  assert.ok(story.push("payment.authorized", record(10, { status: "of the payment" })));
  assert.ok(story.push("order.rejected", record(20, { status: "PAYMENT_FAILED", reason: "declined" })));
  assert.deepEqual(story.entries.map(({ status, detail }) => [status, detail]),
    [["PENDING", null], [null, null], ["PAYMENT_FAILED", "declined"]]);
});

test("records of topics that overtake each other are put in the order of their times", () => {
  const story = new Story();
  story.tell(told(["order.created", 50]));
  story.push("order.cancelled", record(60, { status: "CANCELLED" }));
  story.push("inventory.released", record(80));
  story.push("payment.refunded", record(70));
  // The timeline has the other clock, and keeps its place.
  story.push("payment.authorized", record(40));
  assert.equal(events(story), "order.created payment.authorized order.cancelled payment.refunded inventory.released");
});

test("what the snapshot has is not shown again when its record follows", () => {
  const story = new Story();
  story.tell(told(["order.created", 0], ["payment.authorized", 12]));
  assert.ok(story.push("order.created", record(1)));
  assert.ok(story.push("payment.authorized", record(9)));
  assert.equal(events(story), "order.created payment.authorized");
});

test("a second record of what can happen again may be another one: the timeline is asked", () => {
  const story = new Story();
  story.tell(told(["payment.captured", 0], ["payment.refunded", 10]));
  // Whatever else has happened meanwhile, and whichever clock is ahead.
  story.push("order.cancelled", record(600));
  for (const time of [500, 9]) assert.equal(story.push("payment.refunded", record(time)), false);
  assert.equal(events(story), "payment.captured payment.refunded order.cancelled");
  story.tell(told(["payment.captured", 0], ["payment.refunded", 10], ["order.cancelled", 499]));
  story.tell(told(["payment.captured", 0], ["payment.refunded", 10], ["order.cancelled", 499], ["payment.refunded", 501]));
  assert.equal(events(story), "payment.captured payment.refunded order.cancelled payment.refunded");
});

test("a record that is ahead of the timeline stays until the timeline has it", () => {
  const story = new Story();
  story.tell(told(["order.created", 0]));
  story.push("payment.authorized", record(10));
  story.tell(told(["order.created", 0]));
  assert.equal(events(story), "order.created payment.authorized");
  story.tell(told(["order.created", 0], ["payment.authorized", 13]));
  assert.equal(events(story), "order.created payment.authorized");
  assert.equal(story.entries[1].at, at(13), "the timeline is the truth");
});
