package auth

// login is how an actor proved who they are, to ask again while a stream lasts.
type login struct {
	holder         Holder   // of a session, or owner of a token
	groups         []string // what the holder's provider said
	session, token string   // the hash of what was shown
}

// Holder is who the actor logged in as, or whose token they show; empty for
// others.
func (a Actor) Holder() Holder { return a.login.holder }
