//go:build !linux

package main

// forbidDumps is for Linux; elsewhere the operator sets the limit.
func forbidDumps() {}
