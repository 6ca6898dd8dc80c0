//go:build race

package archive_test

// stride is the step from one failing operation to the next: the race detector
// makes the database ten times slower, and finds what there is to find sooner.
const stride = 7
