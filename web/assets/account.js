// Signing in, registering, and what the links in mails lead to.

import { call, session } from "./api.js";
import { action, announce, complaint, fill, h } from "./dom.js";
import { EMAIL, explain, form, password } from "./form.js";
import { offer, possible } from "./passkey.js";

/** The field where browsers may offer passkeys too. */
const EMAIL_OR_PASSKEY = { ...EMAIL, props: { ...EMAIL.props, autocomplete: "username webauthn" } };

export function signIn({ main, leave, wanted, signal }) {
  const passkey = h("div", null);
  show(main, "Sign in", form({
    fields: [possible() ? EMAIL_OR_PASSKEY : EMAIL, password("password", "Password", false)], submit: "Sign in",
    send: async ({ email, password }) => {
      await session.login(email, password);
      announce(`Signed in as ${email}.`);
      leave(wanted ?? "#/");
    },
  }),
  passkey,
  h("p", null, "New here? ", h("a", { href: "#/register" }, "Create an account"), "."),
  h("p", null, h("a", { href: "#/forgot" }, "I have forgotten the password")));
  // Without it there is the password.
  offer({ place: passkey, signal, done: () => leave(wanted ?? "#/") }).catch(() => {});
}

export function register({ main, leave, wanted }) {
  const name = { name: "name", label: "Name (optional)", props: { autocomplete: "name", maxlength: 100 } };
  show(main, "Create an account", form({
    fields: [name, EMAIL, password("password", "Password", true)], submit: "Create account",
    send: async ({ email, password, name }) => {
      await call("POST", "/auth/register", { body: { email, password, ...(name && { name }) }, anonymous: true });
      try {
        await session.login(email, password);
      } catch (error) {
        if (error.status !== 401) throw error;
        // The address has an account with another password, or is to be confirmed first: the mail says which.
        return sent(main, email, "Read it before you sign in.");
      }
      announce(`Signed in as ${email}.`);
      leave(wanted ?? "#/");
    },
  }),
  h("p", null, "Have one already? ", h("a", { href: "#/sign-in" }, "Sign in"), "."));
}

export function forgot({ main }) {
  show(main, "Forgotten password", form({
    fields: [EMAIL], submit: "Send a link",
    send: async ({ email }) => {
      await call("POST", "/auth/password/forgot", { body: { email }, anonymous: true });
      sent(main, email, "If this address has an account, its link sets another password within 30 minutes.");
    },
  }), h("p", null, h("a", { href: "#/sign-in" }, "Back to signing in")));
}

/** Where the link of a mail leads to; its token is in the address, behind the part that browsers send. */
export function reset({ main, leave, token }) {
  show(main, "Choose another password", form({
    fields: [password("new_password", "New password", true)], submit: "Set the password",
    send: async ({ new_password }) => {
      await call("POST", "/auth/password/reset", { body: { token, new_password }, anonymous: true });
      await session.logout();
      announce("The password is set. Please sign in.");
      leave("#/sign-in");
    },
  }), h("p", { class: "soft" }, "This signs the account out everywhere and removes its passkeys."),
  h("p", null, h("a", { href: "#/forgot" }, "Ask for another link")));
}

/** As above. A press, not the visit, confirms: programs that look into mails visit too. */
export function confirm({ main, leave, token }) {
  const trouble = complaint();
  const button = action("Confirm the address", { class: "primary wide" }, async () => {
    trouble.clear();
    await call("POST", "/auth/verify", { body: { token }, anonymous: true });
    announce("The address is confirmed.");
    leave(session.exists ? "#/account" : "#/sign-in");
  }, (error) => trouble.show(new Error(explain(error).text)));
  show(main, "Confirm your address", trouble.place, button);
}

function show(main, title, ...content) {
  fill(main, h("div", { class: "narrow" }, h("h1", { tabindex: "-1" }, title), content));
}

function sent(main, email, what) {
  show(main, "A mail is on its way", h("p", { role: "status" }, `It goes to ${email}. ${what}`),
    h("p", null, h("a", { href: "#/sign-in" }, "Sign in")));
  main.querySelector("h1").focus();
}
