// Swagger UI over the interface: complete, working, and within a policy that allows no inline code.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BASE, launch, LOOKS, open, SCREENSHOTS } from "./pages.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

test("every call is shown, and can be tried", async () => {
  const page = await open(browser, LOOKS["desktop-light"]);
  const foreign = [];
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && origin !== new URL(BASE).origin) foreign.push(request.url());
  });
  await page.goto("/docs");
  await page.getByRole("heading", { name: /^Orders/ }).waitFor();
  const document = await (await page.request.get("/openapi.json")).json();
  const calls = Object.values(document.paths).flatMap(Object.values);
  await page.locator(".opblock").nth(calls.length - 1).waitFor();
  assert.equal(await page.locator(".opblock").count(), calls.length);

  const products = page.locator("#operations-inventory-products");
  await products.locator(".opblock-summary-control").click();
  await products.getByRole("button", { name: "Execute" }).click();
  await products.locator(".live-responses-table .response-col_status", { hasText: "200" }).waitFor();
  await products.getByText("COFFEE-1KG").first().waitFor();
  await page.screenshot({ path: `${SCREENSHOTS}/desktop-light-docs.png` });

  // What the policy refuses is a complaint.
  assert.deepEqual(page.complaints, []);
  assert.deepEqual(foreign, []);
  await page.context().close();
});
