// The order page while connections break: pushed, cut, resumed, or asked for where nothing is pushed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Front } from "./front.mjs";
import { judge, launch, open, orderFromShop, register, status, step, steps } from "./pages.mjs";

const STORY = ["inventory.committed", "inventory.reserved", "order.confirmed", "order.created", "payment.authorized", "payment.captured"];

let browser;
let front;
let page;
before(async () => {
  browser = await launch();
  front = await Front.start();
  page = await open(browser, {}, front.address);
  await register(page);
});
after(async () => {
  await browser?.close();
  await front?.stop();
});

/** An order whose payment takes two seconds. */
async function orderSlowly() {
  await page.goto("/#/");
  await page.getByRole("button", { name: "Add: Kettle" }).click();
  await page.getByLabel("Pay with").selectOption({ label: "Bank that answers slowly" });
  await page.getByRole("button", { name: "Place order" }).click();
}

const link = (mode) => page.locator(`.link[data-mode="${mode}"]`).waitFor();

test("a stream that is cut again and again goes on behind the last one", async () => {
  front.events = { cutAfter: 1 };
  // The bank takes two seconds: at least four events are still to come when the first stream is cut.
  await orderSlowly();
  for (const event of STORY) await step(page, event);
  const story = await steps(page);
  assert.deepEqual([...story].sort(), STORY, "nothing twice, nothing left out");
  const [first, ...later] = front.asked;
  assert.equal(first, undefined);
  // A browser may drop what it holds of a broken stream: then it has read nothing, and says the same as before.
  const said = later.filter(Boolean);
  assert.deepEqual(said, later.slice(later.length - said.length), "who has read something says so from then on");
  assert.ok(new Set(said).size >= 3, `each connection goes on behind the one before: ${later}`);
});

test("a reload in the middle shows each step once", async () => {
  front.events = {};
  await orderFromShop(page, "Kettle");
  await page.reload();
  for (const event of STORY) await step(page, event);
  await link("live");
  assert.deepEqual((await steps(page)).sort(), STORY);
});

test("an order is watched while it happens", async () => {
  front.events = {};
  await orderSlowly();
  await step(page, "inventory.reserved");
  await status(page, "PENDING");
  // The bank takes two seconds; nothing but its lane is open meanwhile.
  assert.deepEqual(await page.locator(".lanes dd").allTextContents(), ["received", "reserved", "waiting"]);
  await judge(page, "desktop-light", "11-under-way");
  await step(page, "payment.authorized");
  await status(page, "CONFIRMED");
});

test("a stream stays open and shows what happens later", async () => {
  front.events = {};
  await orderFromShop(page, "Kettle");
  await link("live");
  await status(page, "CONFIRMED");
  await step(page, "payment.captured");
  const connections = front.asked.length;
  await page.getByRole("button", { name: "Cancel order" }).click();
  await page.getByRole("button", { name: "Cancel the order" }).click();
  await step(page, "payment.refunded");
  assert.equal(front.asked.length, connections, "over the connection that it had");
});

test("a server that is gone is said, and found again", async () => {
  front.events = {};
  await orderFromShop(page, "Kettle");
  await link("live");
  await status(page, "CONFIRMED");
  await front.stop();
  await link("waiting");
  await page.locator(".link").getByText("The connection is lost.").waitFor();
  await page.locator("#announcer").getByText("The connection is lost.").waitFor({ state: "attached" });
  await judge(page, "desktop-light", "10-lost");
  await front.restart();
  await page.getByRole("button", { name: "Try now" }).click();
  await link("live");
  await page.locator("#announcer").getByText("Connected again.").waitFor({ state: "attached" });
});

for (const answer of [404, 405, 501, 503]) {
  test(`where nothing is pushed (${answer}) the timeline is asked for`, async () => {
    front.events = { status: answer };
    await orderFromShop(page, "Kettle");
    await link("polling");
    await status(page, "CONFIRMED");
    for (const event of STORY) await step(page, event);
    assert.equal((await steps(page)).length, STORY.length);
  });
}

test("where nothing is pushed, money goes back as well", async () => {
  front.events = { status: 404 };
  await orderFromShop(page, "Kettle", "Mug, red");
  await status(page, "CONFIRMED");
  await step(page, "payment.captured");
  await page.getByRole("button", { name: "Refund" }).click();
  await page.getByLabel("Kettle").selectOption("0");
  await page.locator("dialog").getByRole("button", { name: "Refund" }).click();
  await page.locator(".back").getByText("€9.90").waitFor();
  await step(page, "payment.refunded");
  await page.getByRole("button", { name: "Cancel order" }).click();
  await page.getByRole("button", { name: "Cancel the order" }).click();
  await status(page, "CANCELLED");
  await page.locator('.steps [data-event="payment.refunded"]').nth(1).waitFor();
});

test("an order that is not the caller's is not there", async () => {
  await page.goto("/#/orders/01a203ae-19b5-7101-80a5-05757f8e4b1b");
  await page.getByRole("heading", { name: "There is nothing here" }).waitFor();
});
