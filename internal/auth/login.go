package auth

// login is how an actor proved who they are, to ask again while a stream lasts.
type login struct{ token, session string }
