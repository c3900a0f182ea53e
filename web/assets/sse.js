// Reads server-sent events from a response. EventSource cannot send the header with the token.

/** Bytes of one event at most; a server that sends more is not ours. */
const EVENT_CHARS_MAX = 1 << 20;

/**
 * Yields `{ event, id, data, retry }` of each event of a byte stream, as the HTML standard reads them; `heard` is called whenever
 * bytes arrive. Reads directly: a pipe in between would drop what it holds when the connection breaks.
 */
export async function* events(stream, heard = () => {}) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  let fields = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      buffer += decoder.decode(value, { stream: true });
      if (buffer.length > EVENT_CHARS_MAX) throw new Error("an event without end");
      // A carriage return at the end may be the first half of a line break.
      for (let end; (end = /\r\n|\n|\r(?!$)/.exec(buffer)); ) {
        const line = buffer.slice(0, end.index);
        buffer = buffer.slice(end.index + end[0].length);
        if (line) {
          take(fields, line);
          continue;
        }
        if (fields.data !== undefined || fields.retry !== undefined) yield { event: "message", ...fields };
        fields = {};
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function take(fields, line) {
  const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
  if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
  else if (name === "retry") fields.retry = /^\d+$/.test(value) ? Number(value) : undefined;
  else if (name === "event" || name === "id") fields[name] = value;
}
