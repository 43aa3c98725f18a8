// Command coatcheck is the broker, its demo and the tools of its operator. It reads flags, environment and files, ties
// the packages together, and holds no rule of the product itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/coatcheck/coatcheck/broker"
)

// version is stamped in by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process the hard way
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is what every command gets.
type program struct {
	ctx    context.Context //nolint:containedctx // a command runs within one
	env    environ
	stdout io.Writer
	stderr io.Writer
}

// say prints a line for people.
func (p *program) say(format string, args ...any) { _, _ = fmt.Fprintf(p.stdout, format+"\n", args...) }

// commands is the command line.
type commands struct {
	Demo      demoCommand      `cmd:"" help:"Try it: the broker with a sandbox provider and a page with a Connect button."`
	Serve     serveCommand     `cmd:"" help:"Run the broker."`
	Keys      keysCommand      `cmd:"" help:"Manage encryption keys."`
	APIKey    apikeyCommand    `cmd:"" name:"apikey" help:"Manage the API keys of an app's backend."`
	Webhook   webhookCommand   `cmd:"" help:"Manage what the app is told: signing keys, and what did not arrive."`
	Backup    backupCommand    `cmd:"" help:"Copy the database while the broker may be running."`
	Restore   restoreCommand   `cmd:"" help:"Put the database of a backup in place. Nothing is renewed until it is adopted."`
	Adopt     adoptCommand     `cmd:"" help:"Let this broker renew what is in the database: after a restore, a move, or a change of the public URL."`
	Transfer  transferCommand  `cmd:"" help:"Move everything into another database, while no broker runs."`
	Providers providersCommand `cmd:"" help:"Look into the catalogue of providers, and check integrations against it."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// errUsage is a command line that cannot be understood; what was wrong has been printed.
var errUsage = errors.New("usage")

// run is the whole program but for the process around it. It returns the exit code: 0, 1 for a failure, 2 for a command
// line that cannot be understood.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	p := &program{ctx: ctx, env: newEnviron(env), stdout: stdout, stderr: stderr}
	err := p.dispatch(args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errProblems):
		return 1
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	_, _ = fmt.Fprintln(stderr, "coatcheck:", broker.Explain(err))
	return 1
}

// dispatch parses the command line and runs its command.
func (p *program) dispatch(args []string) error {
	harden(p.env)
	exited := false
	var c commands
	parser, err := kong.New(&c,
		kong.Name("coatcheck"),
		kong.Description("A self-hosted OAuth broker: it keeps the tokens, your app holds a ticket."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(int) { exited = true }),
		kong.Bind(p),
		kong.UsageOnError(),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited { // help was printed
		return nil
	}
	if err != nil {
		_, _ = fmt.Fprintf(p.stderr, "coatcheck: %v\nRun \"coatcheck --help\" to see what there is.\n", err)
		return errUsage
	}
	return parsed.Run()
}

// harden keeps secrets in memory from getting into dumps and traces, and gives the collector room: the live heap is so
// small that it would run all the time.
func harden(env environ) {
	forbidDumps()
	if env.get("GOTRACEBACK") == "" {
		debug.SetTraceback("single")
	}
	if env.get("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(p *program) error {
	p.say("coatcheck %s (%s)", version, runtime.Version())
	return nil
}
