"""A partition's owners: crashes, take-overs, COMMITs without an answer, and what is sent."""
from typing import NamedTuple

from states import fenced, hosts_with, put


class Db(NamedTuple):
    take_overs: int = 0
    committed: tuple = ()  # how each record came out; its length is the position and the number of messages
    outbox: tuple = ()     # messages: (number, how its record came out)


class Dispatch:
    """Each record emits one message, to one of two partitions by turns. A record may come out in two ways, because a function's
    result can depend on time: what is sent must be what was committed. A host that is fenced or has lost the partition goes on
    sending what it has. Consumers are not seen: what they accept follows from the order in which messages arrive in the log."""

    RECORDS, HOSTS, TARGETS, TAKE_OVERS_MAX = 4, 2, 2, 4
    RULES = {
        "no-judge": ("the store does not check epoch and position", "an effect was doubled"),
        "early-clear": ("the outbox is cleared before the acknowledgement", "a message was lost"),
        "offset-only": ("a COMMIT without an answer is judged by the position alone",
                        "a message was accepted that nobody committed"),
        "no-numbers": ("consumers refuse nothing", "a message was accepted twice"),
        "one-read": ("the outbox is read in the statement that raises the epoch", "a message was lost"),
    }
    # (database, hosts, messages accepted by each target). Hosts: ("old", snapshot of the outbox), ("load", current),
    # ("owner", current, position, unsent, acknowledged) or, with a COMMIT unanswered, ("doubt", current, position, message,
    # unsent, acknowledged). Unsent are messages, acknowledged is a number or -1.
    STARTS = [(Db(), ((),) * HOSTS, (0,) * TARGETS)]

    def steps(self, state, broken):
        db, hosts, accepted = state
        position = len(db.committed)
        for i, host in enumerate(hosts):
            others = hosts[:i] + hosts[i + 1:]

            def to(host, db=db, others=others, accepted=accepted):
                return db, hosts_with(others, host), accepted

            def taken(host):
                return to(host, db._replace(take_overs=db.take_overs + 1), tuple(map(fenced, others)))

            kind = host[0] if host else None
            owns = kind in ("load", "owner", "doubt") and host[1]
            if db.take_overs < self.TAKE_OVERS_MAX and not owns:
                if "one-read" not in broken:
                    yield "raise epoch", taken(("load", True))
                elif kind == "old":
                    yield "raise epoch", taken(("owner", True, position, host[1], -1))
                elif kind in (None, "owner"):
                    yield "snapshot", to(("old", db.outbox))
            if not host:
                continue
            yield "crash", to(())
            if kind == "load":
                yield "load", to(("owner", host[1], position, db.outbox, -1))
            if kind == "owner":
                yield from self.batch(db, host, to, broken)
            if kind == "doubt":
                _, current, at, message, unsent, acknowledged = host
                if current or "offset-only" in broken:
                    if position > at:
                        yield "find it committed", to(("owner", current, at + 1, unsent + (message,), acknowledged))
                    else:
                        yield "find it not committed", to(("owner", current, at, unsent, acknowledged))
                else:
                    yield "find itself fenced", to(())
            if kind in ("owner", "doubt") and host[-2]:
                (number, way), rest = host[-2][0], host[-2][1:]
                target = number % self.TARGETS
                awaited = target + accepted[target] * self.TARGETS
                after = host[:-2] + (rest, number)
                if number < awaited:
                    yield "send again", to(after), "no-numbers" in broken and "a message was accepted twice"
                else:
                    committed = db.committed[number:number + 1] == (way,)
                    fault = ("a message was lost" if number > awaited
                             else not committed and "a message was accepted that nobody committed")
                    yield "send", to(after, accepted=put(accepted, target, accepted[target] + 1)), fault

    def batch(self, db, host, to, broken):
        """The record at the owner's position."""
        _, current, at, unsent, acknowledged = host
        position = len(db.committed)
        stores = current and at == position
        if at < self.RECORDS and (stores or "no-judge" in broken):
            left = tuple(message for message in db.outbox if message[0] > acknowledged)
            for way in (0, 1):
                message = (position, way)
                stored = db._replace(committed=db.committed + (way,), outbox=left + (message,))
                fault = at < position and "an effect was doubled"
                yield "commit", to(("owner", current, at + 1, unsent + (message,), -1), stored), fault
                yield "commit, no answer", to(("doubt", current, at, message, unsent, -1), stored), fault
            if stores:
                yield "no commit, no answer", to(("doubt", current, at, (position, 0), unsent, acknowledged))
        if "early-clear" in broken and unsent and current:
            yield "clear early", to(host, db._replace(outbox=tuple(m for m in db.outbox if m not in unsent)))

    def done(self, state):
        return len(state[0].committed) == self.RECORDS == sum(state[2])

    def used_up(self, state):
        return state[0].take_overs == self.TAKE_OVERS_MAX
