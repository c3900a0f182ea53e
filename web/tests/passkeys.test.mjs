// Passkeys, with an authenticator in software that Chromium has for tests: added, used, removed, and refused.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BASE, judge, launch, LOOKS, open, PASSWORD, register } from "./pages.mjs";

/** Browsers have no passkeys on an IP address. */
const DOMAIN = BASE.replace("127.0.0.1", "localhost");

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/**
 * Gives a page's context an authenticator that says yes at once, and recognises its owner unless told otherwise. It also says yes to
 * what is only offered at a field, so that this is left out unless a test is about it.
 */
async function authenticator(page, { atField = false } = {}) {
  if (!atField) {
    await page.addInitScript(() => {
      if (window.PublicKeyCredential) window.PublicKeyCredential.isConditionalMediationAvailable = async () => false;
    });
  }
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: {
    protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
    automaticPresenceSimulation: true,
  } });
  const send = (what, parameters) => cdp.send(`WebAuthn.${what}`, { authenticatorId, ...parameters });
  return {
    credentials: async () => (await send("getCredentials")).credentials,
    isOwner: (isUserVerified) => send("setUserVerified", { isUserVerified }),
    /** The same key with another counter: a copy of it. */
    setCount: async (signCount) => {
      const [credential] = (await send("getCredentials")).credentials;
      await send("clearCredentials");
      await send("addCredential", { credential: { ...credential, signCount } });
    },
  };
}

async function addPasskey(page, name, password = PASSWORD) {
  await page.getByRole("link", { name: "Account" }).click();
  await page.getByLabel("Name of the passkey").fill(name);
  await page.getByLabel("Confirm with your password").fill(password);
  await page.getByRole("button", { name: "Add a passkey" }).click();
}

async function signOut(page) {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.goto("/#/sign-in");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
}

const byPasskey = (page) => page.getByRole("button", { name: "Sign in with a passkey" });

for (const [look, options] of Object.entries(LOOKS)) {
  test(`a passkey is added, signs in, and is removed: ${look}`, async () => {
    const page = await open(browser, options, DOMAIN);
    const key = await authenticator(page);
    const email = await register(page);
    let tried = 0;
    page.on("request", (request) => {
      if (request.url().endsWith("/auth/passkeys/options")) tried += 1;
    });
    await addPasskey(page, "Telephone", "not the password");
    await page.getByText("This is not the account's password.").waitFor();
    assert.equal(tried, 1, "a wrong password is tried once, and counted once");
    assert.equal((await key.credentials()).length, 0, "none is made in vain");
    await addPasskey(page, "Telephone");
    await page.getByText("Passkey added").waitFor();
    await page.getByText("not used yet").waitFor();
    assert.equal((await key.credentials()).length, 1);
    await judge(page, look, "21-passkeys");

    await signOut(page);
    await byPasskey(page).waitFor();
    await judge(page, look, "22-sign-in-by-passkey");
    await byPasskey(page).click();
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Sign out" }).getAttribute("title"), `Signed in as ${email}`);
    await page.getByRole("link", { name: "Account" }).click();
    await page.getByText("with a passkey, last used").waitFor();
    await page.getByText("Signed in with a passkey").waitFor();
    await page.getByRole("button", { name: "Remove: Telephone" }).click();
    await page.getByText("Passkey removed").waitFor();
    await page.getByText("None yet.").waitFor();

    await signOut(page);
    // The device has it still, and offers it.
    assert.equal((await key.credentials()).length, 1);
    await byPasskey(page).click();
    await page.getByText("This passkey is not accepted.").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

test("who is not recognised, and a copy, are refused, and the password stays", async () => {
  const page = await open(browser, {}, DOMAIN);
  const key = await authenticator(page);
  const email = await register(page);
  await addPasskey(page, "Telephone");
  await page.getByText("Passkey added").waitFor();
  await signOut(page);
  await key.isOwner(false);
  await byPasskey(page).click();
  await page.getByText("No passkey was used.").waitFor();
  await key.isOwner(true);
  await byPasskey(page).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  await signOut(page);
  await key.setCount(0);
  await byPasskey(page).click();
  await page.getByText("This passkey is not accepted.").waitFor();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a passkey is offered at the field of the e-mail address", async () => {
  const page = await open(browser, {}, DOMAIN);
  await authenticator(page, { atField: true });
  const email = await register(page);
  await addPasskey(page, "Telephone");
  await page.getByText("Passkey added").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.goto("/#/notifications");
  // Nothing is pressed: this authenticator takes what it is offered.
  await page.getByRole("heading", { name: "Notifications" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign out" }).getAttribute("title"), `Signed in as ${email}`);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a device that has a passkey of the account makes no second", async () => {
  const page = await open(browser, {}, DOMAIN);
  const key = await authenticator(page);
  await register(page);
  await addPasskey(page, "Telephone");
  await page.getByText("Passkey added").waitFor();
  await addPasskey(page, "Telephone again");
  await page.getByText("This device has a passkey of the account already.").waitFor();
  assert.equal((await key.credentials()).length, 1);
  await page.context().close();
});

test("where there can be no passkeys nothing is said of them, and nothing is asked", async () => {
  const page = await open(browser);
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto("/#/sign-in");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await register(page);
  await page.getByRole("link", { name: "Account" }).click();
  await page.getByText("this one, ").waitFor();
  assert.equal(await page.getByText("passkey", { exact: false }).count(), 0);
  assert.ok(asked.every((url) => !url.includes("/auth/login/passkey")), asked.join("\n"));
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
