"""Compares a report of the Autobahn suite with the committed expectation, or makes it one.

usage: autobahn_report.py compare|accept LAST-SECTION INDEX.JSON EXPECTED.JSON

The suite's own program never fails by exit code, and ends quietly when the server dies; so what
did not run counts here as a failure. A case may come out better than expected, never worse.
Sections 12 and 13 are about compression, which the server does not offer: there a case must be
UNIMPLEMENTED or better, and the expectation does not list them.
"""

import json
import sys
from collections import Counter

# Best first.
RANKS = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED",
         "NOT RUN"]
NON_STRICT_MAX = 4
COMPRESSION_SECTIONS = (12, 13)
COMPRESSION_CASES = 216


def section(case):
    return int(case.split(".")[0])


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


def complaints(results, expected, last_section):
    """What is wrong, a line each."""
    for case in in_order(expected):
        what = results[case]
        if worse(what, expected[case]) != expected[case]:
            yield f"case {case}: {what}, expected {expected[case]}"
    compression = [case for case in results if section(case) in COMPRESSION_SECTIONS]
    for case in in_order(compression):
        if worse(results[case], "UNIMPLEMENTED") != "UNIMPLEMENTED":
            yield f"case {case}: {results[case]}"
    if last_section >= COMPRESSION_SECTIONS[0] and len(compression) != COMPRESSION_CASES:
        yield f"{len(compression)} cases of compression ran, not {COMPRESSION_CASES}"
    non_strict = sum(what == "NON-STRICT" for what in results.values())
    if non_strict > NON_STRICT_MAX:
        yield f"{non_strict} cases NON-STRICT, {NON_STRICT_MAX} allowed"


def accept(results, expected_path):
    kept = {case: results[case] for case in in_order(results)
            if section(case) not in COMPRESSION_SECTIONS}
    with open(expected_path, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=0)
        file.write("\n")
    print(f"{len(kept)} cases written to {expected_path}: review the difference")


def main(mode, last_section, report_path, expected_path):
    results = read_report(report_path)
    if mode == "accept":
        print_table(results)
        return accept(results, expected_path)
    with open(expected_path, encoding="utf-8") as file:
        expected = json.load(file)
    results.update({case: "NOT RUN" for case in expected if case not in results})
    print_table(results)
    wrong = list(complaints(results, expected, int(last_section)))
    for line in wrong:
        print(f"error: {line}")
    ran = sum(what != "NOT RUN" for what in results.values())
    print(f"{ran} cases ran, {len(wrong)} complaints; "
          f"the whole report: {report_path.rsplit('/', 1)[0]}/index.html")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
