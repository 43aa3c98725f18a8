//go:build unix

package storage_test

import (
	"io/fs"
	"syscall"
)

// allocated is what the file system gives up for the file: less than its size if it has holes.
func allocated(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}
