"""Compares a report of the Autobahn suite with the committed expectation, or makes it one.

usage: autobahn_report.py compare|accept all|some INDEX.JSON EXPECTED.JSON

The suite's own program never fails by exit code, and ends quietly when the server dies; so what
did not run counts here as a failure. A case may come out better than expected, never worse.
Sections 12 and 13 are about compression; declining a window size that no compressor here can do
is UNIMPLEMENTED. Their cases are many and slow: `some` of them are two of each group.
"""

import json
import sys
from collections import Counter

# Best first.
RANKS = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED",
         "NOT RUN"]
NON_STRICT_MAX = 4
CASES = 517
SOME_OF_EACH_GROUP = ("4", "11")


def section(case):
    return int(case.split(".")[0])


def is_among(case, amount):
    return amount == "all" or section(case) <= 10 or case.split(".")[2] in SOME_OF_EACH_GROUP


def in_order(cases):
    return sorted(cases, key=lambda case: [int(part) for part in case.split(".")])


def worse(one, other):
    """The worse of two behaviours; an unknown one is worst."""
    return max(one, other, key=lambda it: RANKS.index(it) if it in RANKS else len(RANKS))


def read_report(path):
    """Case -> behaviour, the close handshake's included."""
    try:
        with open(path, encoding="utf-8") as file:
            agents = json.load(file)
    except FileNotFoundError:
        sys.exit(f"error: the suite left no report at {path}: see wstest.log beside it")
    (cases,) = agents.values()
    return {case: worse(result["behavior"], result["behaviorClose"])
            for case, result in cases.items()}


def print_table(results):
    """One row per section, one column per behaviour that occurs."""
    columns = [rank for rank in RANKS if rank in results.values()]
    columns += sorted(set(results.values()) - set(RANKS))
    print("section" + "".join(f"{column:>15}" for column in columns))
    for number in sorted({section(case) for case in results}):
        counts = Counter(what for case, what in results.items() if section(case) == number)
        print(f"{number:>7}" + "".join(f"{counts[column] or '.':>15}" for column in columns))
    counts = Counter(results.values())
    print("    all" + "".join(f"{counts[column]:>15}" for column in columns))


def complaints(results, expected):
    """What is wrong, a line each."""
    for case in in_order(expected):
        what = results[case]
        if worse(what, expected[case]) != expected[case]:
            yield f"case {case}: {what}, expected {expected[case]}"
    non_strict = sum(what == "NON-STRICT" for what in results.values())
    if non_strict > NON_STRICT_MAX:
        yield f"{non_strict} cases NON-STRICT, {NON_STRICT_MAX} allowed"


def accept(results, expected_path):
    if len(results) != CASES:
        sys.exit(f"error: {len(results)} cases ran, not {CASES}: nothing was written")
    kept = {case: results[case] for case in in_order(results)}
    with open(expected_path, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=0)
        file.write("\n")
    print(f"{len(kept)} cases written to {expected_path}: review the difference")


def main(mode, amount, report_path, expected_path):
    results = read_report(report_path)
    if mode == "accept":
        print_table(results)
        return accept(results, expected_path)
    with open(expected_path, encoding="utf-8") as file:
        expected = json.load(file)
    expected = {case: what for case, what in expected.items()
                if is_among(case, amount)}
    results.update({case: "NOT RUN" for case in expected if case not in results})
    print_table(results)
    wrong = list(complaints(results, expected))
    for line in wrong:
        print(f"error: {line}")
    ran = sum(what != "NOT RUN" for what in results.values())
    print(f"{ran} cases ran, {len(wrong)} complaints; "
          f"the whole report: {report_path.rsplit('/', 1)[0]}/index.html")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
