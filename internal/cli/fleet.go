package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// connected runs a verb that needs the centre; an interrupt ends it.
func (p *program) connected(run func(ctx context.Context, c *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := p.client()
		if err != nil {
			return err
		}
		defer c.close()
		ctx, done := p.interruptible(cmd.Context())
		defer done()
		return run(ctx, c, args)
	}
}

// serviceRow is a service as `ops services --json` shows it.
type serviceRow struct {
	Project    string  `json:"project"`
	Service    string  `json:"service"`
	Up         int     `json:"up"`
	Suspect    int     `json:"suspect"`
	Gone       int     `json:"gone"`
	CPUCores   float64 `json:"cpu_cores"`
	RSSBytes   int64   `json:"rss_bytes"`
	Goroutines int64   `json:"goroutines"`
	// Warning and Critical are how many of its instances are in trouble.
	Warning  int `json:"warning"`
	Critical int `json:"critical"`
	// Versions are what its living instances run, the most frequent first.
	Versions []release `json:"versions"`

	measured bool // somebody in it tells more than its goroutines
}

func summarize(instances []*apiv1.Instance) []serviceRow {
	rows := []serviceRow{}
	at := map[ops.ServiceKey]int{}
	var living [][]*apiv1.Instance // of each row
	for _, i := range instances {
		key := ops.ServiceKey{Project: ops.ProjectName(i.GetProject()), Service: ops.ServiceName(i.GetService())}
		n, ok := at[key]
		if !ok {
			n = len(rows)
			at[key] = n
			rows = append(rows, serviceRow{Project: i.GetProject(), Service: i.GetService()})
			living = append(living, nil)
		}
		r := &rows[n]
		switch i.GetState() {
		case apiv1.InstanceState_INSTANCE_STATE_UP:
			r.Up++
		case apiv1.InstanceState_INSTANCE_STATE_SUSPECT:
			r.Suspect++
		default:
			r.Gone++
			continue // last words are no load
		}
		living[n] = append(living[n], i)
		r.measured = r.measured || i.GetHeartbeat() != nil && !i.GetAgentless()
		r.CPUCores += i.GetHeartbeat().GetCpuCores()
		r.RSSBytes += i.GetHeartbeat().GetRssBytes()
		r.Goroutines += i.GetHeartbeat().GetGoroutines()
		switch i.GetHealth().GetLevel() {
		case apiv1.HealthLevel_HEALTH_LEVEL_WARNING:
			r.Warning++
		case apiv1.HealthLevel_HEALTH_LEVEL_CRITICAL:
			r.Critical++
		}
	}
	for n := range rows {
		rows[n].Versions = releasesOf(living[n])
	}
	slices.SortFunc(rows, func(a, b serviceRow) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Service, b.Service))
	})
	return rows
}

func (p *program) servicesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "List services, with how many instances of each are up",
		Example: `  ops services
  ops services --project color-game --json | jq -r '.services[] | select(.up == 0) | .service'`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			instances, err := c.instances(ctx, p.projectName())
			if err != nil {
				return err
			}
			rows := summarize(instances)
			if p.json {
				return p.printJSON(map[string]any{"services": rows})
			}
			if len(rows) == 0 {
				p.noteEmptyFleet()
				return nil
			}
			var cells [][]string
			for _, r := range rows {
				cpu, rss := "", "" // not 0: nobody knows
				if r.measured {
					cpu, rss = fmt.Sprintf("%.2f", r.CPUCores), bytesText(r.RSSBytes)
				}
				cells = append(cells, []string{r.Project, r.Service, fmt.Sprint(r.Up), fmt.Sprint(r.Suspect), fmt.Sprint(r.Gone), troubles(r),
					cpu, fmt.Sprint(r.Goroutines), rss, releasesText(r.Versions, p.Now())})
			}
			return table(p.Stdout, []string{"PROJECT", "SERVICE", "UP", "SUSPECT", "GONE", "HEALTH", "CPU", "GOROUTINES", "RSS", "VERSIONS"}, cells)
		}),
	}
}

func (p *program) noteEmptyFleet() {
	where := ""
	if project := p.projectName(); project != "" {
		where = " in project " + project
	}
	p.note("nothing is out there yet%s: start a service with the agent in it, or list one with `ops serve --target`", where)
}

func (p *program) instancesCmd() *cobra.Command {
	gone := false
	cmd := &cobra.Command{
		Use:   "instances [SERVICE]",
		Short: "List instances, with how each is doing",
		Example: `  ops instances
  ops instances user-service --gone       also those that ended in the last day`,
		Args:              atMost(1),
		ValidArgsFunction: p.completeServices,
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			instances, err := c.instances(ctx, p.projectName())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				key, err := findService(instances, args[0], p.projectName())
				if err != nil {
					return err
				}
				instances = slices.DeleteFunc(instances, func(i *apiv1.Instance) bool { return keyOf(i) != key })
			}
			if !gone {
				instances = slices.DeleteFunc(instances, isGone)
			}
			if p.json {
				return p.printJSON(map[string]any{"instances": messages(instances)})
			}
			if len(instances) == 0 {
				p.noteEmptyFleet()
				return nil
			}
			var cells [][]string
			for _, i := range instances {
				h := i.GetHeartbeat()
				row := []string{i.GetId(), i.GetProject(), i.GetService(), i.GetAddress(), stateText(i, p.Now()), healthText(i.GetHealth(), p.Now()), ago(p.Now(), i.GetProcess().GetStartTime())}
				switch {
				case h == nil:
					row = append(row, "", "", "", "")
				case i.GetAgentless(): // from outside nothing else can be seen
					row = append(row, "", fmt.Sprint(h.GetGoroutines()), "", "")
				default:
					row = append(row, fmt.Sprintf("%.2f", h.GetCpuCores()), fmt.Sprint(h.GetGoroutines()), bytesText(h.GetLiveHeapBytes()), bytesText(h.GetRssBytes()))
				}
				cells = append(cells, append(row, versionText(i.GetBuild()), strings.TrimPrefix(i.GetBuild().GetGoVersion(), "go")))
			}
			return table(p.Stdout, []string{"ID", "PROJECT", "SERVICE", "ADDRESS", "STATE", "HEALTH", "AGE", "CPU", "GOROUTINES", "HEAP", "RSS", "VERSION", "GO"}, cells)
		}),
	}
	cmd.Flags().BoolVar(&gone, "gone", false, "also those that ended within the last day")
	return cmd
}

