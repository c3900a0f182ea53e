// My account: the address, the password and passkeys, where it is signed in, and what happened to it.

import { call } from "./api.js";
import { action, announce, complaint, fill, h, time } from "./dom.js";
import { explain, form, password } from "./form.js";
import { paged } from "./lists.js";
import { passkeys } from "./passkey.js";
import { client } from "./words.js";

const HAPPENED = {
  SIGNED_IN: "Signed in",
  SIGNED_IN_WITH_PASSKEY: "Signed in with a passkey",
  SIGN_IN_FAILED: "Failed attempt",
  TOKEN_REUSED: "Signed out: its token was used twice",
  PASSWORD_CHANGED: "Password changed",
  PASSWORD_RESET: "Password set by a mail",
  ADDRESS_CONFIRMED: "Address confirmed",
  SESSIONS_ENDED: "Signed out elsewhere",
  PASSKEY_ADDED: "Passkey added",
  PASSKEY_REMOVED: "Passkey removed",
};

export function account({ main, signal }) {
  const address = h("div", null);
  const logins = h("ul", { class: "rows", "aria-busy": "true" });
  const trouble = complaint();
  const told = (error) => trouble.show(new Error(explain(error).text));
  const happened = paged({ signal, noun: "entries", path: () => "/auth/activity?limit=10",
    entries: (page) => page.entries, row: happening, empty: () => "Nothing yet." });

  async function who() {
    const { email, name, verified } = await call("GET", "/auth/me", { signal });
    const send = action("Send the mail again", { class: "quiet" }, async () => {
      await call("POST", "/auth/verify/send", { signal });
      announce("The mail is on its way.");
      fill(send.parentElement, "The mail is on its way.");
    }, told);
    fill(address, h("p", null, name ? `${name}, ` : "", email, verified ? ", confirmed." : ", not confirmed yet."),
      !verified && h("p", null, send));
  }

  async function where() {
    const { sessions } = await call("GET", "/auth/sessions", { signal });
    fill(logins, sessions.map((one) => h("li", null,
      h("span", { class: "what" },
        h("span", { class: "name", title: one.device }, client(one.device)),
        h("span", { class: "soft" }, one.current ? "this one, " : "", "since ", time(one.begun_at), one.method === "passkey" && ", with a passkey", ", last used ", time(one.used_at)),
        !one.current && action("End", { class: "quiet", "aria-label": `End: ${client(one.device)}` }, async () => {
          await call("POST", `/auth/sessions/${one.session_id}/end`, { signal });
          announce("The login has ended.");
          await Promise.all([where(), happened.restart()]);
        }, told)))));
    logins.removeAttribute("aria-busy");
    others.hidden = sessions.length < 2;
  }

  const others = h("p", { hidden: true }, action("End all others", { class: "quiet" }, async () => {
    await call("POST", "/auth/sessions/end-others", { signal });
    announce("All other logins have ended.");
    await Promise.all([where(), happened.restart()]);
  }, told));
  const keys = passkeys({ signal, changed: () => happened.restart() });
  const change = form({
    name: "change-", submit: "Change the password",
    fields: [password("current_password", "Current password", false), password("new_password", "New password", true)],
    send: async (body, element) => {
      await call("POST", "/auth/password", { body, signal });
      element.reset();
      announce("The password is changed, and all other logins have ended.");
      await Promise.all([where(), happened.restart()]);
    },
  });

  fill(main, h("div", { class: "page" },
    h("h1", { tabindex: "-1" }, "My account"), address, trouble.place,
    h("h2", null, "Signed in"), logins, others,
    keys.place,
    h("h2", null, "Password"), change,
    h("h2", null, "What happened"), happened.place));
  return Promise.all([who(), where(), keys.restart(), happened.restart()]);
}

function happening({ what, at, network, device }) {
  return h("li", null, h("span", { class: "what" },
    h("span", { class: "name" }, HAPPENED[what] ?? what),
    h("span", { class: "soft" }, time(at), network && `, from ${network}`, `, ${client(device)}`)));
}
