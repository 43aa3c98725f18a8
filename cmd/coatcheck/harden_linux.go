package main

import "golang.org/x/sys/unix"

// forbidDumps keeps the process's memory out of core dumps and away from other processes of the same user. Where the
// kernel refuses, nothing else depends on it.
func forbidDumps() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
