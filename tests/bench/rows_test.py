#!/usr/bin/env python3
"""What bench/rows.py says of figures is what they say."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
from rows import Figures, compared, documents_merged, row_failed  # noqa: E402


def document(*values, theirs=100, goal=None, goal_of="ratio", better="more"):
    figures = Figures("bench")
    for value in values:
        figures.add("case", "figure", value, better, "peer", theirs, goal, goal_of)
    return figures.document()


def verdict(old, new):
    return compared(old, new)[0]["verdict"]


class Rows(unittest.TestCase):
    def test_a_row_is_the_median_and_its_spread(self):
        """Claim: one bad repetition moves the spread, and not the figure. Method: an outlier on either side."""
        row = document(900, 10, 1000, 990, 5000)["rows"][0]
        self.assertEqual((row["value"], row["low"], row["high"], row["repeat"]), (990, 10, 5000, 5))

    def test_the_ratio_is_of_turns_that_were_beside_each_other(self):
        """Claim: a disk that slowed down for both changes no ratio. Method: both fall to a tenth in one turn."""
        figures = Figures("bench")
        for ours, theirs in ((1000, 100), (100, 10), (1000, 100)):
            figures.add("case", "figure", ours, beside="peer", beside_value=theirs)
        self.assertEqual(figures.rows()[0]["ratio"], 10)

    def test_a_goal_holds_in_the_direction_that_is_better(self):
        """Claim: at the goal it holds, past it on the wrong side it does not. Method: each direction, each side."""
        for better, ours, holds in (("more", 1000, True), ("more", 999, False), ("less", 1000, True), ("less", 1001, False)):
            self.assertIs(document(ours, goal=10, better=better)["rows"][0]["holds"], holds)
            self.assertIs(document(ours, goal=1000, goal_of="value", better=better)["rows"][0]["holds"], holds)

    def test_what_was_not_measured_holds_nothing(self):
        """Claim: no figure, or no peer, is never a goal that holds. Method: leave out either."""
        self.assertIsNone(document(None, goal=10)["rows"][0]["holds"])
        self.assertIsNone(document(1000, theirs=None, goal=10)["rows"][0]["holds"])
        self.assertIsNone(document(1000)["rows"][0]["holds"])

    def test_runs_are_merged_by_case(self):
        """Claim: several runs are one document of medians, and a failure stays one. Method: three runs, one of
        them with a failed bench beside it."""
        last = document(30, theirs=10, goal=2)
        last["rows"].append(row_failed("other", "it took too long"))
        first, second = documents_merged([document(10, theirs=10, goal=2), document(20, theirs=10, goal=2), last])["rows"]
        self.assertEqual((first["value"], first["low"], first["high"], first["ratio"]), (20, 10, 30, 2))
        self.assertEqual((first["repeat"], first["holds"], second["holds"]), (3, True, False))

    def test_a_change_counts_outside_of_both_spreads(self):
        """Claim: better and worse are said only of spreads that do not touch. Method: touching, apart in both
        directions, and a single repetition."""
        old = document(100, 110)
        self.assertEqual(verdict(old, document(110, 120)), "within the spread")
        self.assertEqual(verdict(old, document(111, 120)), "better")
        self.assertEqual(verdict(old, document(80, 99)), "worse")
        self.assertEqual(verdict(document(100, 110, better="less"), document(80, 99, better="less")), "better")
        self.assertEqual(verdict(old, document(500)), "one run only")

    def test_rows_that_came_or_went_are_told_and_other_benches_are_not(self):
        """Claim: a comparison names each row that only one side has, of benches that both ran. Method: one row of
        each kind, and a bench that only the old run has."""
        old, new = Figures("bench"), Figures("bench")
        for figures, case in ((old, "both"), (old, "went"), (new, "both"), (new, "came")):
            figures.add(case, "figure", 1)
        before = old.document()
        before["rows"].append({**before["rows"][0], "bench": "other"})
        found = {(pair["row"], pair["verdict"]) for pair in compared(before, new.document())}
        self.assertEqual(found, {("both", "one run only"), ("came", "only new"), ("went", "only old")})


if __name__ == "__main__":
    unittest.main()
