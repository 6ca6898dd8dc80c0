//go:build !race

package archive_test

const stride = 1
