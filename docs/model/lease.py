"""A relay's leaders and the lease that elects them."""
from typing import NamedTuple

from states import fenced, hosts_with


class Row(NamedTuple):
    take_overs: int = 0
    lease: str = "free"   # nobody owns the row; or "held", or "passed"
    relayed: tuple = ()   # the event of each number
    outbox: tuple = ()    # messages: (number, event)
    freezes: int = 1


class Lease:
    """A relay's row and two hosts that would lead. A lease passes at any time: hosts' clocks promise nothing. The relay takes any
    event that it sees, since HTTP requests commit in no order. A leader may crash (its transaction ends), be late (it goes on
    where it was), or freeze for good with its connections open. Accepted messages follow from the log, as in `dispatch`."""

    EVENTS, HOSTS, TAKE_OVERS_MAX = 3, 2, 4
    RULES = {
        "no-lease-epoch": ("taking the lease does not raise the epoch", "a message was accepted that nobody committed"),
        "trusted-lease": ("a leader trusts its lease: the store does not check epoch and numbers", "a number was used twice"),
        "no-expiry": ("the lease is taken over only from nobody, never because it has passed", "the end cannot be reached"),
        "no-terminate": ("a take-over waits for the transaction of a leader whose lease has passed", "the end cannot be reached"),
    }
    # (row, hosts, messages accepted). Hosts: ("load", current), ("leader", current, number, unsent, acknowledged), the same
    # with an event before `unsent` while its transaction is open ("open") or its COMMIT unanswered ("doubt"), or
    # ("frozen", False, whether its transaction is open).
    STARTS = [(Row(), ((),) * HOSTS, 0)]

    def steps(self, state, broken):
        row, hosts, accepted = state
        for i, host in enumerate(hosts):
            others = hosts[:i] + hosts[i + 1:]

            def to(host, row=row, others=others, accepted=accepted):
                return row, hosts_with(others, host), accepted

            kind = host[0] if host else None
            if kind == "frozen":
                continue
            locked = any(other[:1] == ("open",) or other == ("frozen", False, True) for other in others)
            if not host or (kind == "leader" and not host[1]):
                yield from self.take(row, others, to, locked, broken)
            if not host:
                continue
            yield "crash", to(())
            if row.freezes:
                yield "freeze", to(("frozen", False, kind == "open"), row._replace(freezes=row.freezes - 1))
            if host[1] and row.lease == "passed" and not locked:
                yield "renew", to(host, row._replace(lease="held"))
            if kind == "load":
                yield "load", to(("leader", host[1], len(row.relayed), row.outbox, -1))
            if kind == "leader" and not locked:
                yield from self.relay(row, host, to, broken)
            if kind == "open":
                yield from self.commit(row, host, to)
            if kind == "doubt":
                _, current, number, event, unsent, acknowledged = host
                if not current or len(row.relayed) > number + 1:
                    yield "find itself fenced", to(())
                elif len(row.relayed) == number:
                    yield "find it not committed", to(("leader", current, number, unsent, acknowledged))
                else:
                    message = (number, event)
                    yield "find it committed", to(("leader", current, number + 1, unsent + (message,), acknowledged))
            if kind in ("leader", "open", "doubt") and host[-2]:
                (number, event), rest = host[-2][0], host[-2][1:]
                after = host[:-2] + (rest, number)
                if number < accepted:
                    yield "send again", to(after)
                else:
                    committed = row.relayed[number:number + 1] == (event,)
                    fault = ("a message was lost" if number > accepted
                             else not committed and "a message was accepted that nobody committed")
                    yield "send", to(after, accepted=accepted + 1), fault
        if row.lease == "held":
            yield "lease passes", (row._replace(lease="passed"), hosts, accepted)

    def take(self, row, others, to, locked, broken):
        free = row.lease == "free" or (row.lease == "passed" and "no-expiry" not in broken)
        if not free or row.take_overs == self.TAKE_OVERS_MAX or (locked and "no-terminate" in broken):
            return
        # The session that holds the row is terminated.
        ended = tuple(("leader",) + other[1:3] + other[4:] if other[:1] == ("open",)
                      else ("frozen", False, False) if other[:1] == ("frozen",) else other for other in others)
        if "no-lease-epoch" not in broken:
            ended = tuple(map(fenced, ended))
        yield "take the lease", to(("load", True), row._replace(take_overs=row.take_overs + 1, lease="held"), ended)

    def relay(self, row, host, to, broken):
        _, current, number, unsent, acknowledged = host
        if (current and number == len(row.relayed)) or "trusted-lease" in broken:
            for event in set(range(self.EVENTS)) - set(row.relayed):
                fault = number < len(row.relayed) and "a number was used twice"
                yield "delete an event and store", to(("open", current, number, event, unsent, acknowledged)), fault
        if current:
            yield "resign", to((), row._replace(lease="free"))
        else:
            yield "find itself fenced", to(())

    def commit(self, row, host, to):
        _, current, number, event, unsent, acknowledged = host
        message = (number, event)
        left = tuple(other for other in row.outbox if other[0] > acknowledged)
        stored = row._replace(relayed=row.relayed + (event,), outbox=left + (message,))
        yield "commit", to(("leader", current, number + 1, unsent + (message,), -1), stored)
        yield "commit, no answer", to(("doubt", current, number, event, unsent, -1), stored)
        yield "no commit, no answer", to(("doubt", current, number, event, unsent, acknowledged))

    def done(self, state):
        return state[2] == self.EVENTS

    def used_up(self, state):
        return state[0].take_overs == self.TAKE_OVERS_MAX
