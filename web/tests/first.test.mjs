// The first visit: what it costs and how long it takes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, LOOKS, open } from "./pages.mjs";

/** Bytes that cross the wire for the first page, headers and catalogue included. */
const BYTES_MAX = 100_000;
/** Bytes of the second visit: the catalogue, and the word that nothing else has changed. */
const AGAIN_BYTES_MAX = 10_000;
/** Milliseconds from asking for the address to a catalogue whose buttons work. */
const USABLE_MS_MAX = 500;
/** Visits; the quickest one counts, since other tests use the machine as well. */
const VISITS = 3;

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

async function visit() {
  const page = await open(browser, LOOKS["phone-light"]);
  const network = await page.context().newCDPSession(page);
  let bytes = 0;
  await network.send("Network.enable");
  network.on("Network.loadingFinished", ({ encodedDataLength }) => {
    bytes += encodedDataLength;
  });
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector(".catalogue button")) return;
      window.usableAt = performance.now();
      observer.disconnect();
    }).observe(document, { childList: true, subtree: true });
  });
  await page.goto("/", { waitUntil: "networkidle" });
  const usable = await page.evaluate(() => window.usableAt);
  const first = bytes;
  await page.reload({ waitUntil: "networkidle" });
  assert.deepEqual(page.complaints, []);
  await page.context().close();
  return { bytes: first, usable, again: bytes - first };
}

test("the first page is small, and usable at once", async (t) => {
  const visits = [];
  for (let i = 0; i < VISITS; i++) visits.push(await visit());
  const bytes = Math.max(...visits.map((one) => one.bytes));
  const again = Math.max(...visits.map((one) => one.again));
  const usable = Math.min(...visits.map((one) => one.usable));
  t.diagnostic(`${bytes} bytes, ${again} the second time; usable after ${visits.map((one) => Math.round(one.usable)).join(", ")} ms`);
  assert.ok(bytes > 10_000 && bytes <= BYTES_MAX, `${bytes} bytes`);
  assert.ok(again <= AGAIN_BYTES_MAX, `${again} bytes for a page that was here before`);
  assert.ok(usable <= USABLE_MS_MAX, `${usable} ms`);
});