func isGone(i *apiv1.Instance) bool { return i.GetState() == apiv1.InstanceState_INSTANCE_STATE_GONE }

func isUp(i *apiv1.Instance) bool { return i.GetState() == apiv1.InstanceState_INSTANCE_STATE_UP }

func keyOf(i *apiv1.Instance) ops.ServiceKey {
	return ops.ServiceKey{Project: ops.ProjectName(i.GetProject()), Service: ops.ServiceName(i.GetService())}
}

// stateText is the state and, of who is not up, since when, why, and who says so.
func stateText(i *apiv1.Instance, now time.Time) string {
	s := word(i.GetState())
	if isUp(i) {
		return s
	}
	if since := i.GetStateSince(); since != nil {
		s += " for " + ago(now, since)
	}
	why := i.GetStateReason()
	switch says := i.GetStateSays(); {
	case says == "" || strings.Contains(why, says): // "no longer listed by etcd"
	case says == ops.SaysCentre || says == ops.SaysProcess:
		why += ", says the " + says
	default:
		why += ", says " + says
	}
	if why = strings.TrimPrefix(why, ", "); why != "" {
		s += " (" + clean(why) + ")"
	}
	return s
}

// findService returns the service of that name. Without a project, the name
// must be in one project only; projects where all of it is gone do not count as
// long as it lives somewhere.
func findService(instances []*apiv1.Instance, name, project string) (ops.ServiceKey, error) {
	var live, gone []ops.ServiceKey
	var names []string
	for _, i := range instances {
		if project != "" && i.GetProject() != project {
			continue
		}
		switch {
		case i.GetService() != name:
			names = append(names, i.GetService())
		case isGone(i):
			gone = append(gone, keyOf(i))
		default:
			live = append(live, keyOf(i))
		}
	}
	found := live
	if len(found) == 0 {
		found = gone
	}
	slices.SortFunc(found, func(a, b ops.ServiceKey) int { return cmp.Compare(a.Project, b.Project) })
	found = slices.Compact(found)
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		var projects, flags []string
		for _, k := range found {
			projects = append(projects, string(k.Project))
			flags = append(flags, "--project "+string(k.Project))
		}
		return ops.ServiceKey{}, ops.Errorf(ops.Invalid, "service %s exists in the projects %s: say which with %s", name, andList(projects), orList(flags))
	}
	where := ""
	if project != "" {
		where = " in project " + project
	}
	slices.Sort(names)
	if near := nearest(name, slices.Compact(names)); len(near) > 0 {
		return ops.ServiceKey{}, ops.Errorf(ops.NotFound, "no service %q%s: did you mean %s?", name, where, orList(near))
	}
	return ops.ServiceKey{}, ops.Errorf(ops.NotFound, "no service %q%s: see `ops services` for what is out there", name, where)
}

func andList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// findInstance returns the one instance of the service that name means: its id,
// the beginning of its id, or its address.
func findInstance(instances []*apiv1.Instance, key ops.ServiceKey, name string) (*apiv1.Instance, error) {
	var matches []*apiv1.Instance
	var living []string
	for _, i := range instances {
		if keyOf(i) != key {
			continue
		}
		if i.GetId() == name || i.GetAddress() == name {
			matches = []*apiv1.Instance{i}
			break
		}
		if strings.HasPrefix(i.GetId(), name) {
			matches = append(matches, i)
		}
		if !isGone(i) {
			living = append(living, i.GetId())
		}
	}
	alternatives := "see `ops instances " + string(key.Service) + "`"
	if len(living) > 0 && len(living) <= 3 {
		alternatives = "use " + orList(living)
	}
	switch {
	case len(matches) == 0:
		return nil, ops.Errorf(ops.NotFound, "%s has no instance %q: %s", key, name, alternatives)
	case len(matches) > 1:
		return nil, ops.Errorf(ops.Invalid, "%q could be %s of %s: write more of its id", name, count(len(matches), "instance", "instances"), key)
	case isGone(matches[0]):
		return nil, ops.Errorf(ops.NotFound, "instance %s of %s is gone (%s): %s", matches[0].GetId(), key, cmp.Or(matches[0].GetStateReason(), "no reason known"), alternatives)
	}
	return matches[0], nil
}

// completeServices offers the names of services to the shell.
func (p *program) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := p.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer c.close()
	instances, err := c.instances(cmd.Context(), p.projectName())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range summarize(instances) {
		names = append(names, r.Service)
	}
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
