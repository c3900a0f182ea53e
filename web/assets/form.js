// A form whose faults are said at the field that has them.

import { complaint, h } from "./dom.js";

export const PASSWORD_CHARS_MIN = 8;

export const EMAIL = { name: "email", label: "E-mail", props: { type: "email", autocomplete: "username", required: true, maxlength: 254, autocapitalize: "none" } };

/** A field for a password; a fresh one says what it needs. */
export function password(name, label, fresh) {
  return { name, label, fresh, props: {
    type: "password", autocomplete: fresh ? "new-password" : "current-password", required: true, maxlength: 256,
  }, hint: fresh ? `${PASSWORD_CHARS_MIN} characters or more.` : null };
}

/**
 * `fields` are `{name, label, props, hint, fresh}`; `send` gets their values, and what it throws is said where it belongs. `name` tells
 * several forms of one page apart.
 */
export function form({ name: own = "", fields, submit, send, props }) {
  const trouble = complaint();
  const id = (name) => `${own}${name}`;
  const field = ({ name, label, props, hint }) => h("div", { class: "field" },
    h("label", { for: id(name) }, label),
    h("input", { id: id(name), name, ...props, "aria-describedby": `${id(name)}-note` }),
    h("p", { id: `${id(name)}-note`, class: "note" }, hint ?? ""));
  const button = h("button", { class: "primary wide" }, submit);
  const element = h("form", { novalidate: true, ...props, onsubmit: async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled")) return;
    clear(element, trouble);
    const values = Object.fromEntries(new FormData(element));
    const missing = check(element, fields);
    if (missing) return point(element, id, missing, trouble);
    button.setAttribute("aria-disabled", "true");
    try {
      await send(values, element);
    } catch (error) {
      point(element, id, explain(error), trouble);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  } }, fields.map(field), trouble.place, button);
  return element;
}

function check(element, fields) {
  for (const { name, fresh, props } of fields) {
    const input = element.elements[name];
    if (props.type === "email" && !input.validity.valid) return { field: name, text: "Enter an e-mail address, like ada@example.com." };
    if (props.type === "password" && !input.value) return { field: name, text: "Enter the password." };
    if (fresh && input.value.length < PASSWORD_CHARS_MIN) {
      return { field: name, text: `The password needs ${PASSWORD_CHARS_MIN} characters or more.` };
    }
  }
  return null;
}

export function explain(error) {
  if (error.status === 429) {
    const seconds = Number(error.retryAfter);
    return { text: `Too many attempts. ${seconds ? `Try again in ${seconds} s.` : "Try again later."}` };
  }
  const text = error.problem?.detail ?? error.message;
  return { field: error.problem?.field, text: text.charAt(0).toUpperCase() + text.slice(1) + (/[.!]$/.test(text) ? "" : ".") };
}

// The field at fault says why and takes the focus; without one it is said above the button.
function point(element, id, { field, text }, trouble) {
  const input = field && element.elements[field];
  if (!input) return trouble.show(new Error(text));
  input.setAttribute("aria-invalid", "true");
  const note = element.querySelector(`[id="${id(field)}-note"]`);
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
