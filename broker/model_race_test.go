//go:build race

package broker_test

func init() {
	// The database is translated from C and twenty times as slow with the race detector, which has seen everything after a few.
	ordinaryRuns, repeatedRuns = 4, 1
}
