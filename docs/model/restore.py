"""A database that is restored, and the messages that are committed after that."""
from typing import NamedTuple


class Db(NamedTuple):
    incarnation: int = 0
    emitted: int = 0
    outbox: tuple = ()   # messages: (incarnation, number, identity)
    history: tuple = ()  # identities of all messages that this database knows as committed


class State(NamedTuple):
    db: Db = Db()
    backup: Db = Db()
    noticed: bool = True  # no restore, or it was noticed
    host: tuple = ()      # () or (incarnation, unsent messages)
    stray: tuple = ()     # what a host from before the restore has still to send
    accepted: tuple = ()  # messages
    identities: int = 0   # used so far, here and below: by all histories together
    incarnations: int = 1
    backups: int = 2      # still to come
    restores: int = 2


class Restore:
    """One stream, the database of its sender, and a consumer. The database is set back to its last backup, or to its beginning, up
    to two times; the log is not. A host from before a restore may go on sending, but commits nothing. Messages whose commits
    were forgotten may be accepted or not, and their effects may be repeated. A message that the database knows must be
    accepted once and in order.

    What the consumer accepts follows from the order in which messages arrive in the log, even if its own database is restored
    too: then it reads the same log again. How a restore is noticed is left out; the model only says when it must be."""

    MESSAGES = 4
    RULES = {
        "no-incarnation": ("a stream's name has no incarnation", "a message was lost"),
        "late-notice": ("the restored database commits before the restore is noticed", "a message was lost"),
        "counted-incarnation": ("the next incarnation is counted in the database that is restored", "a message was lost"),
        "renamed-outbox": ("unsent rows are sent under the incarnation at the time of sending",
                           "a message was accepted twice"),
    }
    STARTS = [State()]

    def steps(self, state, broken):
        db, host = state.db, state.host
        if state.backups and state.backup != db:
            yield "back up", state._replace(backup=db, backups=state.backups - 1)
        if state.restores:
            yield "restore", state._replace(db=state.backup, noticed=False, host=(), stray=host[1] if host else state.stray,
                                            restores=state.restores - 1)
        if not state.noticed and (host or "late-notice" not in broken):
            yield "notice the restore", self.notice(state, broken)
        if not host and (state.noticed or "late-notice" in broken):
            yield "start", state._replace(host=(db.incarnation, db.outbox))
        if host:
            yield "crash", state._replace(host=())
            yield from self.serve(state)
        if state.stray:
            yield self.send("send what was forgotten", state._replace(stray=state.stray[1:]), state.stray[0])

    def notice(self, state, broken):
        db = state.db
        if "no-incarnation" not in broken:
            counted = "counted-incarnation" in broken
            db = db._replace(incarnation=db.incarnation + 1 if counted else state.incarnations)
        if "renamed-outbox" in broken:
            db = db._replace(outbox=tuple((db.incarnation,) + message[1:] for message in db.outbox))
        return state._replace(db=db, noticed=True, host=(), incarnations=state.incarnations + 1)

    def serve(self, state):
        """What a host does that has read the database after the last restore."""
        db, (incarnation, unsent) = state.db, state.host
        if state.identities < self.MESSAGES:
            identity = state.identities
            message = (incarnation, db.emitted + 1, identity)
            stored = db._replace(emitted=db.emitted + 1, outbox=db.outbox + (message,), history=db.history + (identity,))
            yield "commit", state._replace(db=stored, host=(incarnation, unsent + (message,)), identities=identity + 1)
        if db.outbox != unsent:
            yield "clear", state._replace(db=db._replace(outbox=unsent))
        if unsent:
            yield self.send("send", state._replace(host=(incarnation, unsent[1:])), unsent[0])

    def send(self, name, state, message):
        """A message arrives in the log, and the consumer accepts or refuses it."""
        incarnation, number, identity = message
        history = state.db.history
        before = [accepted[2] for accepted in state.accepted]
        watermark = max((accepted[1] for accepted in state.accepted if accepted[0] == incarnation), default=0)
        if number <= watermark:
            lost = identity in history and identity not in before
            return name, state, lost and "a message was lost"
        if identity in before:
            return name, state, "a message was accepted twice"
        known = tuple(other for other in before + [identity] if other in history)
        gap = known != history[:len(known)]
        return name, state._replace(accepted=state.accepted + (message,)), gap and "a message was lost"

    def done(self, state):
        accepted = {message[2] for message in state.accepted}
        return state.noticed and state.identities == self.MESSAGES and accepted.issuperset(state.db.history)

    def used_up(self, _state):
        return False
