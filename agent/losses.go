package agent

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// A message stays within 32 KiB, so do the losses in it.
const (
	maxLosses       = 32
	maxLossMessage  = 500
	kindOfAll       = agentv1.Kind_KIND_UNSPECIFIED
	lossInUse       = agentv1.LossReason_LOSS_REASON_IN_USE
	lossTruncated   = agentv1.LossReason_LOSS_REASON_TRUNCATED
	lossSkipped     = agentv1.LossReason_LOSS_REASON_SKIPPED
	lossUnsupported = agentv1.LossReason_LOSS_REASON_UNSUPPORTED
	lossFailed      = agentv1.LossReason_LOSS_REASON_FAILED
	lossTimedOut    = agentv1.LossReason_LOSS_REASON_TIMED_OUT
	lossGap         = agentv1.LossReason_LOSS_REASON_GAP
	lossNotSet      = agentv1.LossReason_LOSS_REASON_NOT_SET
)

func loss(kind agentv1.Kind, reason agentv1.LossReason, format string, args ...any) *agentv1.Loss {
	msg := strings.ToValidUTF8(fmt.Sprintf(format, args...), "?")
	if len(msg) > maxLossMessage {
		msg = strings.ToValidUTF8(msg[:maxLossMessage], "") + "…"
	}
	return &agentv1.Loss{Kind: kind, Reason: reason, Message: msg}
}

func failLoss(kind agentv1.Kind, err error) *agentv1.Loss {
	if isInUse(err) {
		return loss(kind, lossInUse, "%v", err)
	}
	return loss(kind, lossFailed, "%v", err)
}

// writeLoss states why an artifact is shorter than it should be.
func writeLoss(kind agentv1.Kind, name string, err error) *agentv1.Loss {
	switch {
	case errors.Is(err, errCaptureBytes):
		return loss(kind, lossTruncated, "%s was cut: %v", name, err)
	case errors.Is(err, errQueueFull):
		return loss(kind, lossTruncated, "%s was cut: %v", name, err)
	case errors.Is(err, syscall.ENOSPC):
		return loss(kind, lossTruncated, "%s was cut: the disk of the spool directory is full", name)
	}
	return loss(kind, lossFailed, "%s was cut: writing the spool: %v", name, err)
}

// boundLosses keeps a list within what one message can hold.
func boundLosses(l []*agentv1.Loss) []*agentv1.Loss {
	if len(l) <= maxLosses {
		return l
	}
	rest := len(l) - maxLosses + 1
	return append(l[:maxLosses-1:maxLosses-1], loss(kindOfAll, lossFailed, "%d more losses are not listed", rest))
}
