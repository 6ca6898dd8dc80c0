package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// authorize admits a caller on the service's own server: one with the token,
// one whose client certificate the server verified, or one on loopback. A call
// that a proxy passed on is not on loopback, whoever connected.
func authorize(ctx context.Context, token string) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if token != "" && hasToken(md.Get("authorization"), token) {
		return nil
	}
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, tls := p.AuthInfo.(credentials.TLSInfo); tls && len(info.State.VerifiedChains) > 0 {
			return nil
		}
		if onLoopback(p.Addr) && !forwarded(md) {
			return nil
		}
	}
	if token == "" {
		return status.Error(codes.Unauthenticated, "this agent answers only loopback and verified client certificates: set OPS_AGENT_TOKEN in the service and give the centre the same token")
	}
	return status.Error(codes.Unauthenticated, "the bearer token is missing or wrong: give the centre the token that OPS_AGENT_TOKEN has in the service")
}

func hasToken(values []string, token string) bool {
	want := sha256.Sum256([]byte(token)) // equal lengths, so that the time tells nothing
	for _, v := range values {
		scheme, got, _ := strings.Cut(v, " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(got)))
		if strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(sum[:], want[:]) == 1 {
			return true
		}
	}
	return false
}

func onLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

func forwarded(md metadata.MD) bool {
	return len(md.Get("x-forwarded-for")) > 0 || len(md.Get("forwarded")) > 0
}
