// Package agent makes a Go process an instance of OPS Center: the centre can
// see how it is and take profiles, traces and runtime figures from it.
//
//	a, err := agent.Start(agent.Config{Project: "color-game", Service: "user-service"})
//	if err != nil {
//		log.Print(err) // the service runs on without an agent
//	}
//	defer a.Close()
//
// The agent dials the centre, so the service opens no port; [Register] serves
// the same on the service's own gRPC server.
//
// The agent is a guest. It starts nothing that was not asked for, bounds every
// request itself, puts every runtime setting back to what it was, never exits
// or panics out, and is silent without a logger. A nil *Agent is off: every
// function of the package accepts it.
//
// It must know nothing of the centre but the protocol in
// proto/opscenter/agent/v1, and imports nothing but the standard library, gRPC,
// protobuf and the protocol's generated code: a service pays for whatever else
// it would import.
package agent
