// Passkeys: what the browser does with them, and their part of the account's page. The function speaks the standard's JSON; browsers
// take bytes in place of its base64url.

import { call, session } from "./api.js";
import { action, announce, complaint, fill, h, time } from "./dom.js";
import { explain, form, password } from "./form.js";
import { client } from "./words.js";

/** Whether passkeys can be had here at all: they are for domains, and for pages that nobody changed on the way. */
export const possible = () => Boolean(window.PublicKeyCredential) && !/^[\d.]+$|^\[/.test(location.hostname);

/** Whether this page may use those of a domain. */
const fits = (domain) => possible() && (location.hostname === domain || location.hostname.endsWith(`.${domain}`));

/**
 * The button that signs in, once it is known that it can: it fills `place`. Browsers that can also offer passkeys at the field of the
 * e-mail address. `done` comes after either.
 */
export async function offer({ place, signal, done }) {
  if (!possible()) return;
  const { rpId } = await options(signal);
  if (!fits(rpId)) return;
  const trouble = complaint();
  let field = null;
  const enter = async (mediation, signal) => {
    trouble.clear();
    await session.loginByPasskey(await ask(await options(signal), mediation, signal));
    announce(`Signed in as ${session.email}.`);
    done();
  };
  // A browser asks one thing at a time: the offer at the field makes way for the button, and comes back if nobody signed in.
  const watch = async () => {
    const mine = AbortSignal.any([signal, (field = new AbortController()).signal]);
    if (!(await window.PublicKeyCredential.isConditionalMediationAvailable?.()) || mine.aborted) return;
    await enter("conditional", mine).catch((error) => {
      if (error.status !== 401) return;
      trouble.show(told(error));
      watch();
    });
  };
  fill(place, trouble.place, action("Sign in with a passkey", { class: "quiet wide" }, async () => {
    field?.abort();
    try {
      await enter(undefined, signal);
    } catch (error) {
      watch();
      throw error;
    }
  }, (error) => trouble.show(told(error))));
  watch();
}

/** The account's passkeys. `changed` comes after one is added or removed. */
export function passkeys({ signal, changed }) {
  const place = h("section", null);
  const trouble = complaint();
  const list = h("ul", { class: "rows" });
  const add = form({
    name: "passkey-", submit: "Add a passkey",
    fields: [{ name: "name", label: "Name of the passkey", props: { maxlength: 100, value: client(navigator.userAgent), autocomplete: "off" } },
      password("current_password", "Confirm with your password", false)],
    send: async ({ name, current_password }, element) => {
      const options = await call("POST", "/auth/passkeys/options", { body: { current_password }, signal });
      const credential = await make(options, signal).catch((error) => {
        throw told(error);
      });
      await call("POST", "/auth/passkeys", { body: { ...(name && { name }), credential }, signal });
      element.reset();
      announce("The passkey is added.");
      await Promise.all([restart(), changed()]);
    },
  });

  const row = ({ passkey_id, name, created_at, used_at }) => h("li", null, h("span", { class: "what" },
    h("span", { class: "name" }, name),
    h("span", { class: "soft" }, "added ", time(created_at), used_at ? [", last used ", time(used_at)] : ", not used yet"),
    action("Remove", { class: "quiet", "aria-label": `Remove: ${name}` }, async () => {
      trouble.clear();
      await call("POST", `/auth/passkeys/${passkey_id}/remove`, { signal });
      announce("The passkey is removed.");
      await Promise.all([restart(), changed()]);
    }, (error) => trouble.show(told(error)))));

  async function restart() {
    const { rp_id, passkeys } = await call("GET", "/auth/passkeys", { signal });
    // Where none can be added and there is none, there is nothing to say.
    if (!fits(rp_id) && passkeys.length === 0) return fill(place);
    fill(list, passkeys.map(row));
    fill(place, h("h2", null, "Passkeys"),
      passkeys.length ? list : h("p", { class: "soft" }, "None yet. A passkey signs you in with a finger, a face or a PIN."),
      trouble.place, fits(rp_id) && add);
  }
  return { place, restart };
}

async function options(signal) {
  return call("POST", "/auth/login/passkey/options", { anonymous: true, signal });
}

async function ask({ challenge, ...options }, mediation, signal) {
  const publicKey = { ...options, challenge: bytes(challenge) };
  return written(await navigator.credentials.get({ publicKey, signal, ...(mediation && { mediation }) }));
}

async function make({ challenge, user, excludeCredentials, ...options }, signal) {
  const publicKey = {
    ...options,
    challenge: bytes(challenge),
    user: { ...user, id: bytes(user.id) },
    excludeCredentials: excludeCredentials.map((one) => ({ ...one, id: bytes(one.id) })),
  };
  return written(await navigator.credentials.create({ publicKey, signal }));
}

// As a credential's own `toJSON`, which not all browsers and managers of passwords have.
function written({ id, type, response }) {
  const parts = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const there = parts.filter((part) => response[part]).map((part) => [part, base64url(response[part])]);
  return { id, type, response: Object.fromEntries(there) };
}

function bytes(base64url) {
  return Uint8Array.from(atob(base64url.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

function base64url(buffer) {
  const text = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// Browsers do not tell whether somebody said no or nothing was there.
function told(error) {
  if (error.name === "AbortError") return error;
  if (error.name === "InvalidStateError") return new Error("This device has a passkey of the account already.");
  if (error instanceof DOMException) return new Error("No passkey was used. Try again, or use the password.");
  return new Error(explain(error).text);
}
