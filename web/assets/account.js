// Signing in and registering.

import { session } from "./api.js";
import { announce, complaint, fill, h } from "./dom.js";

const PASSWORD_CHARS_MIN = 8;

export function signIn({ main, leave, wanted }) {
  form({
    main, leave, wanted, title: "Sign in", submit: "Sign in", fresh: false,
    other: h("p", null, "New here? ", h("a", { href: "#/register" }, "Create an account"), "."),
    send: ({ email, password }) => session.login(email, password),
  });
}

export function register({ main, leave, wanted }) {
  form({
    main, leave, wanted, title: "Create an account", submit: "Create account", fresh: true,
    other: h("p", null, "Have one already? ", h("a", { href: "#/sign-in" }, "Sign in"), "."),
    send: ({ email, password, name }) => session.register(email, password, name),
  });
}

function form({ main, leave, wanted, title, submit, fresh, other, send }) {
  const trouble = complaint();
  const field = (name, label, props, hint) => h("div", { class: "field" },
    h("label", { for: name }, label),
    h("input", { id: name, name, ...props, "aria-describedby": `${name}-note` }),
    h("p", { id: `${name}-note`, class: "note" }, hint ?? ""));
  const button = h("button", { class: "primary wide" }, submit);
  const element = h("form", { novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled")) return;
    clear(element, trouble);
    const values = Object.fromEntries(new FormData(element));
    const missing = check(element, fresh);
    if (missing) return point(element, missing, trouble);
    button.setAttribute("aria-disabled", "true");
    try {
      await send(values);
      announce(`Signed in as ${values.email}.`);
      leave(wanted ?? "#/");
    } catch (error) {
      point(element, explain(error), trouble);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  } },
  fresh && field("name", "Name (optional)", { autocomplete: "name", maxlength: 100 }),
  field("email", "E-mail", { type: "email", autocomplete: "username", required: true, maxlength: 254, autocapitalize: "none" }),
  field("password", "Password", {
    type: "password", autocomplete: fresh ? "new-password" : "current-password", required: true, maxlength: 256,
  }, fresh ? `${PASSWORD_CHARS_MIN} characters or more.` : null),
  trouble.place, button);
  fill(main, h("div", { class: "narrow" }, h("h1", { tabindex: "-1" }, title), element, other));
}

function check(element, fresh) {
  const { email, password } = element.elements;
  if (!email.validity.valid) return { field: "email", text: "Enter an e-mail address, like ada@example.com." };
  if (!password.value) return { field: "password", text: "Enter the password." };
  if (fresh && password.value.length < PASSWORD_CHARS_MIN) {
    return { field: "password", text: `The password needs ${PASSWORD_CHARS_MIN} characters or more.` };
  }
  return null;
}

function explain(error) {
  if (error.status === 429) {
    const seconds = Number(error.retryAfter);
    return { text: `Too many attempts. ${seconds ? `Try again in ${seconds} s.` : "Try again later."}` };
  }
  const text = error.problem?.detail ?? error.message;
  return { field: error.problem?.field, text: text.charAt(0).toUpperCase() + text.slice(1) + (/[.!]$/.test(text) ? "" : ".") };
}

// The field at fault says why and takes the focus; without one it is said above the button.
function point(element, { field, text }, trouble) {
  const input = field && element.elements[field];
  if (!input) return trouble.show(new Error(text));
  input.setAttribute("aria-invalid", "true");
  const note = element.querySelector(`#${field}-note`);
  note.dataset.hint ??= note.textContent;
  note.textContent = text;
  note.classList.add("wrong");
  input.focus();
}

function clear(element, trouble) {
  trouble.clear();
  for (const input of element.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const note of element.querySelectorAll(".note.wrong")) {
    note.classList.remove("wrong");
    note.textContent = note.dataset.hint;
  }
}
