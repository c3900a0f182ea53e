// Tokens: what outlives a reload, and what happens when one runs out.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, orderFromShop, register, status } from "./pages.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

test("a reload keeps the session, and no other tab has it", async () => {
  const page = await open(browser);
  await register(page);
  await orderFromShop(page, "Kettle");
  await status(page, "CONFIRMED");
  await page.reload();
  await status(page, "CONFIRMED");
  const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }, document.cookie]));
  assert.ok(kept.includes("refresh_token") && !kept.includes("eyJ"), `an access token is stored: ${kept}`);
  const other = await page.context().newPage();
  await other.goto("/#/orders");
  await other.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.context().close();
});

test("a token that ran out is renewed once for all calls that needed it", async () => {
  const page = await open(browser);
  await register(page);
  await orderFromShop(page, "Kettle");
  await status(page, "CONFIRMED");
  let refreshed = 0;
  let refused = 0;
  await page.route("**/auth/refresh", (route) => {
    refreshed += 1;
    return route.continue();
  });
  // From here on the token that the page has is over, as the functions would say it.
  await page.route(/\/orders/, (route) => {
    // Two tokens of one second are the same text, so it is over until there was a renewal.
    if (refreshed > 0) return route.continue();
    refused += 1;
    return route.fulfill({ status: 401, contentType: "application/problem+json", headers: { "www-authenticate": "Bearer" }, body: '{"status":401,"detail":"the token has expired"}' });
  });
  await page.getByRole("link", { name: "Orders" }).click();
  await page.getByRole("link", { name: /^Order / }).click();
  await status(page, "CONFIRMED");
  assert.equal(refreshed, 1);
  assert.ok(refused >= 1);
  await page.context().close();
});

test("a session that was ended elsewhere leads to signing in, and back", async () => {
  const page = await open(browser);
  const email = await register(page);
  await page.evaluate(() => sessionStorage.setItem("refresh_token", "not one of theirs"));
  await page.goto("/#/notifications");
  await page.reload();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill("correct horse");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Notifications" }).waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
