// The start: which page an address shows, and what is around it.

import { confirm, forgot, register, reset, signIn } from "./account.js";
import { session } from "./api.js";
import { action, announce, fill, h } from "./dom.js";
import { forecast, forecasts } from "./forecast.js";
import { notifications, orders } from "./lists.js";
import { order } from "./order.js";
import { account } from "./security.js";
import { basketPage, shop } from "./shop.js";

/** Address after `#`, title, page; `own` needs somebody signed in. */
const PAGES = [
  { path: /^\/?$/, title: "Shop", show: shop },
  { path: /^\/basket$/, title: "Basket", show: basketPage },
  { path: /^\/sign-in$/, title: "Sign in", show: signIn },
  { path: /^\/register$/, title: "Create an account", show: register },
  { path: /^\/forgot$/, title: "Forgotten password", show: forgot },
  { path: /^\/reset\/(?<token>[\w.-]+)$/, title: "Choose another password", show: reset },
  { path: /^\/confirm\/(?<token>[\w.-]+)$/, title: "Confirm your address", show: confirm },
  { path: /^\/account$/, title: "My account", show: account, own: true },
  { path: /^\/orders$/, title: "My orders", show: orders, own: true },
  { path: /^\/orders\/(?<id>[0-9a-fA-F-]{36})$/, title: "Order", show: order, own: true },
  { path: /^\/notifications$/, title: "Notifications", show: notifications, own: true },
  { path: /^\/forecast$/, title: "Forecasts", show: forecasts, own: true },
  { path: /^\/forecast\/(?<id>[A-Za-z0-9._-]{1,64})$/, title: "Forecast", show: forecast, own: true },
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let leaving = new AbortController();
// Where somebody wanted to go who had to sign in first.
let wanted = null;
let visits = 0;

function leave(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

function entitle(text) {
  document.title = `${text} – Half Moon`;
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const path = location.hash.slice(1);
  const page = PAGES.find((one) => one.path.test(path));
  if (page?.own && !session.exists) {
    wanted = location.hash;
    return location.replace("#/sign-in");
  }
  drawNav(path);
  entitle(page?.title ?? "Not here");
  main.dataset.page = page?.show.name ?? "none";
  try {
    // A page draws itself at once and settles when it has what it shows.
    const { id, token } = page?.path.exec(path).groups ?? {};
    const settled = page
      ? page.show({ main, signal, leave, entitle: (text) => signal.aborted || entitle(text), id, token, wanted: backTo(path) })
      : fill(main, h("div", { class: "narrow" }, h("h1", { tabindex: "-1" }, "There is nothing here"), h("p", null, h("a", { href: "#/" }, "Back to the shop"))));
    arrive();
    await settled;
  } catch (error) {
    if (!signal.aborted) failed(error);
  }
}

// After signing in: where one wanted to go, else the basket or the shop that one came from.
function backTo(path) {
  if (path === "/sign-in" || path === "/register") return wanted ?? (matchMedia("(min-width: 60rem)").matches ? "#/" : "#/basket");
  wanted = null;
  return null;
}

// The first page leaves the focus to the browser; later ones begin at their heading, as a new document would.
function arrive() {
  if (visits++ === 0) return;
  scrollTo(0, 0);
  (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

function failed(error) {
  if (error.status === 401) {
    wanted = location.hash;
    announce("Please sign in again.");
    return location.replace("#/sign-in");
  }
  fill(main, h("div", { class: "narrow" },
    h("h1", { tabindex: "-1" }, error.status === 404 ? "There is nothing here" : "That did not work"),
    h("p", { role: "alert" }, error.message),
    action("Try again", { class: "quiet" }, show, failed),
    h("p", null, h("a", { href: "#/" }, "Back to the shop"))));
  main.querySelector("h1").focus();
}

function drawNav(path = location.hash.slice(1)) {
  const link = (href, label) => h("a", { href, "aria-current": `#${path || "/"}` === href ? "page" : null }, label);
  fill(nav, link("#/", "Shop"),
    session.exists && link("#/orders", "Orders"),
    session.exists && link("#/notifications", "Notifications"),
    session.exists && link("#/account", "Account"),
    session.isAdmin && link("#/forecast", "Forecasts"),
    session.exists
      ? h("button", { type: "button", class: "plain", title: session.email && `Signed in as ${session.email}`, onclick: () => {
        // Here it is over at once; the server is told meanwhile.
        session.logout();
        announce("Signed out.");
        leave("#/");
      } }, "Sign out")
      : link("#/sign-in", "Sign in"));
}

// Its address would be taken for a page's.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
addEventListener("session", () => drawNav());
show();
