"""Exhaustive check of the dispatch protocol: two hosts, N source records, two target partitions.

At every step a host may crash, lose the partition yet go on sending (a zombie), be taken over, or get no answer to its
COMMIT. Checked in every reachable state: each source record takes effect at most once, each emitted message is
accepted at most once, in order, without a gap and as committed; and the end (all took effect, all accepted) stays
reachable. A dispatch may come out in two ways (its result can depend on time): what is sent must be what was committed.
Break one rule to see the fault it prevents: python3 docs/model/protocol_model.py RULE, one or more of
  no-judge      the store does not check epoch and position          no-numbers   consumers refuse nothing
  early-clear   the outbox is cleared before the acknowledgement     one-read     take-over reads the outbox in the statement
  offset-only   a COMMIT without an answer is judged by position                  that raises the epoch (older snapshot)
"""
import sys
from collections import deque

broken = set(sys.argv[1:])
N, HOSTS, TARGETS, MAX_EPOCH, MAX_LOG = 3, 2, 2, 3, 5
# database: (epoch, position, emitted, outbox, effects); a message is (number, way it came out); topics: one log per target
# host: None, ("old", snapshot) (one-read only), ("load", epoch), ("in doubt", epoch, start, end, message, unsent, sent)
#       or ("owner", epoch, position, unsent, sent); consumer: per target (position, highest, accepted)
START = ((0, 0, 0, (), ((),) * N), (None,) * HOSTS, ((),) * TARGETS, ((0, -1, ()),) * TARGETS)
def put(t, i, v): return t[:i] + (v,) + t[i + 1:]

def steps(s):
    db, hosts, logs, cons = s
    epoch, pos, emitted, outbox, effects = db
    for i, h in enumerate(hosts):
        def to(host, db=db, logs=logs): return (db, put(hosts, i, host), logs, cons)
        mine = h is not None and h[0] in ("load", "owner", "in doubt") and h[1] == epoch
        if "one-read" in broken and not mine and (h is None or h[0] == "owner") and epoch < MAX_EPOCH: yield "snapshot", to(("old", outbox))
        if h is not None and h[0] == "old" and epoch < MAX_EPOCH:
            yield "raise epoch", to(("owner", epoch + 1, pos, h[1], ()), (epoch + 1, pos, emitted, outbox, effects))
        if "one-read" not in broken and not mine and epoch < MAX_EPOCH:
            yield "raise epoch", to(("load", epoch + 1), (epoch + 1, pos, emitted, outbox, effects))
        if h is None: continue
        yield "crash", to(None)
        if h[0] == "load": yield "load", to(("owner", h[1], pos, outbox, ()))
        if h[0] == "owner":
            _, e, p, unsent, sent = h
            if p < N and ("no-judge" in broken or (e == epoch and p == pos)):
                left = tuple(m for m in outbox if m not in sent)
                for way in (0, 1):
                    m = (emitted, way)
                    stored = (epoch, max(pos, p + 1), emitted + 1, left + (m,), put(effects, p, effects[p] + (way,)))
                    yield "commit", to(("owner", e, p + 1, unsent + (m,), ()), stored)
                    yield "commit, no answer", to(("in doubt", e, p, p + 1, m, unsent, ()), stored)
            if p < N and (e, p) == (epoch, pos): yield "no commit, no answer", to(("in doubt", e, p, p + 1, (emitted, 0), unsent, sent))
            if "early-clear" in broken and unsent and e == epoch:
                yield "early clear", to(h, (epoch, pos, emitted, tuple(m for m in outbox if m not in unsent), effects))
        if h[0] == "in doubt":
            _, e, start, end, m, unsent, sent = h
            if "offset-only" in broken: yield "resolve", to(("owner", e, end, unsent + (m,), ()) if pos >= end else ("owner", e, start, unsent, sent))
            elif e == epoch and pos == end: yield "resolve: committed", to(("owner", e, end, unsent + (m,), ()))
            elif e == epoch and pos == start: yield "resolve: not committed", to(("owner", e, start, unsent, sent))
            else: yield "resolve: drop", to(("owner", e, end, unsent, sent))
        if h[0] in ("owner", "in doubt"):                       # a producer keeps its order; a zombie goes on sending
            k = 3 if h[0] == "owner" else 5
            unsent, sent = h[k], h[k + 1]
            if unsent and len(logs[unsent[0][0] % TARGETS]) < MAX_LOG:
                m = unsent[0]; t = m[0] % TARGETS
                yield "send", to(h[:k] + (unsent[1:], sent + (m,)), logs=put(logs, t, logs[t] + (m,)))
    for t, (p, mark, acc) in enumerate(cons):
        if p < len(logs[t]):
            m = logs[t][p]
            if m[0] > mark or "no-numbers" in broken: yield "accept", (db, hosts, logs, put(cons, t, (p + 1, max(m[0], mark), acc + (m,))))
            else: yield "refuse", (db, hosts, logs, put(cons, t, (p + 1, mark, acc)))

def fault(s):
    effects, cons = s[0][4], s[3]
    if any(len(e) > 1 for e in effects): return "an effect was doubled"
    for t, (_, _, acc) in enumerate(cons):
        if [m[0] for m in acc] != list(range(t, 99, TARGETS))[: len(acc)]: return f"target {t} accepted {acc}"
        if "no-judge" not in broken and any(effects[n] != (way,) for n, way in acc): return f"target {t} accepted {acc}, committed was {effects}"

def done(s): return all(s[0][4]) and all(len(c[2]) == len(range(t, N, TARGETS)) for t, c in enumerate(s[3]))

seen, queue, back = {START: None}, deque([START]), {}
while queue:
    s = queue.popleft()
    for name, n in steps(s):
        back.setdefault(n, []).append(s)
        if n in seen: continue
        seen[n] = (name, s)
        if why := fault(n):
            path = []
            while seen[n]: path.append(seen[n][0]); n = seen[n][1]
            sys.exit(f"FAULT: {why}: {' > '.join(reversed(path))}")
        queue.append(n)
ok = set(s for s in seen if done(s)); queue = deque(ok)
while queue:
    for p in back.get(queue.popleft(), []):
        if p not in ok: ok.add(p); queue.append(p)
# a state whose bounds (take-overs, log room) are used up says nothing about reaching the end
stuck = [s for s in seen if s not in ok and s[0][0] < MAX_EPOCH and all(len(l) < MAX_LOG for l in s[2])]
print(f"{len(seen)} states, no fault; {len(stuck)} states from which the end cannot be reached")
sys.exit(bool(stuck))
