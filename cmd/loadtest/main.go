// Command loadtest measures the broker against what the same machine can do at best, and prints how each figure stands
// to its goal. It is a tool for developers and is not part of what is installed.
//
//	go run ./cmd/loadtest              everything, about eight minutes
//	go run ./cmd/loadtest -short       a tenth of the connections, shorter rounds
//	go run ./cmd/loadtest -only 1,3,9  some rows
//
// Goals are ratios, because absolute figures say more about the machine than about the program. What is compared takes
// turns in short rounds, so that anything else the machine does meets all sides alike, and a ratio is the median of the
// rounds' ratios. Everything runs on loopback. The upstream, the proxy to compare with and the broker are processes of
// their own, so that the kernel counts each one's processor time and memory; the tool itself is the first two, started
// again under another name.
//
// A missed goal is a result, and the exit code is 0. It is 1 when something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdin, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	_, _ = fmt.Fprintln(stderr, "loadtest:", err)
	return 1
}

// dispatch tells a measuring run from the servers that it starts.
func dispatch(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "upstream":
			return serveUpstream(ctx, args[1:], stdin, stdout)
		case "bare":
			return serveBare(ctx, args[1:], stdin, stdout)
		}
	}
	return measure(ctx, args, stdout, stderr)
}

// group is rows that are measured together. Groups run in this order.
type group struct {
	rows    []int
	measure func(*lab, context.Context) error
}

var groups = []group{
	{[]int{9}, (*lab).sealing},
	{[]int{19, 20}, (*lab).starting},
	{[]int{21}, (*lab).binarySize},
	{[]int{1, 3, 5}, (*lab).proxying},
	{[]int{4}, (*lab).allocations},
	{[]int{7, 8}, (*lab).largeBodies},
	{[]int{17}, (*lab).herds},
	{[]int{18}, (*lab).scheduled},
	{[]int{10}, (*lab).cacheHits},
	{[]int{11}, (*lab).cacheMisses},
	{[]int{12}, (*lab).growth},
	{[]int{22}, (*lab).footprint},
	{[]int{6}, (*lab).missedProxying},
	{[]int{13}, (*lab).grownProxying},
	{[]int{14}, (*lab).besideWriter},
}

// measure runs the groups that are wanted and prints what they found, even if a later one fails.
func measure(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "rows to measure, such as 1,3,9; all if empty")
	short := flags.Bool("short", false, "a tenth of the connections and shorter rounds")
	profile := flags.String("cpuprofile", "", "`file` for a profile of what runs inside this process")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	wanted, err := parseRows(*only)
	if err != nil {
		return err
	}
	stopProfile, err := startProfile(*profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	debug.SetGCPercent(gcPercent) // what is measured inside this process gets what the broker's own gets
	l, err := newLab(stderr, *short, wanted)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	start := time.Now()
	before := loadAverage()
	for _, g := range groups {
		if !slices.ContainsFunc(g.rows, l.wants) {
			continue
		}
		l.say("rows %s", rowNames(g.rows))
		if err := g.measure(l, ctx); err != nil {
			return errors.Join(fmt.Errorf("rows %s: %w", rowNames(g.rows), err), l.table.print(stdout))
		}
	}
	_, err = fmt.Fprintf(stdout, "\n%d processors, %s, load average %s before and %s after, %s in all%s\n\n", runtime.NumCPU(), runtime.Version(),
		before, loadAverage(), time.Since(start).Round(time.Second), l.shortNote())
	return errors.Join(err, l.table.print(stdout))
}

// parseRows reads a list of row numbers; an empty one is all rows that there are.
func parseRows(list string) (map[int]bool, error) {
	known := make(map[int]bool)
	for _, g := range groups {
		for _, row := range g.rows {
			known[row] = true
		}
	}
	if list == "" {
		return known, nil
	}
	wanted := make(map[int]bool)
	for text := range strings.SplitSeq(list, ",") {
		row, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || !known[row] {
			return nil, fmt.Errorf("-only: there is no row %q", text)
		}
		wanted[row] = true
	}
	return wanted, nil
}

func rowNames(rows []int) string {
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = strconv.Itoa(row)
	}
	return strings.Join(names, ", ")
}

// startProfile begins a processor profile if a file is named.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
