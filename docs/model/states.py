"""What the models share."""


def put(items, index, value):
    """The tuple with another value at the index."""
    return items[:index] + (value,) + items[index + 1:]


def fenced(host):
    """A host after another take-over. A host is a tuple that begins with its kind; () has no work. Its second item says whether
    the epoch of the row is still its own: the number itself would tell no more and make states differ that are alike."""
    return put(host, 1, False) if host[1:2] == (True,) else host


def hosts_with(others, host):
    """All hosts. They are alike, so that a state is kept once and not for each order of the hosts."""
    return tuple(sorted(others + (host,)))
