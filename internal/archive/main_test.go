package archive_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir) // this process was started to be killed
		return
	}
	goleak.VerifyTestMain(m)
}
