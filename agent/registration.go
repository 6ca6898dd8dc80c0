package agent

import "maps"

// Self is who the process is to the centre.
type Self struct {
	Project, Service string
	// BootID is the identity of this process, made when the agent started.
	BootID string
	Labels map[string]string
}

// Self says who the process is, for whoever tells it elsewhere. A nil Agent is
// nobody.
func (a *Agent) Self() Self {
	if a == nil {
		return Self{}
	}
	return Self{Project: a.cfg.project, Service: a.cfg.service, BootID: a.self.bootID, Labels: maps.Clone(a.cfg.labels)}
}
