package auth

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Settings is the section `access` of the configuration: who may come in, and
// how. Its zero value asks for a login wherever the centre is not this machine's
// alone.
type Settings struct {
	// Login is "auto" (also empty): beyond loopback, and where --allow-host says
	// that others come through a proxy; "required": always; "off": the proxy in
	// front decides who comes in, possible on loopback only.
	Login string `yaml:"login"`
	// SessionIdle ends a session that nobody uses (0 = 12h), SessionMax any (0 =
	// 168h).
	SessionIdle time.Duration `yaml:"session_idle"`
	SessionMax  time.Duration `yaml:"session_max"`
	// TrustedProxies are the networks of proxies that are believed when they say
	// where a request came from (X-Forwarded-For).
	TrustedProxies []string `yaml:"trusted_proxies"`
	// Groups gives roles to groups of the OIDC provider, each as "role" or
	// "role@project/service".
	Groups map[string][]string `yaml:"groups"`
	OIDC   *OIDCSettings       `yaml:"oidc"`
	// Limits bound what one caller may ask for.
	Limits Limits `yaml:"limits"`
}

// OIDCSettings is an OpenID Connect provider that people log in with.
type OIDCSettings struct {
	// Issuer is the provider's URL, as it is in its tokens.
	Issuer   string `yaml:"issuer"`
	ClientID string `yaml:"client_id"`
	// ClientSecret of a confidential client; public ones have none. PKCE is used
	// either way.
	ClientSecret string `yaml:"client_secret" secret:"true"`
	// URL of this centre as browsers see it, with its base path; the provider has
	// to know it with /login/oidc/callback behind it.
	URL string `yaml:"url"`
	// Name is what the login page calls the provider; empty = its host.
	Name string `yaml:"name"`
	// Scopes asked for besides openid; empty = profile and email.
	Scopes []string `yaml:"scopes"`
	// NameClaim is the claim people are known by; empty = email, which has to be
	// verified. GroupsClaim is the one with their groups; empty = groups.
	NameClaim   string `yaml:"name_claim"`
	GroupsClaim string `yaml:"groups_claim"`
}

// Validate says what is wrong with a setting, beginning with its key.
func (s *Settings) Validate() error {
	switch {
	case !slices.Contains([]string{"", "auto", "required", "off"}, s.Login):
		return invalid("login: %.40q is unknown: use auto, required or off", s.Login)
	case s.SessionIdle < 0 || s.SessionIdle > 0 && s.SessionIdle < time.Minute:
		return invalid("session_idle: %v is too short: use a minute or more, or 0 for 12h", s.SessionIdle)
	case s.SessionMax < 0 || s.SessionMax > 0 && s.SessionMax < time.Minute:
		return invalid("session_max: %v is too short: use a minute or more, or 0 for 168h", s.SessionMax)
	}
	if _, err := s.Proxies(); err != nil {
		return err
	}
	_, err := s.GroupGrants()
	return err
}

// Validate says what is wrong with a setting, beginning with its key.
func (o *OIDCSettings) Validate() error {
	issuer, err := url.Parse(o.Issuer)
	if err != nil || issuer.Host == "" || issuer.Scheme != "https" && !isLoopbackURL(issuer) {
		return invalid("issuer: %.100q is no https URL: use the issuer that the provider's /.well-known/openid-configuration says", o.Issuer)
	}
	if o.ClientID == "" {
		return invalid("client_id: is missing: register this centre with the provider and give the id it gets")
	}
	self, err := url.Parse(o.URL)
	if err != nil || self.Host == "" || self.Scheme != "https" && !isLoopbackURL(self) || self.RawQuery != "" || self.Fragment != "" {
		return invalid("url: %.100q is no https URL: use this centre's, as browsers see it", o.URL)
	}
	return nil
}

func isLoopbackURL(u *url.URL) bool {
	a, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && a.IsLoopback())
}

// Proxies are TrustedProxies as networks.
func (s *Settings) Proxies() (out []netip.Prefix, err error) {
	for _, text := range s.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return nil, invalid("trusted_proxies: %.60q is no network: use one such as 10.0.0.0/8, or an address", text)
		}
		out = append(out, p)
	}
	return out, nil
}

// GroupGrants are Groups as grants.
func (s *Settings) GroupGrants() (map[string][]Grant, error) {
	out := map[string][]Grant{}
	for group, texts := range s.Groups {
		for _, text := range texts {
			g, err := ParseGrant(text)
			if err != nil {
				return nil, invalid("groups: %s: %w", strings.TrimSpace(group), err)
			}
			out[group] = append(out[group], g)
		}
	}
	return out, nil
}

func invalid(format string, args ...any) error { return ops.Errorf(ops.Invalid, format, args...) }
