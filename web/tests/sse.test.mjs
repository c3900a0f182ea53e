// The reader of server-sent events, against what the HTML standard says of their form.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// As a module of its own, since a browser's `.js` is a module and Node's is not.
const source = readFileSync(new URL("../assets/sse.js", import.meta.url));
const { events } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

async function read(...chunks) {
  const encoder = new TextEncoder();
  const stream = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(typeof chunk === "string" ? encoder.encode(chunk) : chunk);
      controller.close();
    },
  });
  const found = [];
  for await (const event of events(stream)) found.push(event);
  return found;
}

const one = { event: "timeline", id: "1", data: '{"a":1}' };
const text = 'event: timeline\nid: 1\ndata: {"a":1}\n\n';

for (const [name, chunks, expected] of [
  ["an event", [text], [one]],
  ["two in one chunk", [text + text], [one, one]],
  ["carriage returns", [text.replaceAll("\n", "\r")], []],
  ["carriage returns and what follows", [`${text.replaceAll("\n", "\r")}:`], [one]],
  ["both", [text.replaceAll("\n", "\r\n")], [one]],
  ["no space after the colon", [text.replaceAll(": ", ":")], [one]],
  ["comments that keep it alive", [":\n\n", ": still here\n", text], [one]],
  ["data in several lines", ["data: a\ndata: b\ndata\n\n"], [{ event: "message", data: "a\nb\n" }]],
  ["a colon in the data", ["data: a: b\n\n"], [{ event: "message", data: "a: b" }]],
  ["a wait", ["retry: 1500\n\n"], [{ event: "message", retry: 1500 }]],
  ["a wait that is none", ["retry: soon\n\n"], []],
  ["an event that was cut off", ["data: a\n\ndata: b\n"], [{ event: "message", data: "a" }]],
  ["an id alone is no event", ["id: 7\n\n"], []],
]) {
  test(name, async () => assert.deepEqual(await read(...chunks), expected));
}

test("every place where bytes can be cut gives the same", async () => {
  const bytes = new TextEncoder().encode('data: {"text":"Häagen 🌗"}\r\n\r\n' + text);
  const whole = await read(bytes);
  assert.equal(whole.length, 2);
  for (let i = 1; i < bytes.length; i++) {
    assert.deepEqual(await read(bytes.slice(0, i), bytes.slice(i)), whole, `cut at ${i}`);
  }
});

test("an event without an end is given up", async () => {
  await assert.rejects(read(`data: ${"x".repeat((1 << 20) + 1)}`), /without end/);
});
