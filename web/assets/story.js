// What is known of an order's steps: the timeline as the function tells it, and the records that were pushed since.

/** What can happen to an order more than once. */
const REPEATED = ["order.refunded", "payment.refunded"];

/** One entry of a pushed record, in the form of the timeline's. */
function entry(event, { time, data }) {
  // A record of another function says nothing about the order's status; that of its creation leaves it out.
  const status = event === "order.created" ? "PENDING" : event.startsWith("order.") ? data?.status ?? null : null;
  return { event, status, detail: data?.reason ?? null, at: time };
}

export class Story {
  /** `{ event, status?, detail?, at }`, the timeline's in its order, then what was pushed since. */
  entries = [];

  /** Takes the timeline: it is the truth, also about what was shown before. */
  tell(entries) {
    // A record can be pushed before the order function has put its entry into the timeline that it answers with.
    const left = [...entries];
    const ahead = this.entries.filter((one) => {
      const place = left.findIndex((other) => other.event === one.event);
      if (place < 0) return one.pushed;
      left.splice(place, 1);
      return false;
    });
    this.entries = [...entries, ...ahead];
  }

  /**
   * Takes a pushed record. False where the timeline has to be asked: one more of a kind that can happen again is what was seen, or
   * another one, and the clocks of functions, and topics that overtake each other, do not tell which.
   */
  push(event, record) {
    if (!this.entries.some((one) => one.event === event)) {
      const next = { ...entry(event, record), pushed: true };
      // Topics overtake each other; what was pushed is put in the order of its times.
      const place = this.entries.findLastIndex((one) => !one.pushed || Date.parse(one.at) <= Date.parse(next.at)) + 1;
      this.entries = this.entries.toSpliced(place, 0, next);
      return true;
    }
    return !REPEATED.includes(event);
  }
}
