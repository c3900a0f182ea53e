// A server in front of the system under test, for what a system in good health does not do: it cuts streams, refuses them, and
// goes away. Everything but the stream is passed on; the stream has the system's own timeline, in the form of docs/web.md, so
// that the test says where it is cut, to the step.

import { createServer, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { BASE } from "./pages.mjs";

/** Milliseconds between two looks at the timeline. */
const LOOK_MS = 20;

/** Milliseconds until a step that was sent is read, before the stream is cut. */
const READ_MS = 200;

export class Front {
  /** What `/orders/{id}/events` does: `{ push: true, cutAfter? }`, in steps, or `{ status }`. */
  events = { push: true };
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
    if (!/^\/orders\/[^/]+\/events$/.test(incoming.url)) return this.#pass(incoming, outgoing);
    this.asked.push(incoming.headers["last-event-id"]);
    if (!this.events.push) return outgoing.writeHead(this.events.status, { "content-type": "application/problem+json" }).end("{}");
    this.#push(incoming, outgoing).catch(() => outgoing.destroy());
  }

  #pass(incoming, outgoing) {
    const passed = request(new URL(incoming.url, BASE), { method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    incoming.pipe(passed);
  }

  async #push(incoming, outgoing) {
    const { cutAfter = Infinity } = this.events;
    const { authorization } = incoming.headers;
    const timeline = new URL(incoming.url.replace(/events$/, "timeline"), BASE);
    let last = Number(incoming.headers["last-event-id"] ?? 0);
    let sent = 0;
    while (!outgoing.destroyed) {
      const answer = await fetch(timeline, { headers: { authorization } });
      if (!outgoing.headersSent) {
        outgoing.writeHead(answer.status, { "content-type": answer.ok ? "text/event-stream" : "application/problem+json" });
        if (!answer.ok) return outgoing.end(await answer.text());
        outgoing.flushHeaders();
      }
      for (const { event, status = null, detail = null, at } of (await answer.json()).entries.slice(last)) {
        last += 1;
        outgoing.write(`event: timeline\nid: ${last}\ndata: ${JSON.stringify({ event, status, detail, at })}\n\n`);
        sent += 1;
        if (sent < cutAfter) continue;
        // In the middle of the next one, as networks do, and once this one has been read: a browser drops what it has of a broken
        // stream, and the page would ask for it again, which is right and makes another list of what was asked.
        await sleep(READ_MS);
        return outgoing.write("event: timel", () => outgoing.socket.end());
      }
      await sleep(LOOK_MS);
    }
  }
}
