// My account: the password, where it is signed in, what happened; and what the links in mails lead to.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { judge, launch, LOOKS, newEmail, open, PASSWORD, register } from "./pages.mjs";

const OTHER = "another horse";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

async function signIn(page, email, password) {
  await page.goto("/#/sign-in");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function account(page) {
  await page.getByRole("link", { name: "Account" }).click();
  await page.getByText("this one, ").waitFor();
}

for (const [look, options] of Object.entries(LOOKS)) {
  test(`an account ends what is signed in elsewhere: ${look}`, async () => {
    const [page, elsewhere] = [await open(browser, options), await open(browser, options)];
    const email = await register(page);
    await signIn(elsewhere, email, PASSWORD);
    await elsewhere.getByRole("button", { name: "Sign out" }).waitFor();
    await account(page);
    await page.getByText(`${email}, not confirmed yet.`).waitFor();
    await page.getByRole("button", { name: "Send the mail again" }).click();
    await page.getByText("The mail is on its way.").first().waitFor();
    await judge(page, look, "20-account");
    await page.getByRole("button", { name: "End all others" }).click();
    await page.getByText("Signed out elsewhere").waitFor();
    await elsewhere.getByRole("link", { name: "Account" }).click();
    await elsewhere.getByRole("heading", { name: "Sign in" }).waitFor();
    await Promise.all([page.context().close(), elsewhere.context().close()]);
  });
}

test("a password is changed by who knows it, and opens the account from then on", async () => {
  const page = await open(browser);
  const email = await register(page);
  await account(page);
  const change = async (current, fresh) => {
    await page.getByLabel("Current password").fill(current);
    await page.getByLabel("New password").fill(fresh);
    await page.getByRole("button", { name: "Change the password" }).click();
  };
  await change("not the password", OTHER);
  await page.getByText("This is not the account's password.").waitFor();
  await change(PASSWORD, "password1");
  await page.getByText("One that is not known from a breach.").waitFor();
  await change(PASSWORD, OTHER);
  await page.getByText("Password changed").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, email, PASSWORD);
  await page.getByText("There is no account with this address and password.").waitFor();
  await page.getByLabel("Password").fill(OTHER);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("nobody is told who is registered", async () => {
  const page = await open(browser);
  const email = await register(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  const told = [];
  for (const address of [email, newEmail()]) {
    await page.goto("/#/sign-in");
    await page.getByRole("link", { name: "I have forgotten the password" }).click();
    await page.getByLabel("E-mail").fill(address);
    await page.getByRole("button", { name: "Send a link" }).click();
    await page.getByRole("heading", { name: "A mail is on its way" }).waitFor();
    told.push((await page.getByRole("status").textContent()).replace(address, "it"));
  }
  assert.equal(told[0], told[1]);
  // With another password the page tells no more than the mail will.
  await page.goto("/#/register");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(OTHER);
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByRole("heading", { name: "A mail is on its way" }).waitFor();
  await page.context().close();
});

test("a link that is none is refused, and its token goes nowhere but to auth", async () => {
  const page = await open(browser);
  const seen = [];
  page.on("request", (request) => seen.push([request.url(), request.headers().referer ?? ""].join(" ")));
  await page.goto("/#/confirm/not.a.link");
  await page.getByRole("button", { name: "Confirm the address" }).click();
  await page.getByText("This link is not good any more; ask for another one.").waitFor();
  await page.goto("/#/reset/not.a.link");
  await page.getByLabel("New password").fill(OTHER);
  await page.getByRole("button", { name: "Set the password" }).click();
  await page.getByText("This link is not good any more; ask for another one.").waitFor();
  assert.ok(seen.length > 2 && seen.every((one) => !one.includes("not.a.link")), seen.join("\n"));
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
