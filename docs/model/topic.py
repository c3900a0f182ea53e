"""A partition's position, its topic's log, and `fnhost position`."""
from typing import NamedTuple

from states import put


class Log(NamedTuple):
    topic_id: int = 0
    start: int = 0
    records: tuple = (0,)  # record numbers, the first at the offset `start`
    shorter: bool = False  # lost its end, and nobody has noticed yet

    @property
    def end(self):
        return self.start + len(self.records)

    def below(self, offset):
        return bits(record for at, record in enumerate(self.records, self.start) if at < offset)


class Row(NamedTuple):
    topic_id: object = 0
    position: int = 1
    stopped: bool = False
    chosen: bool = False
    watermark: int = 0  # all records are of one stream and have their number in it
    parked: tuple = ()  # (offset, record)


class Past(NamedTuple):
    """What has become of records, as bits: it judges the protocol, which does not see it."""
    handled: int = 1
    excused: int = 0  # the operator chose to leave them out
    lost: int = 0     # deleted by retention before they were handled


class Left(NamedTuple):
    """How often something may still happen."""
    records: int = 3
    recreations: int = 1
    losses: int = 1
    retentions: int = 1
    commands: int = 1


class State(NamedTuple):
    log: Log = Log()
    row: Row = Row()
    # The owner: (topic id, position, what is fetched). Fetched is () or (topic id of its log, record, whether the id was compared
    # since). An owner whose row was changed from outside stores nothing any more and is left out.
    owner: tuple = (0, 1, ())
    # A take-over: ("read", group's offset, row), then ("go", topic id) or ("stop", row).
    taking: tuple = ()
    command: tuple = ()  # `fnhost position` between its look at the log and its statement: (topic id, position)
    group: object = 1    # the group's offset
    past: Past = Past()
    left: Left = Left()


def bits(records):
    return sum(1 << record for record in records)


