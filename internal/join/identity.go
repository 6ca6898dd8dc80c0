package join

import (
	"net/url"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// trustDomain stands where SPIFFE has the name of who vouches.
const trustDomain = "ops-center"

// Identity is who a certificate says an agent is: one process of one service.
type Identity struct {
	Project  ops.ProjectName
	Service  ops.ServiceName
	Instance ops.InstanceID
}

// String is "project/service/instance".
func (id Identity) String() string {
	return string(id.Project) + "/" + string(id.Service) + "/" + string(id.Instance)
}

func (id Identity) valid() bool {
	return ops.ValidName(string(id.Project)) && ops.ValidName(string(id.Service)) && id.Instance.Valid()
}

// uri is how the identity stands in a certificate.
func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/agent/" + id.String()}
}

// identityOf reads the one URI of a certificate or of a request for one.
func identityOf(uris []*url.URL) (Identity, bool) {
	if len(uris) != 1 {
		return Identity{}, false
	}
	part := strings.Split(uris[0].Path, "/")
	if len(part) != 5 {
		return Identity{}, false
	}
	id := Identity{ops.ProjectName(part[2]), ops.ServiceName(part[3]), ops.InstanceID(part[4])}
	return id, id.valid() && uris[0].String() == id.uri().String()
}
