// What the tests of the pages share: a Chromium, a customer, and what holds on every page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

/** Where the system answers. */
export const BASE = process.env.WEB_URL;
if (!BASE) throw new Error("set WEB_URL to the address of a running system, or run ./dev test-web");

/** Where pictures go. */
export const SCREENSHOTS = process.env.WEB_SCREENSHOTS ?? new URL("../../target/web-screenshots", import.meta.url).pathname;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** Milliseconds until something awaited must be there, on a busy machine. */
export const PATIENCE_MS = 20_000;

export const launch = () => chromium.launch({
  executablePath: process.env.WEB_CHROMIUM ?? "/usr/bin/chromium",
  // In containers and as root the sandbox cannot be set up; only pages of the system under test are opened.
  args: ["--no-sandbox"],
});

export const LOOKS = {
  "desktop-light": { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  "desktop-dark": { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  "phone-light": { viewport: { width: 360, height: 740 }, colorScheme: "light", deviceScaleFactor: 2, hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", deviceScaleFactor: 2, hasTouch: true },
};

/** A page in a context of its own. What its console complains about is in `page.complaints`. */
export async function open(browser, options = {}, address = BASE) {
  const context = await browser.newContext({ locale: "en-IE", timezoneId: "Europe/Dublin", baseURL: address, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (message) => {
    // Answers that are no success are listed by their address; the tests that cause them expect them.
    const refused = /^Failed to load resource/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !refused) page.complaints.push(message.text());
  });
  return page;
}

let customers = 0;

/** An address that nobody has yet. */
export const newEmail = () => `web-${process.pid}-${Date.now()}-${++customers}@example.com`;
export const PASSWORD = "correct horse";

/** Registers on the page, from the form to the signed-in state. */
export async function register(page, email = newEmail()) {
  await page.goto("/#/register");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  return email;
}

/** Puts something into the basket and orders it; the page is that of the order then. */
export async function orderFromShop(page, ...names) {
  await page.goto("/#/");
  for (const name of names) await page.getByRole("button", { name: new RegExp(`^Add( anyway)?: ${name}`) }).click();
  await toBasket(page);
  await page.getByRole("button", { name: "Place order" }).click();
  await page.waitForURL(/#\/orders\/[0-9a-f-]{36}$/);
  return page.url().split("/").pop();
}

/** The basket is beside the shop where there is room, and a page of its own where there is none. */
export async function toBasket(page) {
  if (page.viewportSize().width < 960) await page.getByRole("link", { name: /^Basket:/ }).click();
}

export const status = (page, name) => page.locator(`[data-status="${name}"]`).waitFor();
export const step = (page, event) => page.locator(`.steps [data-event="${event}"]`).waitFor();
export const steps = (page) => page.locator(".steps li").evaluateAll((all) => all.map((one) => one.dataset.event));
export const focused = (page) => page.evaluate(() => document.activeElement.textContent || document.activeElement.tagName);

/** Holds the page against what is true of all of them, and keeps a picture of it. */
export async function judge(page, look, name) {
  // What moves has arrived, so that contrast and picture are those of the finished page.
  await page.evaluate(() => Promise.all([document.fonts.ready,
    ...document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished.catch(() => {}))]));
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${SCREENSHOTS}/${look}-${name}.png`, fullPage: look.startsWith("phone") && !name.includes("dialog") });
  const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(scroll <= inner, `${name} in ${look} is ${scroll} px wide`);
  if (!(await page.evaluate(() => Boolean(window.axe)))) await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
  assert.deepEqual(found, [], `${name} in ${look} is not accessible`);
  assert.deepEqual(page.complaints, [], `${name} in ${look}`);
}
