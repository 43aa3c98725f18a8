package main

import (
	"fmt"
	"os"
	"time"

	"github.com/coatcheck/coatcheck/crypto"
)

type keysCommand struct {
	Generate keysGenerateCommand `cmd:"" help:"Make an age identity, the key that opens all others."`
}

type keysGenerateCommand struct {
	Out string `short:"o" help:"File to write to, for its owner alone; it must not exist. Standard output if none is named." placeholder:"FILE"`
}

// Run makes an identity and prints its public half.
func (c *keysGenerateCommand) Run(p *program) error {
	if c.Out == "" {
		_, err := crypto.GenerateIdentity(p.stdout, time.Now())
		return err
	}
	if _, err := os.Stat(c.Out); err == nil {
		return fmt.Errorf("%s exists; an identity is not overwritten", c.Out)
	}
	if err := writeIdentity(c.Out); err != nil {
		return err
	}
	ids, err := crypto.LoadIdentityFile(c.Out)
	if err != nil {
		return err
	}
	p.say("Wrote %s. Its public half is %s. Keep a copy in a safe place.", c.Out, ids.Recipients()[0])
	return nil
}
