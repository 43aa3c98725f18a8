package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// goal is what a figure must be.
type goal struct {
	sign  string
	limit float64
	met   func(v, limit float64) bool
}

func atLeast(limit float64) goal {
	return goal{"≥", limit, func(v, limit float64) bool { return v >= limit }}
}

func atMost(limit float64) goal {
	return goal{"≤", limit, func(v, limit float64) bool { return v <= limit }}
}

func exactly(limit float64) goal {
	return goal{"=", limit, func(v, limit float64) bool { return v == limit }}
}

func (g goal) String() string { return g.sign + " " + figure(g.limit) }

// figure writes a number with as many digits as there is something in.
func figure(v float64) string {
	digits := 3
	switch a := math.Abs(v); {
	case a >= 100:
		digits = 0
	case a >= 10:
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// line is one figure of a row of the goals.
type line struct {
	row    int
	what   string
	ours   float64
	goal   goal
	detail string
}

// table is what was found.
type table struct{ lines []line }

// add notes a figure. The detail is what it was worked out from.
func (t *table) add(row int, what string, ours float64, g goal, detail string, args ...any) {
	t.lines = append(t.lines, line{row, what, ours, g, fmt.Sprintf(detail, args...)})
}

// print writes the table by row, rows in the order in which their figures were found.
func (t *table) print(w io.Writer) error {
	slices.SortStableFunc(t.lines, func(x, y line) int { return cmp.Compare(x.row, y.row) })
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "#\twhat\tours\tmust\t\tmeasured")
	missed := 0
	for _, x := range t.lines {
		verdict := "pass"
		if !x.goal.met(x.ours, x.goal.limit) {
			verdict = "MISS"
			missed++
		}
		_, _ = fmt.Fprintf(out, "%d\t%s\t%s\t%s\t%s\t%s\n", x.row, x.what, figure(x.ours), x.goal, verdict, x.detail)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d figures, %d missed\n", len(t.lines), missed)
	return err
}
