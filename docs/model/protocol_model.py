"""Exhaustive check of the dispatch protocol (docs/protocol.md), in four small models, one for each question:

  dispatch  two hosts, crashes, COMMITs without an answer: is each effect made once, each message accepted once?
  topic     a topic that is made anew or loses records, a stop, `fnhost position`: is a record skipped or repeated?
  restore   a database that forgets its last commits: is a message refused that was committed after the restore?
  lease     a relay's leaders, crashed, frozen or late: are events lost, repeated or stuck?

Each model tries every step in every state that it can reach. A fault is a step that breaks what the protocol promises. A dead
end is a state from which the end (all records handled, all messages accepted) cannot be reached any more.

  python3 docs/model/protocol_model.py             checks all models with all rules
  python3 docs/model/protocol_model.py RULE...     breaks rules and prints the shortest way to a fault
  python3 docs/model/protocol_model.py --rules     lists the rules
  python3 docs/model/protocol_model.py --check     checks all models, and that each broken rule leads to its fault

Exit status: 0 as it should be; 1 a fault, a dead end, or a broken rule that does no harm; 2 an unknown rule.
"""
import sys
from collections import deque

# Nothing is written into the checkout.
sys.dont_write_bytecode = True

from dispatch import Dispatch
from lease import Lease
from restore import Restore
from topic import Topic

MODELS = [Dispatch(), Topic(), Restore(), Lease()]


def explore(model, broken=frozenset()):
    """Answers the number of states, and the first fault or dead end with the shortest way to it (None where there is none)."""
    came_from = {start: None for start in model.STARTS}
    before, queue = {}, deque(model.STARTS)

    def way(state):
        names = []
        while came_from[state]:
            name, state = came_from[state]
            names.append(name)
        return names[::-1]

    while queue:
        state = queue.popleft()
        for name, after, *fault in model.steps(state, broken):
            if fault and fault[0]:
                return len(came_from), (fault[0], way(state) + [name])
            before.setdefault(after, []).append(state)
            if after not in came_from:
                came_from[after] = (name, state)
                queue.append(after)
    ends = {state for state in came_from if model.done(state)}
    queue = deque(ends)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in ends:
                ends.add(state)
                queue.append(state)
    # A state whose bounds are used up says nothing about reaching the end.
    stuck = (state for state in came_from if state not in ends and not model.used_up(state))
    dead_end = next(stuck, None)
    return len(came_from), dead_end and ("the end cannot be reached", way(dead_end))


def report(model, broken=frozenset()):
    """Explores and prints; answers the fault, or None."""
    states, found = explore(model, broken)
    name = type(model).__name__.lower()
    if not found:
        print(f"{name}: {states} states, no fault, no dead end", flush=True)
        return None
    print(f"{name}: FAULT: {found[0]}: {' > '.join(found[1])}", flush=True)
    return found[0]


def check():
    """Answers whether all models are sound and each broken rule leads to its fault."""
    sound = [report(model) is None for model in MODELS]
    for model in MODELS:
        for rule, (_, fault) in model.RULES.items():
            print(f"{rule}: ", end="")
            sound.append(report(model, {rule}) == fault)
            if not sound[-1]:
                print(f"{rule}: expected the fault: {fault}")
    return all(sound)


def main(arguments):
    rules = {rule: what for model in MODELS for rule, (what, _) in model.RULES.items()}
    if arguments == ["--check"]:
        return 0 if check() else 1
    if arguments == ["--rules"]:
        for rule, what in rules.items():
            print(f"{rule:20} {what}")
        return 0
    if unknown := [argument for argument in arguments if argument not in rules]:
        print(f"no such rule: {' '.join(unknown)}\n\n{__doc__}", file=sys.stderr)
        return 2
    broken = set(arguments)
    chosen = [model for model in MODELS if not broken or broken & set(model.RULES)]
    return 1 if any([report(model, broken) for model in chosen]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
