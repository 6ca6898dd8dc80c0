package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

// credential is what this machine's user has for one centre.
type credential struct {
	Token   string    `json:"token,omitempty"`
	User    string    `json:"user,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Pin     string    `json:"pin,omitempty"` // of the centre's certificate authority
}

// credentialsFile is where they are kept, readable by their user alone.
func (p *program) credentialsFile() (string, error) {
	dir := p.Getenv("OPS_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", ops.Errorf(ops.Invalid, "where logins are kept is not known (%w): set OPS_CONFIG_DIR to a directory of yours", err)
		}
		dir = filepath.Join(base, "ops-center")
	}
	return filepath.Join(dir, "credentials.json"), nil
}

// credentials are by the centre's URL.
func (p *program) credentials() (map[string]credential, error) {
	file, err := p.credentialsFile()
	if err != nil {
		return map[string]credential{}, nil //nolint:nilerr // one who has no home has no logins
	}
	out := map[string]credential{}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "%s cannot be read (%w): delete it and log in again", file, err)
	}
	return out, nil
}

func (p *program) keep(change func(map[string]credential)) error {
	file, err := p.credentialsFile()
	if err != nil {
		return err
	}
	all, err := p.credentials()
	if err != nil {
		return err
	}
	change(all)
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".credentials") // 0600, and whole before it has its name
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has another name by then
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

const loginLong = `Login asks the centre for a token with your name and password and keeps it in your
configuration directory, where only you can read it; all other verbs use it. The
password itself is kept nowhere.

Who logs in with single sign-on makes a token on the account page and gives it to
ops login --with-token on standard input.

A centre with a certificate authority of its own (--tls auto) prints a pin when it
starts: give it with --pin once.`

func (p *program) loginCmd() *cobra.Command {
	var user, pin string
	var withToken bool
	life := config.Duration(30 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use: "login", Short: "Log in to a centre", Long: loginLong, Args: atMost(0),
		Example: `  ops login --server https://ops.example.com
  ops login --server https://10.0.0.5:8443 --pin 4f0c…
  ops login --with-token < token`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := p.serverURL()
			if err != nil {
				return err
			}
			c := credential{Pin: strings.ToLower(pin)}
			if c.Pin == "" {
				all, err := p.credentials()
				if err != nil {
					return err
				}
				c.Pin = all[base].Pin
			}
			if withToken {
				b, err := io.ReadAll(io.LimitReader(p.Stdin, 4<<10))
				if err != nil {
					return err
				}
				if c.Token = strings.TrimSpace(string(b)); c.Token == "" {
					return ops.Errorf(ops.Invalid, "there is no token on standard input: `ops login --with-token < FILE`")
				}
			} else if err := p.loginWithPassword(cmd.Context(), base, user, time.Duration(life), &c); err != nil {
				return err
			}
			p.loginNow = &c
			cl, err := p.client()
			if err != nil {
				return err
			}
			defer cl.close()
			who, err := cl.access.GetAccount(cmd.Context(), connect.NewRequest(&apiv1.GetAccountRequest{}))
			if err != nil {
				return err
			}
			c.User = who.Msg.GetActor()
			if err := p.keep(func(all map[string]credential) { all[base] = c }); err != nil {
				return err
			}
			p.note("logged in to %s as %s", base, c.User)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "`name` to log in with (default: asks)")
	f.StringVar(&pin, "pin", "", "the pin that the centre printed when it started (SHA-256 of its certificate authority's key)")
	f.BoolVar(&withToken, "with-token", false, "read an API token from standard input instead")
	f.Var(&life, "expires", "how long the login lasts, such as 12h or 30d")
	return cmd
}

func (p *program) loginWithPassword(ctx context.Context, base, user string, life time.Duration, c *credential) error {
	in := bufio.NewReader(p.Stdin)
	if user == "" {
		fmt.Fprintf(p.Stderr, "User name at %s: ", base)
		line, err := in.ReadString('\n')
		if err != nil && line == "" {
			return ops.Errorf(ops.Invalid, "there is no name on standard input: give --user, and the password on standard input")
		}
		user = strings.TrimSpace(line)
	}
	password, err := p.readPassword(in, "Password: ")
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // only what the token is called
	body, err := json.Marshal(map[string]any{"name": user, "password": password, "token": "ops login on " + host, "seconds": int64(life / time.Second)})
	if err != nil {
		return err
	}
	p.loginNow = c
	cl, err := p.client()
	if err != nil {
		return err
	}
	defer cl.close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cl.url("login/token"), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := cl.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var got struct {
		Secret  string    `json:"secret"`
		Expires time.Time `json:"expires"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&got); err != nil || got.Secret == "" {
		return ops.Errorf(ops.Unavailable, "%s answers, but nobody logs in there: is it a centre with users?", base)
	}
	c.Token, c.Expires = got.Secret, got.Expires
	return nil
}

// readPassword reads a line without showing it, where standard input is a
// terminal.
func (p *program) readPassword(in *bufio.Reader, prompt string) (string, error) {
	if f, ok := p.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.Stderr, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.Stderr)
		return string(b), err
	}
	line, err := in.ReadString('\n')
	if err != nil && line == "" {
		return "", ops.Errorf(ops.Invalid, "there is no password on standard input: type it at a terminal, or pipe it in")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (p *program) logoutCmd() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use: "logout", Short: "Revoke the login of this machine", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := p.serverURL()
			if err != nil {
				return err
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			defer c.close()
			_, err = c.access.LogOut(cmd.Context(), connect.NewRequest(&apiv1.LogOutRequest{Everywhere: everywhere}))
			if err != nil && ops.KindOf(err) != ops.Denied {
				return err
			}
			if everywhere {
				if _, err := c.access.LogOut(cmd.Context(), connect.NewRequest(&apiv1.LogOutRequest{})); err != nil && ops.KindOf(err) != ops.Denied {
					return err
				}
			}
			return p.keep(func(all map[string]credential) {
				if pin := all[base].Pin; pin != "" {
					all[base] = credential{Pin: pin}
				} else {
					delete(all, base)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&everywhere, "everywhere", false, "end all your sessions in browsers as well")
	return cmd
}
