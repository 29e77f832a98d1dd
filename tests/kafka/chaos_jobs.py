"""The right answers of tests/modules/chaos: the same computation, without any runtime."""

CHILDREN = 2
WIDTH = 3
NOTES = 2
MASK = 0xffffffff


def mix(x):
    x ^= x >> 16
    x = x * 0x7feb352d & MASK
    x ^= x >> 15
    x = x * 0x846ca68b & MASK
    return x ^ x >> 16


def note(number, index):
    """What the client's signal of this index carries."""
    return mix((number * NOTES + index + 1) & MASK)


def leaf(value):
    return mix(mix(value))


def plan(number):
    """(answer of the job, answers of its children)."""
    value = mix(number)
    for _ in range(2 + value % 3):
        value = mix(value)
    value = mix(sum(mix((value + i) & MASK) for i in range(WIDTH)) & MASK)
    children = [leaf((value + i) & MASK) for i in range(CHILDREN)]
    value = mix((value + sum(children)) & MASK)
    value = mix((value + sum(note(number, i) for i in range(NOTES))) & MASK)
    return mix(mix(value)), children


def answers(numbers):
    """{job: answer} of all jobs that come from these numbers."""
    expected = {}
    for number in numbers:
        answer, children = plan(number)
        expected["plan-%d" % number] = str(answer)
        for i, child in enumerate(children):
            expected["plan-%d-%d" % (number, i)] = str(child)
    return expected