class Topic:
    """One partition of a topic, from its first record on. The topic may be deleted and made anew under its name, lose its end (an
    unclean election), or its start (retention). A lost end is noticed before the log grows again: within one topic id nothing
    else tells its records apart. Take-overs fence each other as in the model `dispatch`, and the database is not restored."""

    RULES = {
        "no-topic-id": ("nobody compares topic ids", "a record was skipped"),
        "early-id": ("the owner compares the topic id at its take-over, not after each fetch", "a record was skipped"),
        "no-bounds": ("a take-over does not compare the position with the log", "a record was skipped"),
        "resume-by-itself": ("a stop is kept in the host's memory and not in the row", "a record was skipped"),
        "quiet-stop": ("a stop does not raise the version", "a stopped partition was served"),
        "blind-stop": ("a stop is written though the row has changed since it was read", "a command was undone"),
        "forget-topic-id": ("`fnhost position` forgets the topic id and does not store the one whose log it saw",
                            "a record was skipped"),
        "not-chosen": ("`fnhost position` does not mark the position as chosen", "a command was undone"),
        "keep-parked": ("`fnhost position` keeps parked records at or after the position", "an effect was doubled"),
        "keep-watermarks": ("`fnhost position` keeps watermarks when it moves back", "a record was skipped"),
    }
    STARTS = [State()]
    RECORDS = 1 + Left().records

    def steps(self, state, broken):
        yield from self.kafka(state)
        yield from self.operator(state, broken)
        yield from self.take_over(state, broken)
        if state.owner:
            yield from self.own(state, broken)

    def kafka(self, state):
        log, left, past = state.log, state.left, state.past
        if left.records and not log.shorter:
            grown = log._replace(records=log.records + (self.RECORDS - left.records,))
            yield "append", state._replace(log=grown, left=left._replace(records=left.records - 1))
        if left.recreations:
            for group in (state.group, None) if state.group is not None else (None,):
                yield "recreate topic", state._replace(
                    log=Log(log.topic_id + 1, 0, ()), group=group, past=past._replace(lost=0),
                    left=left._replace(recreations=left.recreations - 1))
        under_way = state.taking or state.command or (state.owner and state.owner[2])
        if left.losses and log.records and not under_way:
            yield "lose the end", state._replace(
                log=log._replace(records=log.records[:-1], shorter=True), left=left._replace(losses=left.losses - 1))
        if left.retentions and log.records:
            kept = past.handled | past.excused | bits(record for _, record in state.row.parked)
            yield "delete the oldest", state._replace(
                log=log._replace(start=log.start + 1, records=log.records[1:]),
                past=past._replace(lost=past.lost | bits(log.records[:1]) & ~kept),
                left=left._replace(retentions=left.retentions - 1))

    def operator(self, state, broken):
        """`fnhost position`: a look at the log, then a statement that sets the row."""
        log, row, past, left = state.log, state.row, state.past, state.left
        if left.commands and not state.command:
            for position in range(log.start, log.end + 1):
                yield f"choose {position}", state._replace(
                    command=(log.topic_id, position), left=left._replace(commands=left.commands - 1))
        if state.command:
            topic_id, position = state.command
            past = past._replace(lost=0)
            if topic_id == log.topic_id:
                below = log.below(position)
                again = bits(log.records) & ~below
                past = past._replace(handled=past.handled & ~again, excused=(past.excused | below) & ~again)
            back = position < row.position
            yield "position", self.changed(state, broken)._replace(
                row=Row(topic_id=None if "forget-topic-id" in broken else topic_id,
                        position=position,
                        chosen="not-chosen" not in broken,
                        watermark=-1 if back and "keep-watermarks" not in broken else row.watermark,
                        parked=tuple(parked for parked in row.parked if parked[0] < position or "keep-parked" in broken)),
                owner=(), command=(), past=past)

    def fits(self, state):
        log, row = state.log, state.row
        return row.topic_id in (None, log.topic_id) and log.start <= row.position <= log.end

    def changed(self, state, broken):
        """The row's version was raised: a take-over that has read the row starts again."""
        waits = state.taking[:1] == ("stop",) and "blind-stop" in broken
        return state if waits else state._replace(taking=())

    def stop(self, state, broken, by_owner):
        """The partition is stopped: in its row, so that only a command starts it again."""
        seen = state._replace(log=state.log._replace(shorter=False))
        ended = seen._replace(owner=()) if by_owner else seen._replace(taking=())
        if "resume-by-itself" in broken:
            return ended
        stopped = ended._replace(row=state.row._replace(stopped=True))
        if "quiet-stop" in broken:
            return stopped
        return self.changed(stopped, broken)._replace(owner=())

    def take_over(self, state, broken):
        log, row = state.log, state.row
        if not state.taking:
            if not row.stopped:
                yield "read row", state._replace(taking=("read", state.group, row))
        elif state.taking[0] == "read":
            _, group, read = state.taking
            other = read.topic_id not in (None, log.topic_id) and "no-topic-id" not in broken
            outside = not log.start <= read.position <= log.end and "no-bounds" not in broken
            if other or outside:
                yield "see that it does not fit", state._replace(taking=("stop", read))
            elif group is not None and group > read.position and not read.chosen:
                yield "see the group's offset above it", state._replace(taking=("stop", read)), "a command was undone"
            else:
                yield "see that it fits", state._replace(taking=("go", log.topic_id), log=log._replace(shorter=False))
        elif state.taking[0] == "stop":
            if "blind-stop" in broken:
                yield "stop", self.stop(state, broken, False), self.fits(state) and "a command was undone"
            elif state.taking[1].position == row.position:
                yield "stop", self.stop(state, broken, False)
            else:
                yield "start again", state._replace(taking=())
        else:
            topic_id = state.taking[1] if row.topic_id is None else row.topic_id
            yield "take over", state._replace(
                row=row._replace(topic_id=topic_id), owner=(topic_id, row.position, ()), taking=(), group=row.position)

    def own(self, state, broken):
        """What an owner does whose version is the row's, and whose epoch is."""
        log, row, past = state.log, state.row, state.past
        topic_id, position, fetched = state.owner
        parked = bits(record for _, record in row.parked)
        stored = state._replace(row=row._replace(chosen=False))
        if state.group != position:
            yield "commit to the group", state._replace(group=position)
        if row.parked:
            record = row.parked[0][1]
            yield "handle parked", stored._replace(
                row=stored.row._replace(parked=row.parked[1:]), past=past._replace(handled=past.handled | 1 << record),
            ), self.unjust(state, record)
        if not fetched:
            if log.start <= position < log.end:
                compared = "early-id" in broken or "no-topic-id" in broken
                record = log.records[position - log.start]
                yield "fetch", state._replace(owner=put(state.owner, 2, (log.topic_id, record, compared)))
            elif position != log.end:
                yield "find itself outside of the log and stop", self.stop(state, broken, True)
        elif not fetched[2]:
            if topic_id == log.topic_id:
                yield "compare id", state._replace(owner=put(state.owner, 2, put(fetched, 2, True)))
            else:
                yield "compare id and stop", self.stop(state, broken, True)
        else:
            fetched_id, record, _ = fetched
            after = stored._replace(
                row=stored.row._replace(position=position + 1, watermark=max(record, row.watermark)),
                owner=(topic_id, position + 1, ()))
            if record <= row.watermark:
                known = (past.handled | parked) >> record & 1
                yield "refuse", after, not known and "a record was skipped"
                return
            fault = self.unjust(state, record)
            left_out = past.lost & ~(1 << record) | log.below(position) & ~(past.handled | parked | past.excused)
            if not fault and fetched_id == log.topic_id and left_out:
                fault = "a record was skipped"
            lost = past.lost & ~(1 << record)
            yield "handle", after._replace(past=past._replace(handled=past.handled | 1 << record, lost=lost)), fault
            yield "park", after._replace(
                row=after.row._replace(parked=row.parked + ((position, record),)), past=past._replace(lost=lost)), fault

    def unjust(self, state, record):
        """Why the record should not be handled now, in whatever order."""
        if state.row.stopped:
            return "a stopped partition was served"
        return state.past.handled >> record & 1 and "an effect was doubled"

    def done(self, state):
        return (state.owner and state.owner[0] == state.log.topic_id and state.owner[1] == state.log.end
                and not (state.left.records or state.row.stopped or state.row.parked))

    def used_up(self, state):
        """Only a further command would help, and there is none left."""
        return not state.left.commands and (state.command or state.row.stopped or not self.fits(state))
