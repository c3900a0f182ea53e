// What a customer does, from the first look to the money back, in four looks.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { focused, judge, launch, LOOKS, newEmail, open, orderFromShop, PASSWORD, register, status, step, steps, toBasket } from "./pages.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

for (const [look, options] of Object.entries(LOOKS)) {
  test(`from the shop to a cancelled order: ${look}`, async () => {
    const page = await open(browser, options);
    await page.goto("/");
    await page.getByRole("button", { name: "Add: Coffee beans, 1 kg" }).click();
    // The button that was pressed is gone; the focus is on what took its place.
    assert.equal(await focused(page), "+");
    await page.getByRole("button", { name: "One more of Coffee beans, 1 kg" }).first().click();
    await page.getByRole("button", { name: "Add: Mug, red" }).click();
    await judge(page, look, "1-shop");
    await toBasket(page);
    await page.locator(".sum").getByText("€47.70").first().waitFor();
    await judge(page, look, "2-basket");

    await page.getByRole("link", { name: "Sign in to order" }).click();
    await page.getByRole("link", { name: "Create an account" }).click();
    assert.equal(await focused(page), "Create an account", "a new page begins at its heading");
    const email = newEmail();
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill("short");
    await page.getByLabel("Password").press("Enter");
    assert.equal(await page.getByLabel("Password").getAttribute("aria-invalid"), "true");
    await judge(page, look, "3-register");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByLabel("Password").press("Enter");

    await page.getByRole("button", { name: "Place order" }).click();
    await status(page, "CONFIRMED");
    const all = ["inventory.committed", "inventory.reserved", "order.confirmed", "order.created", "payment.authorized", "payment.captured"];
    // Topics overtake each other: the last one is not the last to be seen.
    for (const event of all) await step(page, event);
    const story = await steps(page);
    assert.equal(story[0], "order.created");
    assert.deepEqual([...story].sort(), all);
    const said = page.locator("#announcer");
    await said.getByText("Order confirmed. Status: Confirmed.").waitFor({ state: "attached" });
    assert.match(await page.title(), /^Confirmed: order/);
    await judge(page, look, "4-confirmed");

    await page.getByRole("button", { name: "Refund" }).click();
    await page.getByLabel("Coffee beans, 1 kg").selectOption("1");
    await page.getByLabel("Mug, red").selectOption("0");
    await page.getByLabel("Reason (may be empty)").fill("one bag was torn");
    await page.locator("dialog .sum").getByText("€18.90").waitFor();
    await page.getByLabel("Coffee beans, 1 kg").selectOption("0");
    await page.locator("dialog").getByRole("button", { name: "Refund" }).click();
    await page.getByText("Choose what goes back.").waitFor();
    await page.getByLabel("Coffee beans, 1 kg").selectOption("1");
    await judge(page, look, "5-refund-dialog");
    await page.locator("dialog").getByRole("button", { name: "Refund" }).click();
    await step(page, "order.refunded");
    await step(page, "payment.refunded");
    await page.locator(".back").getByText("€18.90").waitFor();
    await status(page, "CONFIRMED");
    // The steps are pushed, and may be there before the answer to the click.
    await page.waitForFunction(() => document.activeElement === document.querySelector("h1"));

    await page.getByRole("button", { name: "Cancel order" }).click();
    assert.equal(await focused(page), "Keep it", "the harmless answer has the focus");
    await judge(page, look, "5-cancel-dialog");
    await page.keyboard.press("Escape");
    assert.equal(await focused(page), "Cancel order", "the focus is back where it was");
    await page.getByRole("button", { name: "Cancel order" }).click();
    await page.getByRole("button", { name: "Cancel the order" }).click();
    await status(page, "CANCELLED");
    // What the refund has left.
    await page.locator('.steps [data-event="payment.refunded"]').nth(1).waitFor();
    assert.equal(await page.getByRole("button", { name: "Cancel order" }).count(), 0);
    await judge(page, look, "6-cancelled");

    // All three are in no stock together; the total is one that a double cannot hold.
    await orderFromShop(page, "Espresso machine", "The Moon");
    await status(page, "REJECTED");
    await page.locator(".sum").getByText("€9,000,000,000,000,649.00").waitFor();
    await judge(page, look, "7-rejected");

    await page.getByRole("link", { name: "Orders" }).click();
    await page.locator(".rows .word").getByText("Rejected").waitFor();
    assert.equal(await page.locator(".rows li").count(), 2);
    await judge(page, look, "8-orders");
    await page.getByLabel("Show").selectOption({ label: "Cancelled" });
    await page.waitForFunction(() => document.querySelectorAll(".rows li").length === 1);

    await page.getByRole("link", { name: "Notifications" }).click();
    for (const text of ["Your order is confirmed!", "Your order is cancelled.", "Your order was rejected."]) {
      await page.getByText(text).waitFor();
    }
    await judge(page, look, "9-notifications");

    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("link", { name: "Sign in", exact: true }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await page.goto("/#/orders");
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill("another password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("There is no account with this address and password.").waitFor();
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    // Where one wanted to go before.
    await page.getByRole("heading", { name: "My orders" }).waitFor();
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

test("with the keyboard alone", async () => {
  const page = await open(browser, { reducedMotion: "reduce" });
  await page.goto("/");
  await page.getByRole("button", { name: "Add: Kettle" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "Skip to the content");
  await page.keyboard.press("Enter");
  for (let i = 0; i < 40 && !(await focused(page)).startsWith("Sign in to order"); i++) {
    if (i === 0) await page.getByRole("button", { name: "Add: Kettle" }).press("Enter");
    await page.keyboard.press("Tab");
  }
  assert.equal(await focused(page), "Sign in to order");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0, "nothing moves for who asked for it");
  await page.context().close();
});

test("older orders come by pages, and the focus goes to the first of them", async () => {
  const page = await open(browser);
  await register(page);
  // As many as it takes for a second page, made with the page's own session.
  const made = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/orders"));
  await orderFromShop(page, "Mug, blue");
  const authorization = (await made).headers().authorization;
  const data = { items: [{ sku: "MUG-BLUE", quantity: 1 }], payment_token: "tok_ok" };
  for (let i = 0; i < 21; i++) {
    const answer = await page.request.post("/orders", { headers: { authorization }, data });
    assert.equal(answer.status(), 202);
  }
  await page.getByRole("link", { name: "Orders" }).click();
  await page.getByRole("button", { name: "Show older orders" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".rows li").length === 22);
  const place = await page.evaluate(() => [...document.querySelectorAll(".rows a")].indexOf(document.activeElement));
  assert.equal(place, 20);
  assert.equal(await page.getByRole("button", { name: "Show older orders" }).count(), 0);
  await page.context().close();
});
