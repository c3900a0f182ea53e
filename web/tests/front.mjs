// A server in front of the system under test, for what a system in good health does not do: it cuts streams at the step that a
// test names, refuses them, and goes away. All else is passed on.

import { createServer, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { BASE } from "./pages.mjs";

/** Milliseconds until what was passed on is read, before the stream is cut: a browser drops what it holds of a broken one. */
const READ_MS = 200;

export class Front {
  /** What `/orders/{id}/events` does: `{}` passes it on, `{ cutAfter }` so many events of it, `{ status }` refuses. */
  events = {};
  /** The `Last-Event-ID` of each stream that was asked for. */
  asked = [];

  static async start() {
    const front = new Front();
    await front.#listen(0);
    return front;
  }

  get address() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Closes every connection, and takes no new one. */
  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  restart() {
    return this.#listen(this.port);
  }

  async #listen(port) {
    this.server = createServer((incoming, outgoing) => this.#answer(incoming, outgoing));
    await new Promise((resolve, reject) => this.server.once("error", reject).listen(port, "127.0.0.1", resolve));
    this.port = this.server.address().port;
  }

  #answer(incoming, outgoing) {
    const isStream = /^\/orders\/[^/]+\/events$/.test(incoming.url);
    const { status, cutAfter } = this.events;
    if (isStream) this.asked.push(incoming.headers["last-event-id"]);
    if (isStream && status) return outgoing.writeHead(status, { "content-type": "application/problem+json" }).end("{}");
    const passed = request(new URL(incoming.url, BASE), { method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      if (isStream && cutAfter) cut(answer, outgoing, cutAfter).catch(() => outgoing.destroy());
      else answer.pipe(outgoing);
    });
    // Whoever goes away first takes the other end along.
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
  }
}

/** Passes on so many events that carry data, then breaks off in the middle of a line. */
async function cut(answer, outgoing, events) {
  let text = "";
  answer.setEncoding("utf8");
  for await (const chunk of answer) {
    text += chunk;
    for (let end; (end = text.indexOf("\n\n")) >= 0 && events > 0; text = text.slice(end + 2)) {
      outgoing.write(text.slice(0, end + 2));
      if (text.slice(0, end).includes("data: ")) events -= 1;
    }
    if (events > 0) continue;
    await sleep(READ_MS);
    outgoing.write("event: paym", () => outgoing.socket?.end());
    return;
  }
  outgoing.end();
}
